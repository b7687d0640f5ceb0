"""Hostile archives: seeds with a few bytes, fields or blocks changed, and how our reader handles each.

Run as a program, `python mutants.py SEED COUNT ARCHIVE...` puts a reader that may take 512 MiB and 5 s for each through
COUNT mutants, and writes how many were refused and read; the first that breaks the promise ends it with status 1.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from corpus import mutant_limits
from ltsp.archive.archive import ArchiveReader
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.storage.blocks import Blocks, read_pieces
from ltsp.tree.node import File

MOST_READ = 8 << 20
"""Bytes of each file that are read: the rest of a file of zeros is more zeros."""
BLOCK = 512

_FIELDS = ((0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
"""Place and size: name, mode, owner, group, size, time, type, target, magic, prefix."""
_NAMES = (b"..", b"/", b"a/../../b", b".wh..wh..opq", b".wh.a", b"./", b"\xff\0", b"a", b"a/b", b"link/x", b"")
_NUMBERS = (
    b"0",
    b"77777777777",
    b"-1",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\x80\0\0\0\0\0\0\0\0\0\x02\0",
    b" 12 ",
    b"8",
)
_WORDS = (
    b"size=",
    b"path=",
    b"GNU.sparse.map=",
    b"mtime=",
    b"SCHILY.xattr.",
    b"sha256:",
    b'"size": ',
    b'"layers"',
    b"{",
    b"]",
)


def mutant(seed: bytes, chance: random.Random) -> bytes:
    archive = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(_MUTATIONS)(archive, chance)
        if not archive:
            break
    if chance.random() < 0.9:
        _mend(archive)
    return bytes(archive)


def _mend(archive: bytearray) -> None:
    """Right checksums, so that more than the first damaged header is looked at."""
    for at in range(0, len(archive) - BLOCK + 1, BLOCK):
        if archive[at + 257 : at + 262] == b"ustar":
            archive[at + 148 : at + 156] = b" " * 8
            archive[at + 148 : at + 156] = b"%06o\0 " % sum(archive[at : at + BLOCK])


def _anywhere(archive: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(archive))


def _header(archive: bytearray, chance: random.Random) -> int:
    """Where a header lies, if there is one nearby."""
    start = _anywhere(archive, chance) // BLOCK * BLOCK
    found = archive.find(b"ustar", start)
    return found - 257 if found >= 257 else start


def _flip(archive: bytearray, chance: random.Random) -> None:
    archive[_anywhere(archive, chance)] ^= 1 << chance.randrange(8)


def _set(archive: bytearray, chance: random.Random) -> None:
    archive[_anywhere(archive, chance)] = chance.choice((0, 1, 0x2F, 0x2E, 0x30, 0x7F, 0x80, 0xFF, 0x0A, 0x20))


def _field(archive: bytearray, chance: random.Random) -> None:
    at = _header(archive, chance)
    offset, size = chance.choice(_FIELDS)
    value = chance.choice(_NAMES + _NUMBERS)[:size].ljust(size, chance.choice((b"\0", b" ", b"0")))
    piece = value[: max(0, len(archive) - at - offset)]
    archive[at + offset : at + offset + len(piece)] = piece


def _type(archive: bytearray, chance: random.Random) -> None:
    at = _header(archive, chance) + 156
    if at < len(archive):
        archive[at] = chance.choice(b"0123456757SxgLKDVMNAX\0z")


def _word(archive: bytearray, chance: random.Random) -> None:
    """What follows a word that means something."""
    at = archive.find(chance.choice(_WORDS), _anywhere(archive, chance))
    if at >= 0:
        piece = chance.choice((*_NUMBERS, *_NAMES, b"9" * 18 + b",", b"1,1,", b"\n", b"[" * 50, b"null"))
        at += chance.randrange(24)
        archive[at : at + len(piece)] = piece[: max(0, len(archive) - at)]


def _copy(archive: bytearray, chance: random.Random) -> None:
    """Blocks elsewhere: members twice, in other orders, in each other."""
    size = BLOCK * chance.choice((1, 1, 2, 3, 8))
    source, target = (_anywhere(archive, chance) // BLOCK * BLOCK for _ in range(2))
    piece = archive[source : source + size]
    if chance.random() < 0.5:
        archive[target:target] = piece
    else:
        archive[target : target + len(piece)] = piece


def _cut(archive: bytearray, chance: random.Random) -> None:
    del archive[_anywhere(archive, chance) :]


def _drop(archive: bytearray, chance: random.Random) -> None:
    at = _anywhere(archive, chance)
    if chance.random() < 0.7:
        at = at // BLOCK * BLOCK
    del archive[at : at + chance.choice((1, BLOCK, BLOCK, 2 * BLOCK))]


def _noise(archive: bytearray, chance: random.Random) -> None:
    at = _anywhere(archive, chance)
    size = min(chance.choice((4, 16, 256)), len(archive) - at)
    archive[at : at + size] = chance.randbytes(size)


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _set, _field, _field, _field, _type, _word, _word, _copy, _copy, _cut, _drop, _noise,
)  # fmt: skip


class Held:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, place: int, size: int) -> bytes:
        return self.data[place : place + size]


def fate(data: bytes, *, piped: bool = False) -> str:
    """The result of everything that a build does with an archive; any other error breaks the promise."""
    stored: Blocks = Held(data)
    with ArchiveReader("/var/tmp") as reader:
        try:
            tree = reader.read_stream(read_pieces(stored)) if piped else reader.read_file(stored)
        except (FormatError, SourceError) as error:
            return "refused" if _check_error_message(error) else ""
        for path, node in tree.walk():
            assert path
            assert not {"", ".", ".."} & set(path.split("/"))
            if isinstance(node, File):
                _read(node)
    return "read"


def _read(file: File) -> None:
    with file.content.open() as stream:
        left = min(stream.size, MOST_READ)
        while left:
            hole = min(stream.hole_size(), left)
            stream.skip(hole)
            left -= hole
            got = len(stream.read(min(left, 1 << 20)))
            assert got or not left
            left -= got


def _check_error_message(error: LtspError) -> bool:
    """The message is one line that says what is wrong."""
    assert error.message
    assert error.message.isprintable()
    assert len(error.message) < 12_000
    return True


def _save_mutant(seed: int, number: int, data: bytes) -> str:
    Path(f"mutant-{seed}-{number}").write_bytes(data)
    return f"mutant {number} of seed {seed}, {len(data)} bytes"


def fates(seed: int, count: int, archives: list[bytes]) -> Counter[str]:
    """Results of mutants that depend only on the seed. Names the one that breaks the promise."""
    found: Counter[str] = Counter()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        data = mutant(chance.choice(archives), chance)
        with mutant_limits.in_time(partial(_save_mutant, seed, number, data)):
            found[fate(data, piped=chance.random() < 0.3)] += 1
    return found


def main() -> None:
    seed, count, *paths = sys.argv[1:]
    archives = [Path(path).read_bytes() for path in paths]
    for archive in archives:
        assert fate(archive) == fate(archive, piped=True) == "read"
    mutant_limits.limit()
    json.dump(fates(int(seed), int(count), archives), sys.stdout)


if __name__ == "__main__":
    main()
