"""The ID of a version: when it was created, and the first digits of its image's sha256.

`20260131T174512Z-1a2b3c4d` sorts by time as text, is unique within its image, and needs quoting nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

_FORM = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_STAMP = "%Y%m%dT%H%M%SZ"


def is_version_id(name: str) -> bool:
    if not _FORM.fullmatch(name):
        return False
    try:
        parse_time(name)
    except ValueError:
        return False
    return True


def new_version_id(now: datetime, sha256: str, existing: Iterable[str]) -> str:
    """A name that sorts after all existing ones, even if the clock went back or two are created in one second."""
    moment = max([now, *(parse_time(version) + timedelta(seconds=1) for version in existing)])
    return f"{moment.astimezone(UTC).strftime(_STAMP)}-{sha256[:8]}"


def parse_time(version: str) -> datetime:
    """When the version was created, to the second."""
    return datetime.strptime(version.partition("-")[0], _STAMP).replace(tzinfo=UTC)
