"""Images written by mksquashfs, read by us, equal their source directory."""

from __future__ import annotations

import subprocess

import pytest

from corpus.kitchen_sink import BLOCK, KitchenSinkSize, build
from corpus.tree_snapshot import differences, directory, stated
from ltsp.squashfs.reader import Image
from squashfs.image_snapshot import snapshot

pytestmark = [pytest.mark.oracle, pytest.mark.root]

CODECS = {
    "gzip": [],
    "lz4": ["-Xhc"],
    "xz": ["-Xbcj", "x86"],
    "zstd": ["-Xcompression-level", "3"],
    "lzma": [],
}
SHAPES = {
    "nothing compressed": ["-comp", "gzip", "-noI", "-noD", "-noF", "-noX"],
    "only data compressed": ["-comp", "zstd", "-Xcompression-level", "1", "-noI", "-noId"],
    "small blocks": ["-comp", "lz4", "-b", "4096"],
    "large blocks": ["-comp", "lz4", "-b", "1M"],
    "no fragments": ["-comp", "lz4", "-no-fragments"],
    "every end in a fragment": ["-comp", "lz4", "-always-use-fragments"],
    "no duplicates, no exports": ["-comp", "lz4", "-no-duplicates", "-no-exports"],
    "stored sparse files": ["-comp", "lz4", "-no-sparse"],
}


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """The nasty tree, less what mksquashfs itself gets wrong: times before 1970 come out as after 2038, and reading a
    symbolic link changes its access time, by which a second name is then taken for another link.
    """
    root = build(tmp_path_factory.mktemp("reader") / "source", KitchenSinkSize(large=40 * BLOCK + 1234))
    subprocess.run(["rm", "-r", "times", "links/symlink", "links/z/symlink-again"], cwd=root, check=True)
    return root


def mksquashfs(source, image, *options):
    subprocess.run(
        ["mksquashfs", source, image, "-noappend", "-quiet", "-no-progress", "-processors", "2", *options],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return image


def read(image):
    with image.open("rb") as file:
        return snapshot(Image.open(file).tree())


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_of_a_python_library_is_read(nasty, tmp_path, codec):
    image = mksquashfs(nasty, tmp_path / "image", "-comp", codec, *CODECS[codec])
    assert differences(stated(directory(nasty)), read(image)) == []


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_image_is_read(nasty, tmp_path, shape):
    image = mksquashfs(nasty, tmp_path / "image", *SHAPES[shape])
    assert differences(stated(directory(nasty)), read(image)) == []


@pytest.mark.torture  # mksquashfs reads holes as zeros, for twelve seconds
def test_a_sparse_file_of_more_than_4_gib_is_read_by_its_holes(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    size = (4 << 30) + 3 * BLOCK + 5
    with (source / "sparse").open("wb") as file:
        file.write(b"first")
        file.seek(2 << 30)
        file.write(b"middle")
        file.truncate(size)
    image = mksquashfs(source, tmp_path / "image", "-comp", "lz4", "-b", "1M")
    with image.open("rb") as file, Image.open(file).tree().root.entries["sparse"].content.open() as stream:
        assert stream.size == size
        assert stream.hole_size() == 0
        assert stream.read(1 << 20).strip(b"\0") == b"first"
        assert stream.hole_size() == (2 << 30) - (1 << 20)
        stream.skip((2 << 30) - (1 << 20))
        assert stream.read(6) == b"middle"
        assert stream.hole_size() == 0
        assert stream.read((1 << 20) - 6) == bytes((1 << 20) - 6)
        assert stream.hole_size() == size - (2 << 30) - (1 << 20)
        stream.skip((2 << 30) - (2 << 20))
        assert stream.read(2 << 20) == bytes((1 << 20) + 3 * BLOCK + 5)
        assert stream.read(1) == b""
