"""Archives and images written by other programs, compared with their source directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from corpus import kitchen_sink, tree_snapshot
from ltsp.archive.archive import ArchiveFormat, ArchiveReader
from ltsp.source.archive import LayoutSource
from ltsp.storage.blocks import FileBlocks
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

pytestmark = [pytest.mark.oracle, pytest.mark.root]

SMALL = kitchen_sink.KitchenSinkSize(entries=300, owners=40, depth=40, large=9 * kitchen_sink.BLOCK + 17)
PACKING = {"plain": [], "gzip": ["-z"], "xz": ["-J"], "zstd": ["--zstd"], "bzip2": ["-j"]}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return kitchen_sink.build(tmp_path_factory.mktemp("nasty") / "source", SMALL)


def expected(root, apart="", keeps=lambda _name, _value: True):
    """The directory as a tar can hold it: without sockets; `apart` are kinds of which a writer knows no hard links."""
    everything = tree_snapshot.directory(root)
    return {
        path: tree_snapshot.counted(
            replace(
                entry,
                xattrs=tuple(pair for pair in entry.xattrs if keeps(*pair)),
                names=(path,) if entry.kind in apart else entry.names,
            )
        )
        for path, entry in everything.items()
        if entry.kind != "s"
    }


def no_list(name, _value):
    """What bsdtar keeps in a form of its own."""
    return not name.startswith(b"system.posix_acl")


def as_umoci(name, value):
    """It says that the standard forbids empty values, and leaves out what overlays keep their notes in."""
    return value != b"" and not name.startswith(b"trusted.overlay.")


def found(path, form=ArchiveFormat.ANY, scratch="/var/tmp"):
    with Path(path).open("rb") as file, ArchiveReader(str(scratch)) as reader:
        return tree_snapshot.of_tree(reader.read_file(FileBlocks.of(file), form))


def tar(source, archive, *options):
    subprocess.run(["tar", "-C", source, *options, "-cf", archive, "."], check=True, stderr=subprocess.PIPE)
    return archive


@pytest.mark.parametrize("packing", PACKING)
def test_what_tar_writes_with_attributes(source, tmp_path, packing):
    options = ["--format=posix", "--xattrs", "--xattrs-include=*", *PACKING[packing]]
    assert tree_snapshot.differences(expected(source, "cbp"), found(tar(source, tmp_path / "a", *options))) == []


@pytest.mark.parametrize("form", ["gnu", "oldgnu"])
def test_what_tar_writes_in_its_own_formats(source, tmp_path, form):
    archive = tar(source, tmp_path / "a", f"--format={form}", "--numeric-owner")
    assert tree_snapshot.differences(tree_snapshot.without_attributes(expected(source, "cbp")), found(archive)) == []


@pytest.mark.parametrize("form", [["gnu"], ["posix", "0.0"], ["posix", "0.1"], ["posix", "1.0"]], ids=" ".join)
def test_what_tar_writes_of_sparse_files(tmp_path, form):
    source = tmp_path / "source"
    kitchen_sink.build(source, kitchen_sink.KitchenSinkSize(entries=1, owners=1, depth=1))
    options = ["--sparse", f"--format={form[0]}", *(f"--sparse-version={version}" for version in form[1:])]
    archive = tar(source / "holes", tmp_path / "a", *options)
    with archive.open("rb") as file, ArchiveReader(str(tmp_path)) as reader:
        tree = reader.read_file(FileBlocks.of(file))
        assert tree_snapshot.differences(expected(source / "holes"), tree_snapshot.of_tree(tree)) == []
        large = tree.get("over-4-gib").content
        assert large.size > 4 << 30
        assert large.stored_size < 1 << 20


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_what_python_writes(source, tmp_path, form):
    def whole_second(info):
        """Its own times are numbers that are rounded up."""
        info.mtime = os.lstat(os.path.join(source, info.name)).st_mtime_ns // 10**9
        return info

    with tarfile.open(tmp_path / "a", "w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        archive.add(source, ".", filter=whole_second)
    assert (
        tree_snapshot.differences(tree_snapshot.without_attributes(expected(source, "cbpl")), found(tmp_path / "a"))
        == []
    )


def test_what_bsdtar_writes(source, tmp_path):
    call = ["bsdtar", "-C", source, "--format", "pax", "--xattrs", "-cf", tmp_path / "a", "."]
    subprocess.run(call, check=True, stderr=subprocess.PIPE)
    wanted, read = expected(source, "cb", no_list), found(tmp_path / "a")
    # It writes a fraction of a second before 1970 as that after the second that it does not add up to.
    del wanted[b"times/directory-1/file"], read[b"times/directory-1/file"]
    del wanted[b"times/directory-2147483648/file"], read[b"times/directory-2147483648/file"]
    assert tree_snapshot.differences(wanted, read) == []


def in_whole_seconds(root):
    """Go's writer rounds times to the nearest second."""
    for directory, names, files in os.walk(root, topdown=False):
        for path in (*(os.path.join(directory, name) for name in (*names, *files)), directory):
            second = os.lstat(path).st_mtime_ns // 10**9 * 10**9
            os.utime(path, ns=(second, second), follow_symlinks=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An image of two layers by umoci, and the directory that it was made of: the second hides and replaces much."""
    at = tmp_path_factory.mktemp("umoci")

    def umoci(*arguments):
        subprocess.run(["umoci", *arguments], cwd=at, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    umoci("init", "--layout", "layout")
    umoci("new", "--image", "layout:new")
    umoci("unpack", "--image", "layout:new", "bundle")
    root = at / "bundle/rootfs"
    subprocess.run(["cp", "-a", f"{kitchen_sink.build(at / 'source', SMALL)}/.", root], check=True)
    (root / "special/socket").unlink()
    in_whole_seconds(root)
    umoci("repack", "--image", "layout:one", "--refresh-bundle", "bundle")
    shutil.rmtree(root / "crowd")
    shutil.rmtree(root / "sizes")
    (root / "sizes").symlink_to("duplicates")
    shutil.rmtree(root / "modes/directory-644")
    (root / "modes/directory-644").write_text("a file now\n")
    (root / "modes/file-644").unlink()
    (root / "modes/file-644").mkdir()
    (root / "modes/file-644/inside").write_text("a directory now\n")
    (root / "duplicates/a-small").write_text("changed\n")
    (root / "duplicates/new").mkdir(0o700)
    os.link(root / "owners/999", root / "duplicates/new/link-to-below")
    (root / "names/a").unlink()
    in_whole_seconds(root)
    umoci("repack", "--image", "layout:two", "--refresh-bundle", "bundle")
    return at, root


def test_layers_that_umoci_writes(images):
    at, root = images
    with LayoutSource("lab", f"{at}/layout", "two").open(select_all, Faults()) as tree:
        assert tree_snapshot.differences(expected(root, keeps=as_umoci), tree_snapshot.of_tree(tree)) == []


@pytest.mark.parametrize(
    ("target", "options"),
    {
        "oci-archive": ("oci-archive:{at}:lab", []),
        "docker-archive": ("docker-archive:{at}:lab:latest", []),
        "zstd": ("oci-archive:{at}:lab", ["--dest-compress-format", "zstd"]),
    }.values(),
)
def test_archives_that_skopeo_writes(images, tmp_path, target, options):
    at, root = images
    call = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "-q",
        *options,
        f"oci:{at}/layout:two",
        target.format(at=tmp_path / "a"),
    ]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tree_snapshot.differences(expected(root, keeps=as_umoci), found(tmp_path / "a")) == []
