"""Parts laid over directories of the first: the manual's examples, images in images, and what leads nowhere."""

from __future__ import annotations

import os
import subprocess

import pytest

from corpus.system import make_system
from ltsp.errors import FileUnreadable, LtspError, SourceError
from ltsp.source.find import find_source
from ltsp.tree.faults import Faults
from ltsp.tree.selection import Inclusion, select_all


@pytest.fixture
def place(tmp_path):
    make_system(tmp_path / "lab", {"boot/hidden": "x", "opt/hidden": "x"})
    for name, file in (("boot", "vmlinuz-2"), ("opt", "tool")):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / file).write_text(name)
    (tmp_path / "boot").chmod(0o711)
    return tmp_path


def opened(argument, place, selection=select_all, faults=None):
    return find_source(argument, str(place)).open(selection, Faults() if faults is None else faults)


def test_the_manual_s_example(place):
    argument = f"{place}/lab,,{place}/boot,subdir=boot,,{place}/opt,subdir=opt"
    with opened(argument, place) as tree:
        assert sorted(tree.get("boot").entries) == ["sub", "vmlinuz-2"]
        assert sorted(tree.get("opt").entries) == ["sub", "tool"]
        assert tree.get("boot").metadata.mode == 0o711
        assert tree.get("etc/passwd") is not None
        with tree.get("boot/vmlinuz-2").content.open() as stream:
            assert stream.read(10) == b"boot"


def test_the_plan_shows_each_part(place):
    source = find_source(f"{place}/lab,,{place}/boot,subdir=boot,ro,noatime", str(place))
    assert source.name == "lab"
    assert source.description == f"chroot {place}/lab, directory {place}/boot at /boot"
    plan = source.plan()
    assert [(part.path, part.reason) for part in plan.included] == [("", ""), ("boot", "asked for")]
    assert plan.warnings == (f"mount options for {place}/boot have no effect, because it is not mounted: noatime",)


def test_the_plan_shows_parts_of_the_tree_itself(place):
    plan = find_source(f"{place}/lab,,boot,subdir=opt", str(place)).plan()
    assert [(part.path, part.description, part.reason) for part in plan.included[1:]] == [
        ("opt", "boot", "part of the source itself")
    ]


def test_the_locks_are_those_of_the_first_part(place):
    source = find_source(f"{place}/lab,,{place}/boot,subdir=boot", str(place))
    with source.lock_package_manager(0, print) as notes:
        assert len(notes) == 2
        assert all("var/lib/dpkg/lock" in note for note in notes)


def test_what_a_part_covers_is_not_read(place):
    asked = []

    def selection(path, _directory):
        asked.append(path)
        return Inclusion.ALL

    with opened(f"{place}/lab,,{place}/boot,subdir=boot", place, selection):
        assert "boot/hidden" not in asked
        assert "boot/vmlinuz-2" in asked


def test_the_selection_reaches_into_parts(place):
    takes = {"boot/sub": Inclusion.NOTHING, "opt": Inclusion.EMPTIED, "boot/vmlinuz-2": Inclusion.NOTHING}
    argument = f"{place}/lab,,{place}/boot,subdir=boot,,{place}/opt,subdir=opt"
    with opened(argument, place, lambda path, _directory: takes.get(path, Inclusion.ALL)) as tree:
        assert tree.get("boot").entries == {}
        assert tree.get("opt").entries == {}
        assert tree.get("opt").metadata.mode == 0o755


@pytest.mark.parametrize("take", [Inclusion.EMPTIED, Inclusion.NOTHING])
def test_a_part_below_what_is_left_out_is_left_out(place, take):
    (place / "lab/var/cache").mkdir()
    argument = f"{place}/lab,,{place}/opt,subdir=var/cache"
    with opened(argument, place, lambda path, _directory: take if path == "var" else Inclusion.ALL) as tree:
        assert not any(path.startswith("var/") for path, _ in tree.walk())


def test_a_missing_path_is_an_error(place):
    with (
        pytest.raises(SourceError, match="cannot overlay /opt/none: no such directory"),
        opened(f"{place}/lab,,{place}/boot,subdir=opt/none", place),
    ):
        pass


def test_links_lead_to_places_in_the_tree_only(place):
    (place / "lab/link").symlink_to("/opt")
    (place / "lab/out").symlink_to("../../../../../../../etc")
    with opened(f"{place}/lab,,{place}/boot,subdir=link", place) as tree:
        assert sorted(tree.get("opt").entries) == ["sub", "vmlinuz-2"]
    with opened(f"{place}/lab,,{place}/boot,subdir=out", place) as tree:
        assert sorted(tree.get("etc").entries) == ["sub", "vmlinuz-2"]


def test_a_missing_part_is_an_error_before_any_work(place):
    with pytest.raises(LtspError, match="/nowhere not found"):
        find_source(f"{place}/lab,,/nowhere,subdir=opt", str(place))


def test_a_directory_of_the_tree_can_be_laid_over_another(place):
    with opened(f"{place}/lab,,boot,subdir=opt", place) as tree:
        assert tree.get("opt/hidden") is tree.get("boot/hidden")
    with pytest.raises(SourceError, match="none not found in chroot"), opened(f"{place}/lab,,none,subdir=opt", place):
        pass


def test_faults_have_the_paths_of_the_whole(place):
    def selection(path, _directory):
        if path == "opt/tool":
            (place / "opt/tool").unlink()
        return Inclusion.ALL

    faults = Faults()
    with opened(f"{place}/lab,,{place}/opt,subdir=opt", place, selection, faults):
        assert faults.vanished == ["opt/tool"]


@pytest.mark.root
@pytest.mark.oracle
def test_images_may_be_over_directories_and_in_trees(place):
    def image(directory, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mksquashfs", directory, path, "-quiet", "-no-progress"], check=True, capture_output=True)

    image(place / "opt", place / "opt.squashfs")
    with opened(f"{place}/lab,,{place}/opt.squashfs,subdir=opt", place) as tree:
        assert sorted(tree.get("opt").entries) == ["sub", "tool"]
    image(place / "lab", place / "cd/casper/filesystem.squashfs")
    with opened(f"{place}/cd", place) as tree, tree.get("etc/hostname").content.open() as stream:
        assert stream.read(20) == b"server\n"
    image(place / "cd", place / "cd.img")
    inner = opened(f"{place}/cd.img,,casper/filesystem.squashfs", place)
    with inner as tree, tree.get("etc/hostname").content.open() as stream:
        assert stream.read(20) == b"server\n"
    assert find_source(f"{place}/cd", str(place)).name == "cd"


def test_errors_of_parts_name_the_path_in_the_whole(place, monkeypatch):
    true = os.scandir

    def broken(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/sub"):
            raise OSError(5, "Input/output error")
        return true(descriptor)

    monkeypatch.setattr(os, "scandir", broken)
    with (
        pytest.raises(FileUnreadable, match="cannot read /opt/sub"),
        opened(f"{place}/lab,,{place}/opt,subdir=opt", place),
    ):
        pass
