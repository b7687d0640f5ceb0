"""Hostile images: seeds with a few bytes, numbers or blocks changed, and how our reader handles each.

Run as a program, `python mutants.py SEED COUNT IMAGE...` puts a reader that may take 512 MiB and 5 s for each through
COUNT mutants, and writes how many were refused and read; the first that breaks the promise ends it with status 1.
"""

from __future__ import annotations

import io
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from corpus import mutant_limits
from ltsp.errors import FormatError
from ltsp.squashfs.format import METADATA_SIZE
from ltsp.squashfs.reader import Image
from ltsp.squashfs.verify import check_image
from ltsp.tree.node import File

MOST_READ = 8 << 20
"""Bytes of each file that are read: the rest of a file of zeros is more zeros."""

_TELLING = (0, 1, 2, 3, 7, 8, *(2**bits + more for bits in (7, 8, 13, 15, 16, 24, 31, 32, 63, 64) for more in (-1, 0)))


def mutant(seed: bytes, chance: random.Random) -> bytes:
    image = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(_MUTATIONS)(image, chance)
        if not image:
            break
    return bytes(image)


def _anywhere(image: bytearray, chance: random.Random) -> int:
    """Tables, which are a small part of an image, as often as the rest, and the superblock too."""
    used = int.from_bytes(image[40:48], "little")
    tables = int.from_bytes(image[64:72], "little")
    start, end = chance.choice(((0, 96), (tables, used), (tables, used), (0, len(image))))
    if not start < end <= len(image):
        start, end = 0, len(image)
    return chance.randrange(start, end)


def _flip(image: bytearray, chance: random.Random) -> None:
    image[_anywhere(image, chance)] ^= 1 << chance.randrange(8)


def _set(image: bytearray, chance: random.Random) -> None:
    image[_anywhere(image, chance)] = chance.choice((0, 1, 0x2F, 0x2E, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _number(image: bytearray, chance: random.Random) -> None:
    width = chance.choice((2, 4, 8))
    at = _anywhere(image, chance) // 2 * 2
    value = chance.choice((*_TELLING, chance.randrange(len(image) + 1))) % (1 << 8 * width)
    piece = value.to_bytes(width, "little")[: len(image) - at]
    image[at : at + len(piece)] = piece


def _nudge(image: bytearray, chance: random.Random) -> None:
    """An almost correct number."""
    at = _anywhere(image, chance) // 2 * 2
    value = int.from_bytes(image[at : at + 2], "little") + chance.randint(-16, 16)
    piece = (value % (1 << 16)).to_bytes(2, "little")[: len(image) - at]
    image[at : at + len(piece)] = piece


def _copy(image: bytearray, chance: random.Random) -> None:
    size = chance.choice((4, 8, 16, 32, 64, 512, METADATA_SIZE))
    source, target = _anywhere(image, chance), _anywhere(image, chance)
    piece = image[source : source + size][: len(image) - target]
    image[target : target + len(piece)] = piece


def _cut(image: bytearray, chance: random.Random) -> None:
    del image[_anywhere(image, chance) :]


def _drop(image: bytearray, chance: random.Random) -> None:
    at = _anywhere(image, chance)
    del image[at : at + chance.choice((1, 2, 4, 96))]


def _noise(image: bytearray, chance: random.Random) -> None:
    at = _anywhere(image, chance)
    size = min(chance.choice((4, 16, 256)), len(image) - at)
    image[at : at + size] = chance.randbytes(size)


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _set, _number, _number, _nudge, _nudge, _copy, _cut, _drop, _noise,
)  # fmt: skip


def fate(data: bytes) -> str:
    """The result of everything that a build does with an image; any other error breaks the promise."""
    refused = False
    try:
        check_image(io.BytesIO(data))
    except FormatError as error:
        refused = _check_error_message(error)
    try:
        tree = Image.open(io.BytesIO(data)).tree()
    except FormatError as error:
        return "refused" if _check_error_message(error) else ""
    damaged = False
    for path, node in tree.walk():
        assert path
        if isinstance(node, File):
            damaged |= not _readable(node)
    return "read in part" if damaged else "read against the check" if refused else "read"


def _readable(file: File) -> bool:
    try:
        with file.content.open() as stream:
            left = min(stream.size, MOST_READ)
            while left:
                hole = min(stream.hole_size(), left)
                stream.skip(hole)
                left -= hole
                left -= len(stream.read(min(left, 1 << 20)))
    except FormatError as error:
        return not _check_error_message(error)
    return True


def _check_error_message(error: FormatError) -> bool:
    """The message is one line that names the kind of damage and the place."""
    assert error.message
    assert error.message.isprintable()
    return True


def _save_mutant(seed: int, number: int, data: bytes) -> str:
    Path(f"mutant-{seed}-{number}").write_bytes(data)
    return f"mutant {number} of seed {seed}, {len(data)} bytes"


def fates(seed: int, count: int, images: list[bytes]) -> Counter[str]:
    """Results of mutants that depend only on the seed. Names the one that breaks the promise."""
    found: Counter[str] = Counter()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        data = mutant(chance.choice(images), chance)
        with mutant_limits.in_time(partial(_save_mutant, seed, number, data)):
            found[fate(data)] += 1
    return found


def main() -> None:
    seed, count, *paths = sys.argv[1:]
    images = [Path(path).read_bytes() for path in paths]
    for image in images:
        assert fate(image) == "read"
    mutant_limits.limit()
    json.dump(fates(int(seed), int(count), images), sys.stdout)


if __name__ == "__main__":
    main()
