"""Root file systems that lie in a directory of what carries them."""

from __future__ import annotations

import os
import subprocess

import pytest

from corpus.disks import ext4
from corpus.system import make_system
from ltsp.errors import SourceError
from ltsp.inspection import root_file_systems
from ltsp.source.find import find_source
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata, Symlink
from ltsp.tree.selection import Inclusion, select_all
from ltsp.tree.tree import Tree

PLAIN = Metadata(0o755)
OS = "ostree/deploy/fedora"
FIRST, SECOND = f"{OS}/deploy/aaaa.0", f"{OS}/deploy/bbbb.0"


def tree(*paths: str) -> Tree:
    """Files, or directories that end with a slash."""
    made = Tree(Directory(PLAIN))
    for path in paths:
        names = path.rstrip("/").split("/")
        for end in range(1, len(names) + (path[-1] == "/")):
            above = "/".join(names[:end])
            if made.get(above) is None:
                made = made.edit({above: Directory(PLAIN)})
        if path[-1] != "/":
            made = made.edit({path: File(PLAIN, Bytes(path.encode()))})
    return made


def root(path: str) -> tuple[str, str]:
    return f"{path}/etc/passwd", f"{path}/usr/lib/os-release"


def entry(version: int, target: str) -> File:
    text = f"title Fedora\nversion {version}\noptions root=UUID=1 ostree={target} rw\nlinux /ostree/vmlinuz\n"
    return File(PLAIN, Bytes(text.encode()))


def two_deployments(newest: str) -> Tree:
    carrier = tree(*root(FIRST), *root(SECOND), f"{OS}/var/lib/", "boot/loader.1/entries/", "ostree/boot.1.1/fedora/c/")
    return carrier.edit(
        {
            "ostree/boot.1": Symlink(PLAIN, "boot.1.1"),
            "ostree/boot.1.1/fedora/c/0": Symlink(PLAIN, f"../../../deploy/fedora/deploy/{newest}"),
            "ostree/boot.1.1/fedora/c/1": Symlink(PLAIN, "../../../deploy/fedora/deploy/other"),
            "boot/loader": Symlink(PLAIN, "loader.1"),
            "boot/loader.1/entries/ostree-2.conf": entry(10, "/ostree/boot.1/fedora/c/0"),
            "boot/loader.1/entries/ostree-1.conf": entry(9, "/ostree/boot.1/fedora/c/1"),
        }
    )


def test_a_system_carries_none():
    assert root_file_systems.find_nested_roots(tree("etc/passwd", "usr/", *root("rootfs"))) == []


@pytest.mark.parametrize("path", ["rootfs", "backup/container/rootfs"])
def test_the_export_of_a_container_has_its_root_in_a_directory(path):
    carrier = tree("metadata.yaml", "templates/hostname.tpl", *root(path))
    assert [each.path for each in root_file_systems.find_nested_roots(carrier)] == [path]
    assert sorted(root_file_systems.enter_nested_root(carrier).root.entries) == ["etc", "usr"]


@pytest.mark.parametrize("path", ["backup/container.bin", "backup/virtual-machine.bin"])
def test_a_stream_of_snapshots_is_to_be_exported_otherwise(path):
    assert "without --optimized-storage" in root_file_systems.suggest_remedy(tree("backup/index.yaml", path))
    assert "--optimized-storage" not in root_file_systems.suggest_remedy(tree("backup/index.yaml"))


def test_a_deployment_has_the_var_of_its_system_and_the_boot_of_the_disk():
    carrier = tree(
        *root(FIRST), f"{FIRST}/var/", f"{FIRST}/boot/", f"{OS}/var/lib/x", "boot/vmlinuz", "ostree/repo/objects/"
    )
    deployed = root_file_systems.enter_nested_root(carrier)
    assert deployed.get("var/lib/x") is carrier.get(f"{OS}/var/lib/x")
    assert deployed.get("boot/vmlinuz") is carrier.get("boot/vmlinuz")
    assert deployed.get("ostree") is None


@pytest.mark.parametrize("newest", ["aaaa.0", "bbbb.0"])
def test_of_several_deployments_the_one_that_boots_is_meant(newest):
    carrier = two_deployments(newest)
    assert (
        root_file_systems.choose_bootable_root(carrier, root_file_systems.find_nested_roots(carrier)).path
        == f"{OS}/deploy/{newest}"
    )


def test_boot_loader_entries_may_be_on_another_partition():
    carrier = two_deployments("bbbb.0")
    boot = Tree(carrier.get("boot"))
    carrier = carrier.edit({"boot": Directory(PLAIN)})
    assert (
        root_file_systems.choose_bootable_root(carrier, root_file_systems.find_nested_roots(carrier), [boot]).path
        == SECOND
    )


def test_where_nothing_says_which_deployment_boots_they_are_listed():
    carrier = two_deployments("none")
    with pytest.raises(SourceError, match=f"ostree system with several deployments.*: {FIRST}, {SECOND}") as caught:
        root_file_systems.enter_nested_root(carrier)
    assert caught.value.hint == f"choose one: FILE,subvol={FIRST}, or name the directory"


def test_a_selection_is_asked_by_the_paths_of_the_root_and_nothing_else_is_looked_into():
    asked = []

    def inner(path, _directory):
        asked.append(path)
        return Inclusion.NOTHING if path == "etc/shadow" else Inclusion.ALL

    carrier = tree(*root(FIRST), f"{FIRST}/etc/shadow", f"{OS}/var/lib/x", "ostree/repo/objects/aa", *root(SECOND))
    inside = root_file_systems.find_nested_root_at(carrier, FIRST)
    whole = carrier.select(inside.selection(inner))
    assert {path for path, _ in inside.tree(whole).walk()} == {
        *("etc", "etc/passwd", "usr", "usr/lib", "usr/lib/os-release", "var", "var/lib", "var/lib/x")
    }
    assert "var/lib/x" in asked
    assert not any("ostree" in path for path in asked)


def test_what_is_taken_in_to_tell_them_is_little():
    carrier = two_deployments("aaaa.0").edit({f"{FIRST}/usr/bin": Directory(PLAIN), "home": Directory(PLAIN)})
    seen = {path for path, _ in carrier.select(root_file_systems.select_markers).walk()}
    assert {f"{FIRST}/etc/passwd", f"{FIRST}/usr", "boot/loader.1/entries/ostree-2.conf", "ostree/boot.1"} <= seen
    assert not seen & {f"{FIRST}/usr/bin", f"{OS}/var/lib", "home"}


def paths(argument: str) -> set[str]:
    with find_source(argument, "/nowhere").open(select_all, Faults()) as opened:
        return {path for path, _ in opened.walk()}


def carrier_of(place, path, **more):
    make_system(place / path)
    for name, text in more.items():
        (place / name).write_text(text)
    return place


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["directory", "tar", "squashfs", "disk"])
def test_a_container_is_read_from_whatever_it_was_exported_in(tmp_path, kind):
    place = carrier_of(tmp_path / "web", "rootfs", config="lxc.rootfs.path = dir:/x\n")
    argument = {"directory": place, "disk": tmp_path / "web.img"}.get(kind, tmp_path / f"web.{kind}")
    match kind:
        case "tar":
            subprocess.run(["tar", "-C", place, "-cf", argument, "."], check=True)
        case "squashfs":
            subprocess.run(["mksquashfs", place, argument, "-quiet"], check=True, stdout=subprocess.DEVNULL)
        case "disk":
            ext4(argument, place)
    assert find_source(str(argument), "/nowhere").name == "web"
    found = paths(str(argument))
    assert "etc/passwd" in found
    assert not found & {"rootfs", "config"}


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["directory", "disk"])
def test_an_ostree_system_is_read_as_it_boots(tmp_path, kind):
    place = tmp_path / "atomic"
    for deployment in (FIRST, SECOND):
        make_system(place / deployment, {"etc/deployment": deployment})
    (place / OS / "var/lib").mkdir(parents=True)
    (place / OS / "var/lib/shared").touch()
    (place / "ostree/boot.1.1/fedora/c").mkdir(parents=True)
    os.symlink("boot.1.1", place / "ostree/boot.1")
    os.symlink("../../../deploy/fedora/deploy/bbbb.0", place / "ostree/boot.1.1/fedora/c/0")
    (place / "boot/loader/entries").mkdir(parents=True)
    options = "version 3\noptions rw ostree=/ostree/boot.1/fedora/c/0\n"
    (place / "boot/loader/entries/a.conf").write_text(options)
    argument = str(place if kind == "directory" else ext4(tmp_path / "atomic.img", place, 32))
    with find_source(argument, "/nowhere").open(select_all, Faults()) as opened:
        with opened.get("etc/deployment").content.open() as stream:
            assert stream.read(100).decode() == SECOND
        assert isinstance(opened.get("var/lib/shared"), File)
        assert opened.get("ostree") is None
    if kind == "disk":
        chosen = find_source(f"{argument},subvol={FIRST}", "/nowhere")
        assert f"directory {FIRST}" in chosen.description
