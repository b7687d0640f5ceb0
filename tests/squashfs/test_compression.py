from __future__ import annotations

import contextlib
import importlib
import random
import subprocess

import pytest

from corpus.tree_strategies import noise, text
from ltsp.errors import FormatError, LtspError, UsageError
from ltsp.squashfs.compression import PRESETS, WRITABLE, Compression
from ltsp.squashfs.superblock import CompressorId
from squashfs.write_helpers import tree, write_image

EVERY = [
    *(Compression("gzip", level) for level in (1, 6, 9, 10, 12)),
    *(Compression("zstd", level) for level in (1, 9, 15, 22)),
    *(Compression("xz", level) for level in (0, 6, 9)),
    Compression("lz4"),
    Compression("lz4", high_compression=True),
    Compression("none"),
]
BLOCK = 131072


@pytest.mark.parametrize("compression", EVERY, ids=str)
@pytest.mark.parametrize("data", [b"a", text(8192), text(BLOCK), noise(BLOCK), bytes(1 << 20)], ids=len)
def test_what_is_compressed_comes_back(compression, data):
    codec = compression.codec(1 << 20)
    packed = bytes(codec.compress(data))
    assert codec.decompress(packed, len(data)) == data
    assert codec.decompress(packed, 1 << 20) == data
    assert bytes(codec.compress(data)) == packed


@pytest.mark.parametrize("compression", EVERY, ids=str)
def test_nothing_decompresses_to_more_than_is_allowed(compression):
    codec = compression.codec(1 << 20)
    packed = bytes(codec.compress(text(BLOCK)))
    with pytest.raises(FormatError):
        codec.decompress(packed, BLOCK // 2)


@pytest.mark.parametrize("compression", [one for one in EVERY if one.name != "none"], ids=str)
def test_damage_is_a_format_error_or_another_content_but_never_another_error(compression):
    codec = compression.codec(BLOCK)
    chance = random.Random(3)
    packed = bytes(codec.compress(text(4000)))
    for _ in range(200):
        broken = bytearray(packed[: chance.randint(0, len(packed))])
        for _ in range(chance.randint(0, 4)):
            if broken:
                broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        with contextlib.suppress(FormatError):
            assert len(codec.decompress(bytes(broken), BLOCK)) <= BLOCK


@pytest.mark.parametrize("compression", EVERY, ids=str)
def test_the_record_in_the_superblock_says_what_it_can(compression):
    known = Compression.parse(compression.compressor, compression.options())
    if compression.name in {"none", "xz"}:
        assert known.name in {"gzip", "xz"}
    elif compression.name == "gzip" and compression.level > 9:
        assert known == Compression("gzip", 9)  # unsquashfs takes no other
    else:
        assert known == compression


@pytest.mark.parametrize(
    ("compressor", "options"),
    [
        (CompressorId.GZIP, b"\x09"),
        (CompressorId.GZIP, b"\xff" * 8),
        (CompressorId.ZSTD, b"\xff\xff\xff\x7f"),
        (CompressorId.LZ4, b""),
        (CompressorId.LZ4, b"\x02\0\0\0\0\0\0\0"),
    ],
)
def test_a_damaged_record_is_a_format_error(compressor, options):
    with pytest.raises(FormatError, match=r"lz4|options of"):
        Compression.parse(compressor, options)


@pytest.mark.oracle
@pytest.mark.parametrize("compression", EVERY, ids=str)
def test_unsquashfs_takes_the_record(tmp_path, compression):
    image = tmp_path / "image"
    write_image(tree(a=text(9000)), image, compression=compression)
    done = subprocess.run(["unsquashfs", "-s", image], capture_output=True, text=True, check=True)
    assert "error" not in (done.stdout + done.stderr).lower()
    if compression.name in {"gzip", "zstd"} and compression.options():
        assert f"compression-level {compression.level}" in done.stdout
    if compression.high_compression:
        assert "High Compression" in done.stdout


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", WRITABLE)
def test_every_codec_has_every_preset(name, preset):
    compression = Compression.preset(name, preset)
    assert compression.name == name
    compression.codec(BLOCK)


def test_presets_are_those_that_the_manual_names():
    assert Compression.preset("zstd", "fast").level == 3
    assert Compression.preset("gzip", "fast").level == 4
    assert Compression("zstd") == Compression.preset("zstd", "balanced") == Compression("zstd", 9)
    assert Compression("gzip") == Compression("gzip", 6)
    assert Compression.preset("zstd", "small").level == 19
    assert Compression.preset("gzip", "small").level == 12
    assert str(Compression.preset("lz4", "small")) == "lz4 high"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bzip2",), "unknown compressor 'bzip2'"),
        (("gzip", 13), "gzip has no compression level 13"),
        (("gzip", 0), "gzip has no compression level 0"),
        (("zstd", 23), "zstd has no compression level 23"),
        (("lz4", 1), "lz4 has no compression level 1"),
        (("gzip", 6, True), "gzip has no high compression mode"),
    ],
)
def test_what_a_codec_cannot_do_is_a_usage_error(arguments, message):
    with pytest.raises(UsageError, match=message):
        Compression(*arguments)
    with pytest.raises(UsageError, match="unknown preset 'huge'"):
        Compression.preset("gzip", "huge")


@pytest.mark.parametrize(("name", "package"), [("lz4", "lz4")])
def test_a_library_that_is_missing_is_named_before_anything_is_read(monkeypatch, name, package):
    def missing(module, *rest):
        if module.partition(".")[0] == name:
            raise ImportError(module)
        return importing(module, *rest)

    importing = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(LtspError) as caught:
        Compression(name).codec(BLOCK)
    assert caught.value.hint == f"pipx inject ltsp {package}, or pip install 'ltsp[{package}]'"


@pytest.mark.parametrize("name", ["lzma"])
def test_codecs_that_are_only_read_refuse_to_write(tmp_path, name):
    with pytest.raises(UsageError, match=f"{name} images can be read, but not written"):
        write_image(tree(a=text(9000)), tmp_path / "image", compression=Compression(name))
