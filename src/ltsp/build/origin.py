"""What a published image was made from, where that is another source than the one that is named now."""

from __future__ import annotations

from ltsp.publish.store import Store
from ltsp.publish.version import Version
from ltsp.source import spec
from ltsp.source.location import make_source_absolute


def other_origin(store: Store, name: str, argument: str) -> str:
    """What the image `name` was made from until now; empty where `argument` is the same, or that is not known."""
    state = store.state(name)
    published = state.image if isinstance(state.image, Version) else state.current
    if published is None or not (recorded := published.manifest.source.argument):
        return ""
    before = make_source_absolute(recorded, store.base_dir)
    return "" if spec.is_same(before, argument) else before
