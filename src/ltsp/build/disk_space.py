"""The disk space of a build: estimated and printed before it, watched while the image is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.build.prepare import Prepared
from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish import disk_errors
from ltsp.publish.paths import ImagePaths
from ltsp.publish.store import Store
from ltsp.report import units
from ltsp.squashfs.estimate import estimate_size
from ltsp.tree.content import Content
from ltsp.tree.name import printable

WRITING = "write the image of"
NOTHING_PUBLISHED = "nothing was published"
"""The action while the free space is watched, and its outcome if the space runs out, for messages."""
_RESERVE = 8 << 20
"""Bytes that a build leaves free for everything else on the disk; a hundredth of a small disk."""
_RESERVED_PART = 100


@dataclass(frozen=True, slots=True)
class SpaceEstimate:
    """About how many bytes a build will take."""

    image: int
    """In BASE_DIR."""
    least: int
    """In BASE_DIR, a lower bound."""
    boot: int
    """In TFTP_DIR, for the kernel and initrds, whose sizes are known."""


def estimate_space(prepared: Prepared, boot_files: Mapping[str, Content], *, exact: bool) -> SpaceEstimate:
    """`exact`: our writer writes all of the tree, so that there is a lower bound."""
    boot = sum(file.size for file in boot_files.values())
    guess = estimate_size(prepared.tree, prepared.write_options, other_codec=not exact)
    return SpaceEstimate(guess.size, guess.least, boot)


def lines(needed: SpaceEstimate, store: Store) -> Iterator[str]:
    for directory, needs in ((store.base_dir, needed.image), (store.tftp_dir, needed.boot)):
        free = files.free_bytes(directory)
        yield f"space     about {units.size(needs)} needed in {printable(directory)}, {units.size(free)} free"


def warnings(needed: SpaceEstimate, store: Store) -> Iterator[str]:
    """If the image may not fit. If it certainly does not, the build is refused."""
    free = files.free_bytes(store.base_dir)
    if (
        needed.least + _shared_boot_bytes(needed, store)
        <= free
        < needed.image + _shared_boot_bytes(needed, store) + _reserved_bytes(store)
    ):
        yield (
            f"the image may not fit in {printable(store.base_dir)}: about {units.size(needed.image)} needed, "
            f"{units.size(free)} free; the build stops before the disk is full, and changes nothing then"
        )


def shortages(needed: SpaceEstimate, store: Store) -> Iterator[str]:
    """Why a build would be refused."""
    least = needed.least + _shared_boot_bytes(needed, store)
    for directory, needs in ((store.base_dir, least), (store.tftp_dir, needed.boot)):
        free = files.free_bytes(directory)
        if needs > free:
            yield (
                f"a build would be refused: at least {units.size(needs)} needed in {printable(directory)}, "
                f"{units.size(free)} free"
            )


def watch(
    advance: Callable[[int], None], places: ImagePaths, needed: SpaceEstimate, store: Store
) -> Callable[[int], None]:
    """Wrap `advance` so that the build stops before the disk is full. Raises what `disk_errors.no_space` returns."""
    reserve = _reserved_bytes(store) + _shared_boot_bytes(needed, store)

    def step(count: int) -> None:
        advance(count)
        if files.free_bytes(store.base_dir) < reserve:
            raise disk_errors.no_space(WRITING, places, store.base_dir, NOTHING_PUBLISHED)

    return step


@contextmanager
def blame_full_disk(places: ImagePaths, needed: SpaceEstimate, store: Store) -> Iterator[None]:
    """Replace the error of another program by `no space` if the disk is full: the program may not say so."""
    try:
        yield
    except LtspError as error:
        if files.free_bytes(store.base_dir) < _reserved_bytes(store) + _shared_boot_bytes(needed, store):
            raise disk_errors.no_space(WRITING, places, store.base_dir, NOTHING_PUBLISHED) from error
        raise


def _shared_boot_bytes(needed: SpaceEstimate, store: Store) -> int:
    """Bytes of kernel and initrds, if they are on the same disk as the image."""
    return needed.boot if files.on_same_disk(store.base_dir, store.tftp_dir) else 0


def _reserved_bytes(store: Store) -> int:
    return min(_RESERVE, files.disk_bytes(store.base_dir) // _RESERVED_PART)
