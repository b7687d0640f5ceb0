"""The disk space of a build: estimated and printed before it, watched while the image is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.build.prepare import PreparedTree
from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.mksquashfs.options import Parameters
from ltsp.publish import disk_errors
from ltsp.publish.paths import ImagePaths
from ltsp.publish.store import Store
from ltsp.report import units
from ltsp.squashfs.estimate import estimate_size
from ltsp.tree.content import Content
from ltsp.tree.name import printable

WRITE_ACTION = "write the image of"
NOTHING_PUBLISHED = "nothing was published"
"""The action while the free space is watched, and its outcome if the space runs out, for messages."""
_MAX_RESERVE = 8 << 20
"""Bytes that a build leaves free for everything else on the disk; a hundredth of a small disk."""
_RESERVE_DIVISOR = 100


@dataclass(frozen=True, slots=True)
class SpaceEstimate:
    """About how many bytes a build will take."""

    image: int
    """In BASE_DIR."""
    minimum: int
    """In BASE_DIR, a lower bound."""
    boot: int
    """In TFTP_DIR, for the kernel and initrds, whose sizes are known."""


def estimate_space(prepared: PreparedTree, boot_files: Mapping[str, Content], parameters: Parameters) -> SpaceEstimate:
    """There is no lower bound if another codec, or what `-regex` leaves out, may make the image smaller."""
    boot = sum(file.size for file in boot_files.values())
    options = prepared.write_options
    may_be_smaller = prepared.codec != options.compression.name or "-regex" in parameters.unknown
    image_estimate = estimate_size(prepared.tree, options, may_be_smaller=may_be_smaller)
    return SpaceEstimate(image_estimate.size, image_estimate.minimum, boot)


def format_lines(estimate: SpaceEstimate, store: Store) -> Iterator[str]:
    for directory, size in ((store.base_dir, estimate.image), (store.tftp_dir, estimate.boot)):
        free = files.free_bytes(directory)
        needed, available = units.format_size(size), units.format_size(free)
        yield f"space     about {needed} needed in {printable(directory)}, {available} free"


def find_warnings(estimate: SpaceEstimate, store: Store) -> Iterator[str]:
    """If the image may not fit. If it certainly does not, the build is refused."""
    free = files.free_bytes(store.base_dir)
    if (
        estimate.minimum + _shared_boot_bytes(estimate, store)
        <= free
        < estimate.image + _shared_boot_bytes(estimate, store) + _reserved_bytes(store)
    ):
        yield (
            f"the image may not fit in {printable(store.base_dir)}: about {units.format_size(estimate.image)} needed, "
            f"{units.format_size(free)} free; the build stops before the disk is full, and changes nothing then"
        )


def find_shortages(estimate: SpaceEstimate, store: Store) -> Iterator[str]:
    """Why a build would be refused."""
    minimum = estimate.minimum + _shared_boot_bytes(estimate, store)
    for directory, size in ((store.base_dir, minimum), (store.tftp_dir, estimate.boot)):
        free = files.free_bytes(directory)
        if size > free:
            yield (
                f"a build would be refused: at least {units.format_size(size)} needed in {printable(directory)}, "
                f"{units.format_size(free)} free"
            )


def watch_free_space(
    advance: Callable[[int], None], paths: ImagePaths, estimate: SpaceEstimate, store: Store
) -> Callable[[int], None]:
    """Wrap `advance` so that the build stops before the disk is full. Raises what `disk_errors.no_space` returns."""
    reserve = _reserved_bytes(store) + _shared_boot_bytes(estimate, store)

    def step(count: int) -> None:
        advance(count)
        if files.free_bytes(store.base_dir) < reserve:
            raise disk_errors.no_space_error(WRITE_ACTION, paths, store.base_dir, NOTHING_PUBLISHED)

    return step


@contextmanager
def detect_full_disk(paths: ImagePaths, estimate: SpaceEstimate, store: Store) -> Iterator[None]:
    """Replace the error of another program by `no space` if the disk is full: the program may not say so."""
    try:
        yield
    except LtspError as error:
        if files.free_bytes(store.base_dir) < _reserved_bytes(store) + _shared_boot_bytes(estimate, store):
            raise disk_errors.no_space_error(WRITE_ACTION, paths, store.base_dir, NOTHING_PUBLISHED) from error
        raise


def _shared_boot_bytes(estimate: SpaceEstimate, store: Store) -> int:
    """Bytes of kernel and initrds, if they are on the same disk as the image."""
    return estimate.boot if files.are_on_same_file_system(store.base_dir, store.tftp_dir) else 0


def _reserved_bytes(store: Store) -> int:
    return min(_MAX_RESERVE, files.file_system_size(store.base_dir) // _RESERVE_DIVISOR)
