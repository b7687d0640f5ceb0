"""Hostile file systems: seeds with a few bytes, numbers or blocks changed, and how our readers handle each.

Run as a program, `python damaged.py SEED COUNT CHECKS KIND:IMAGE...` puts a reader that may take 512 MiB and 5 s for
each through COUNT mutants, and writes how many were refused and read; the first that breaks the promise ends it with
status 1. With CHECKS 0 every checksum is taken for right, so that damage gets behind them.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from corpus import mutant_limits
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.btrfs import superblock as btrfs_superblock
from ltsp.filesystem.btrfs import volume as btrfs
from ltsp.filesystem.btrfs.content import ExtentDataReader
from ltsp.filesystem.ext import journal
from ltsp.filesystem.ext import volume as ext
from ltsp.filesystem.iso import volume as iso
from ltsp.filesystem.vfat import volume as vfat
from ltsp.filesystem.xfs import volume as xfs
from ltsp.storage import checksum, lzo
from ltsp.tree.node import File

MOST_READ = 1 << 20
"""Bytes of each file that are read."""
MOST_READ_IN_ALL = 32 << 20

READERS = {"ext": ext, "xfs": xfs, "btrfs": btrfs, "iso": iso, "vfat": vfat}
_TELLING = (0, 1, 2, 3, 7, 8, *(2**bits + more for bits in (7, 8, 15, 16, 24, 31, 32, 63, 64) for more in (-1, 0)))
_NAMES = (b"..", b".", b"a/b", b"\0", b"/")


@dataclass
class Seed:
    kind: str
    path: str
    size: int = 0
    metadata: list[tuple[int, int]] = field(default_factory=list)
    """Where its reader looks for the tree: places and sizes."""
    contents: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file = os.open(self.path, os.O_RDONLY)
        self.size = os.fstat(self.file).st_size
        volume = _Watched(self, self.metadata)
        tree = READERS[self.kind].open(volume).tree()
        volume.seen = self.contents
        assert _contents(tree) == "read"

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self.file, size, offset)


@dataclass
class _Watched:
    seed: Seed
    seen: list[tuple[int, int]]

    @property
    def size(self) -> int:
        return self.seed.size

    def read_at(self, offset: int, size: int) -> bytes:
        self.seen.append((offset, size))
        return self.seed.read_at(offset, size)


@dataclass
class Mutant:
    """A seed with some places changed, and possibly truncated."""

    seed: Seed
    size: int
    pieces: list[tuple[int, bytes]] = field(default_factory=list)

    def read_at(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        data = self.seed.read_at(offset, size)
        for at, piece in self.pieces:
            if at < offset + size and offset < at + len(piece):
                first = max(at, offset)
                last = min(at + len(piece), offset + size)
                data = data[: first - offset] + piece[first - at : last - at] + data[last - offset :]
        return data

    def put(self, at: int, piece: bytes) -> None:
        self.pieces.append((at, piece))


def mutant(seed: Seed, chance: random.Random) -> Mutant:
    made = Mutant(seed, seed.size)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(_MUTATIONS)(made, chance)
    return made


def _anywhere(made: Mutant, chance: random.Random) -> int:
    """Where the reader looks, and rather not amid zeros."""
    seed = made.seed
    at = 0
    for _ in range(6):
        start, size = chance.choice(seed.contents if seed.contents and chance.random() < 0.1 else seed.metadata)
        at = start + chance.randrange(max(1, size))
        if any(seed.read_at(at, 8)):
            break
    return min(at, made.size - 1)


def _flip(made: Mutant, chance: random.Random) -> None:
    at = _anywhere(made, chance)
    made.put(at, bytes([made.read_at(at, 1)[0] ^ 1 << chance.randrange(8)]))


def _set(made: Mutant, chance: random.Random) -> None:
    made.put(
        _anywhere(made, chance), bytes([chance.choice((0, 1, 0x2F, 0x2E, 0x7F, 0x80, 0xFF, chance.randrange(256)))])
    )


def _number(made: Mutant, chance: random.Random) -> None:
    width = chance.choice((2, 4, 8))
    value = chance.choice((*_TELLING, chance.randrange(made.size), chance.randrange(5000))) % (1 << 8 * width)
    made.put(_anywhere(made, chance) // 2 * 2, value.to_bytes(width, chance.choice(("little", "big"))))


def _nudge(made: Mutant, chance: random.Random) -> None:
    """An almost correct number."""
    at = _anywhere(made, chance) // 2 * 2
    order = chance.choice(("little", "big"))
    value = int.from_bytes(made.read_at(at, 2), order) + chance.randint(-16, 16)
    made.put(at, (value % (1 << 16)).to_bytes(2, order))


def _copy(made: Mutant, chance: random.Random) -> None:
    size = chance.choice((4, 8, 16, 32, 128, 256, 1024, 4096))
    source, target = _anywhere(made, chance), _anywhere(made, chance)
    if chance.random() < 0.7:  # records lie on borders
        source, target = source // size * size, target // size * size
    made.put(target, made.read_at(source, size))


def _cut(made: Mutant, chance: random.Random) -> None:
    if chance.random() < 0.3:
        made.size = max(1, _anywhere(made, chance))


def _noise(made: Mutant, chance: random.Random) -> None:
    made.put(_anywhere(made, chance), chance.randbytes(chance.choice((4, 16, 256))))


def _name(made: Mutant, chance: random.Random) -> None:
    made.put(_anywhere(made, chance), chance.choice(_NAMES))


_MUTATIONS: tuple[Callable[[Mutant, random.Random], None], ...] = (
    _flip, _set, _number, _number, _number, _nudge, _nudge, _copy, _cut, _noise, _name,
)  # fmt: skip


def fate(made: Mutant) -> str:
    """What becomes of a file system when all is done with it that a build does; anything else that is raised breaks
    the promise.
    """
    try:
        system = READERS[made.seed.kind].open(made)
        if isinstance(system, btrfs.Btrfs):
            system.subvolumes()
        tree = system.tree()
    except (FormatError, SourceError) as error:
        return "refused" if _check_error_message(error) else ""
    return _contents(tree)


def _contents(tree) -> str:
    whole = True
    budget = MOST_READ_IN_ALL
    for path, node in tree.walk():
        assert path
        if isinstance(node, File) and budget > 0:
            passed, sound = _read(node, budget)
            budget -= passed
            whole &= sound
    return "read" if whole else "read in part"


def _read(file: File, budget: int) -> tuple[int, bool]:
    passed = 0
    try:
        with file.content.open() as stream:
            left = min(stream.size, MOST_READ, budget)
            while left:
                hole = min(stream.hole_size(), left)
                stream.skip(hole)
                left -= hole
                piece = stream.read(min(left, 1 << 18))
                assert bool(piece) == bool(left)
                passed += len(piece)
                left -= len(piece)
    except (FormatError, SourceError) as error:
        return passed, not _check_error_message(error)
    return passed, True


def _check_error_message(error: LtspError) -> bool:
    """The message is one line."""
    assert error.message
    assert error.message.isprintable()
    return True


def trust_checksums() -> None:
    """And do without the library that would unpack lzo."""
    lzo.load_native = lambda: None
    checksum.matches_xfs = lambda _data, _at: True
    checksum.matches_ext4 = lambda *_data, **_bits: True
    journal._Journal._check_log_block = lambda _self, _data, _kind: None
    journal._Journal._check_data_block = lambda _self, _place, _transaction, _sum: None
    for kind in btrfs_superblock._CHECKSUM_TYPES:
        btrfs_superblock._CHECKSUM_TYPES[kind] = lambda _data: b""
    ExtentDataReader._read_checksums = lambda _self, _tree, _start, _end: b""
    ExtentDataReader._read_verified = lambda self, address, size, _expected: self._read_raw(
        self.node_reader.chunks.locate_copies(address, size)[0], size
    )


def _save_mutant(number: int, index: int, made: Mutant) -> str:
    pieces = [(at, piece.hex()) for at, piece in made.pieces]
    Path(f"mutant-{number}-{index}").write_text(json.dumps([made.seed.path, made.size, pieces]))
    return f"mutant {index} of seed {number} of {made.seed.path}"


def fates(number: int, count: int, seeds: list[Seed]) -> Counter[str]:
    """Results of mutants that depend only on the number. Names the one that breaks the promise."""
    found: Counter[str] = Counter()
    for index in range(count):
        chance = random.Random(f"{number} {index}")
        made = mutant(chance.choice(seeds), chance)
        with mutant_limits.in_time(partial(_save_mutant, number, index, made)):
            found[f"{made.seed.kind} {fate(made)}"] += 1
    return found


def main() -> None:
    number, count, checks, *images = sys.argv[1:]
    seeds = [Seed(*image.split(":", 1)) for image in images]
    if checks == "0":
        trust_checksums()
    mutant_limits.limit()
    json.dump(fates(int(number), int(count), seeds), sys.stdout)


if __name__ == "__main__":
    main()
