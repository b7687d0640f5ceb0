"""Hostile disks: seeds with a few bytes, numbers or sectors changed, and how our readers handle each.

Run as a program, `python mutants.py SEED COUNT DIRECTORY...` puts readers that may take 512 MiB and 5 s for each
through COUNT mutants, and writes how many were refused and read; the first that breaks the promise ends it with
status 1.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from corpus import mutant_limits
from disk.fix_checksums import fix_checksums
from ltsp.disk.image import Disk, open_disk
from ltsp.disk.probe import describe_kind
from ltsp.disk.volumes import Volumes
from ltsp.errors import LtspError, SourceError
from ltsp.tree.name import printable

MOST_READ = 4 << 20
"""Bytes of each volume that are read at both of its ends."""
_KEY = bytes(range(64))
"""Opens every encrypted volume; what comes out is noise."""

_TELLING = (
    0,
    1,
    2,
    3,
    7,
    8,
    *(2**bits + more for bits in (7, 8, 9, 12, 15, 16, 20, 24, 31, 32, 62, 63, 64) for more in (-1, 0)),
)


@dataclass(frozen=True)
class Seed:
    files: dict[str, bytes]
    sectors: dict[str, list[int]]
    """Numbers of those in each file that are not zero, and of the next ones: most of them are headers and tables."""

    @classmethod
    def read(cls, directory: Path) -> Seed:
        files = {path.name: path.read_bytes() for path in directory.iterdir()}
        return cls(files, {name: _telling_sectors(data) for name, data in files.items()})


def _telling_sectors(data: bytes) -> list[int]:
    full = {at // 512 for at in range(0, len(data), 512) if data[at : at + 512].strip(b"\0")}
    # Long runs are content, of which the first sectors are enough.
    heads = {each for each in full if not {each - 1, each - 2, each - 3, each - 4} <= full}
    return sorted(heads | {each + 1 for each in heads} | {0, max(len(data) // 512 - 1, 0)})


def mutant(seed: Seed, chance: random.Random) -> dict[str, bytes]:
    name = chance.choice(sorted(seed.files))
    disk = bytearray(seed.files[name])
    for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
        if not disk:
            break
        chance.choice(_MUTATIONS)(disk, seed.sectors[name], chance)
    if chance.randrange(4):
        fix_checksums(disk)
    return {**seed.files, name: bytes(disk)}


def _anywhere(disk: bytearray, sectors: list[int], chance: random.Random) -> int:
    # The first and the last ones are hardly ever content.
    sector = chance.choice(chance.choice((sectors, sectors[:6], sectors[-3:]))) * 512
    full = [at for at, byte in enumerate(disk[sector : sector + 512]) if byte]
    if full and chance.randrange(4):
        return min(sector + chance.choice(full) + chance.choice((0, 0, 0, 1, 4, 8)), len(disk) - 1)
    at = sector + chance.randrange(512)
    return at if at < len(disk) and chance.randrange(16) else chance.randrange(len(disk))


Sectors = list[int]


def _flip(disk: bytearray, sectors: Sectors, chance: random.Random) -> None:
    disk[_anywhere(disk, sectors, chance)] ^= 1 << chance.randrange(8)


def _set(disk: bytearray, sectors: Sectors, chance: random.Random) -> None:
    disk[_anywhere(disk, sectors, chance)] = chance.choice((0, 1, 0x22, 0x7B, 0x7D, 0x80, 0xFF, chance.randrange(256)))


def _number(disk: bytearray, sectors: Sectors, chance: random.Random) -> None:
    width = chance.choice((2, 4, 8))
    at = _anywhere(disk, sectors, chance) // width * width
    value = chance.choice((*_TELLING, chance.randrange(len(disk) + 1))) % (1 << 8 * width)
    piece = value.to_bytes(width, chance.choice(("little", "big")))[: len(disk) - at]
    disk[at : at + len(piece)] = piece


def _nudge(disk: bytearray, sectors: Sectors, chance: random.Random) -> None:
    """An almost correct number."""
    at = _anywhere(disk, sectors, chance)
    disk[at] = (disk[at] + chance.randint(-16, 16)) % 256


def _copy(disk: bytearray, sectors: Sectors, chance: random.Random) -> None:
    size = chance.choice((4, 8, 16, 64, 512, 4096))
    source, target = _anywhere(disk, sectors, chance), _anywhere(disk, sectors, chance)
    piece = disk[source : source + size][: len(disk) - target]
    disk[target : target + len(piece)] = piece


def _cut(disk: bytearray, sectors: Sectors, chance: random.Random) -> None:
    if not chance.randrange(3):
        del disk[_anywhere(disk, sectors, chance) :]


def _noise(disk: bytearray, sectors: Sectors, chance: random.Random) -> None:
    at = _anywhere(disk, sectors, chance)
    size = min(chance.choice((4, 16, 256)), len(disk) - at)
    disk[at : at + size] = chance.randbytes(size)


_MUTATIONS: tuple[Callable[[bytearray, Sectors, random.Random], None], ...] = (
    _flip, _set, _number, _number, _number, _nudge, _nudge, _copy, _cut, _noise,
)  # fmt: skip


def fate(files: dict[str, bytes]) -> str:
    """The result of everything that a source does with disks; any other error breaks the promise."""

    def sibling(name: str) -> BinaryIO:
        if name not in files:
            raise SourceError(f"there is no {printable(name)}")
        return io.BytesIO(files[name])

    with scratch() as make:
        try:
            disks = [
                open_disk(io.BytesIO(files[name]), open_sibling=sibling, make_scratch=make)
                for name in ("disk", "disk1")
                if name in files
            ]
            found = Volumes.of(disks, lambda _header: _KEY)
        except LtspError as error:
            return _check_error_message(error)
        assert all(text.isprintable() for text in found.warnings)
        return _read(disks, found)


@contextmanager
def scratch() -> Iterator[Callable[[], BinaryIO]]:
    """Makes files in memory, which are closed at the end."""
    with ExitStack() as files:
        yield lambda: files.enter_context(os.fdopen(os.memfd_create("scratch"), "w+b"))


def _read(disks: list[Disk], found: Volumes) -> str:
    outcome = "read"
    for volume in found.volumes:
        assert describe_kind(volume.kind).isprintable()
        assert volume.fault.isprintable()
        if volume.fault:
            outcome = "read in part"
    for blocks in [*(disk.blocks for disk in disks), *(each.blocks for each in found.volumes if not each.fault)]:
        try:
            for start in {0, max(blocks.size - MOST_READ, 0)}:
                size = min(blocks.size - start, MOST_READ)
                for at in range(start, start + size, 1 << 20):
                    wanted = min(1 << 20, start + size - at)
                    assert len(blocks.read_at(at, wanted)) == wanted
        except LtspError as error:
            _check_error_message(error)
            outcome = "read in part"
    return outcome


def _check_error_message(error: LtspError) -> str:
    """The message is one line that names the kind of damage and the place."""
    assert error.message
    assert error.message.isprintable(), error.message
    return "refused"


def _save_mutant(seed: int, number: int, files: Mapping[str, bytes]) -> str:
    for name, data in files.items():
        Path(f"mutant-{seed}-{number}-{name}").write_bytes(data)
    return f"mutant {number} of seed {seed}"


def fates(seed: int, count: int, seeds: list[Seed]) -> Counter[str]:
    """Results of mutants that depend only on the seed. Names the one that breaks the promise."""
    found: Counter[str] = Counter()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        files = mutant(chance.choice(seeds), chance)
        with mutant_limits.in_time(partial(_save_mutant, seed, number, files)):
            found[fate(files)] += 1
    return found


def main() -> None:
    seed, count, *directories = sys.argv[1:]
    seeds = [Seed.read(Path(directory)) for directory in directories]
    for each in seeds:
        assert fate(each.files) == "read", sorted(each.files)
    mutant_limits.limit()
    json.dump(fates(int(seed), int(count), seeds), sys.stdout)


if __name__ == "__main__":
    main()
