from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from corpus import tree_snapshot
from filesystem.mkfs import differences
from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.iso import volume as iso
from ltsp.tree.node import Directory, File

LEFT_OUT = (
    *("attributes", "names", "owners", "crowd", "times", "holes/over-4-gib"),
    *("special/large-numbers", "special/largest-numbers"),
    *("symlinks/link-7", "symlinks/link-8", "symlinks/link-11"),
)
"""What Rock Ridge cannot hold as xorriso writes it: attributes, control characters, times before 1900, long links,
large numbers of devices, more slashes than needed in a link. What only takes long is left out, too."""


@pytest.fixture(scope="module")
def root(nasty_root, tmp_path_factory):
    root = tmp_path_factory.mktemp("iso") / "root"
    subprocess.run(["cp", "-a", "--sparse=always", f"{nasty_root}/.", root], check=True, stderr=subprocess.DEVNULL)
    for path in LEFT_OUT:
        full = root / path
        shutil.rmtree(full) if not full.is_symlink() and full.is_dir() else full.unlink()
    for name in ("plain", "ünïcode", "with spaces and a name that is so long that it goes on " + "x" * 190):
        (root / name).write_text(name)
    root.chmod(0o751)
    return root


def made(root, image, *options):
    call = ["xorriso", "-as", "mkisofs", "-quiet", "-V", "A_LABEL", "-o", image, *options, root]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return image


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("options", [("-R",), ("-R", "-J", "-iso-level", "3"), ("-R", "-D", "--hardlinks")])
def test_all_that_rock_ridge_holds_is_in_the_tree(options, root, blocks, tmp_path):
    image = made(root, tmp_path / "image", *options)
    found = iso.open(blocks(image))
    assert (found.kind, found.label) == ("iso9660", "A_LABEL")
    expected = tree_snapshot.without_attributes(tree_snapshot.directory(root))
    tree = found.tree()
    if "--hardlinks" not in options:
        expected = {path: replace(entry, names=(path,)) for path, entry in expected.items()}
        expected = {path: replace(entry, names=()) if entry.kind == "d" else entry for path, entry in expected.items()}
    assert differences(expected, tree) == []


@pytest.mark.oracle
def test_relocated_directories_are_at_their_original_place(blocks, tmp_path):
    """mkisofs moves what is deeper than eight levels, and Rock Ridge leads back."""
    source = tmp_path / "source"
    deep = source / "/".join("abcdefghijklm")
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    tree = iso.open(blocks(made(source, tmp_path / "image", "-R"))).tree()
    assert isinstance(tree.get("a/b/c/d/e/f/g/h/i/j/k/l/m/file"), File)
    moved = tree.get("rr_moved")
    assert moved is None or (isinstance(moved, Directory) and not moved.entries)


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["//double///slashes", "a//b/c", "/", "/a", "../..//c", "./d"])
def test_links_are_what_they_were_slash_by_slash(target, blocks, tmp_path):
    (tmp_path / "source").mkdir()
    os.symlink(target, tmp_path / "source/link")
    link = iso.open(blocks(made(tmp_path / "source", tmp_path / "image", "-R"))).tree().get("link")
    assert link.target == target


@pytest.mark.oracle
def test_a_file_of_several_extents_is_one(blocks, tmp_path):
    """What is larger than 4 GiB has a record for each part; here two small files are made one."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "part-1").write_bytes(b"1" * 4096)
    (source / "part-2").write_bytes(b"2" * 5000)
    image = made(source, tmp_path / "image", "-R")
    at = image.read_bytes().index(b"PART_1.;1")
    with image.open("r+b") as file:
        file.seek(at - 33 + 25)
        file.write(b"\x80")
    tree = iso.open(blocks(image)).tree()
    assert list(tree.root.entries) == ["part-2"]
    node = tree.root.entries["part-2"]
    assert isinstance(node, File)
    with node.content.open() as stream:
        assert stream.read(100_000) == b"1" * 4096 + b"2" * 5000


@pytest.mark.oracle
def test_an_image_without_rock_ridge_is_refused(blocks, tmp_path):
    (tmp_path / "source" / "directory").mkdir(parents=True)
    image = tmp_path / "image"
    call = ["xorriso", "-as", "mkisofs", "-quiet", "-J", "--norock", "-o", image, tmp_path / "source"]
    subprocess.run(call, check=True, capture_output=True)
    with pytest.raises(SourceError, match="has no Rock Ridge"):
        iso.open(blocks(image))


@pytest.mark.oracle
def test_a_truncated_image_is_refused(blocks, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(bytes(1 << 20))
    image = made(source, tmp_path / "image", "-R")
    with image.open("r+b") as file:
        file.truncate(512 << 10)
    with pytest.raises(FormatError, match=r"entry file: its content at \d+ extends beyond"):
        iso.open(blocks(image)).tree()
