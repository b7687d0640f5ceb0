"""The recorded source of a published image, if it differs from the source given now."""

from __future__ import annotations

from ltsp.publish.store import Store
from ltsp.publish.version import Version
from ltsp.source import spec
from ltsp.source.location import make_source_absolute


def other_origin(store: Store, name: str, argument: str) -> str:
    """The recorded source of the image `name`; empty if it is the same as `argument` or unknown."""
    state = store.state(name)
    published = state.image if isinstance(state.image, Version) else state.current
    if published is None or not (recorded := published.manifest.source.argument):
        return ""
    before = make_source_absolute(recorded, store.base_dir)
    return "" if spec.is_same(before, argument) else before
