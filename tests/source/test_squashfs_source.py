"""A squashfs image as a source."""

from __future__ import annotations

import os

import pytest

from ltsp.errors import FileChanged, FormatError, SourceError
from ltsp.source.squashfs import SquashfsSource
from ltsp.squashfs.writer import WriteOptions, write_squashfs
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.selection import Inclusion, select_all
from ltsp.tree.tree import Tree

PLAIN = Metadata(0o755)


@pytest.fixture
def image(tmp_path):
    etc = Directory(PLAIN, {"passwd": File(PLAIN, Bytes(b"root\n")), "shadow": File(PLAIN, Bytes(b"secret\n"))})
    path = tmp_path / "lab.img"
    with path.open("w+b", buffering=0) as file:
        write_squashfs(
            Tree(Directory(PLAIN, {"etc": etc, "home": Directory(PLAIN, {"a": etc})})), file, WriteOptions(), Faults()
        )
    return path


def test_an_image_gives_its_tree_as_the_selection_takes_it(image):
    def select(path, _directory):
        return {"home": Inclusion.EMPTIED, "etc/shadow": Inclusion.NOTHING}.get(path, Inclusion.ALL)

    source = SquashfsSource("lab", str(image))
    assert (source.name, source.description) == ("lab", f"squashfs image {image}")
    assert source.plan().included[0].description == source.description
    with source.lock_package_manager(0, print) as notes, source.open(select, Faults()) as tree:
        assert notes == []
        assert [path for path, _ in tree.walk()] == ["etc", "etc/passwd", "home"]
        with tree.get("etc/passwd").content.open() as stream:
            assert stream.read(100) == b"root\n"


def test_an_image_that_another_one_replaces_while_it_is_read_stays_what_it_was(image):
    with SquashfsSource("lab", str(image)).open(select_all, Faults()) as tree:
        other = image.with_name("other")
        other.write_bytes(b"other")
        os.replace(other, image)
        with tree.get("etc/shadow").content.open() as stream:
            assert stream.read(100) == b"secret\n"


def test_an_image_that_is_written_to_while_it_is_read_is_an_error(image):
    with pytest.raises(FileChanged, match="written to"), SquashfsSource("lab", str(image)).open(select_all, Faults()):
        os.utime(image, (0, 0))


def test_a_second_link_to_an_image_does_not_change_it(image):
    with SquashfsSource("lab", str(image)).open(select_all, Faults()):
        os.link(image, image.with_name("version"))


def test_damage_is_reported_with_the_path_of_the_image(image):
    image.write_bytes(image.read_bytes()[:150])
    with (
        pytest.raises(FormatError, match=r"lab\.img: superblock is damaged"),
        SquashfsSource("lab", str(image)).open(select_all, Faults()),
    ):
        pass


def test_an_image_that_cannot_be_opened_is_reported_with_the_reason(tmp_path):
    with (
        pytest.raises(SourceError, match="no-such: No such file"),
        SquashfsSource("x", f"{tmp_path}/no-such").open(select_all, Faults()),
    ):
        pass
