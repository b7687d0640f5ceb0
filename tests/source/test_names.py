"""The names of images."""

from __future__ import annotations

import os

import pytest

from ltsp.errors import LtspError, UsageError
from ltsp.source.names import derive_name, list_source_names


@pytest.fixture
def base(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path


def chroot(base, name):
    (base / name / "proc").mkdir(parents=True)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("lab.img", "lab"),
        ("debian-flat.vmdk", "debian-flat"),
        ("debian-flat", "debian-flat"),
        ("lab.tar.gz", "lab"),
        ("debian.vmdk", "debian"),
        ("debian.QCOW2", "debian"),
        ("ubuntu-24.04.iso", "ubuntu-24.04"),
        ("lab.squashfs", "lab"),
        ("lab.2024", "lab.2024"),
        ("lab", "lab"),
    ],
)
def test_a_file_is_named_without_what_tells_its_kind(tmp_path, file, name):
    (tmp_path / file).touch()
    assert derive_name(str(tmp_path / file)) == name


def test_a_directory_is_named_for_its_last_part(tmp_path, monkeypatch):
    (tmp_path / "lab.img/sub").mkdir(parents=True)
    assert derive_name(f"{tmp_path}/lab.img") == "lab.img"
    assert derive_name(f"{tmp_path}/lab.img///") == "lab.img"
    monkeypatch.chdir(tmp_path / "lab.img/sub")
    assert derive_name(".") == derive_name("./") == "sub"
    assert derive_name("..") == derive_name("../sub/..") == "lab.img"


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "x86_64"), ("aarch64", "aarch64"), *((f"i{n}86", "x86_32") for n in "3456"), ("x86", "x86_32")],
)
def test_the_running_system_is_named_for_the_machine(monkeypatch, machine, name):
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "h", "6.1", "#1", machine)))
    assert derive_name("/") == derive_name("//") == derive_name("/.") == derive_name("/usr/..") == name


def test_a_link_to_the_running_system_has_its_own_name(tmp_path):
    (tmp_path / "amd64").symlink_to("/")
    assert derive_name(f"{tmp_path}/amd64") == "amd64"


def test_without_a_name_chroots_and_disks_are_meant(base):
    chroot(base, "lab")
    (base / "vm.img").symlink_to("lab.vmdk")
    (base / "lab.vmdk").touch()
    (base / "notes").mkdir()
    (base / "images/old.img").touch()
    assert list_source_names(str(base)) == (["lab", "vm"], [])
    assert list_source_names(str(base), all_images=True) == (["lab", "old", "vm"], [])


def test_one_name_for_a_chroot_and_a_disk_is_one_image(base):
    chroot(base, "lab")
    (base / "lab.img").touch()
    assert list_source_names(str(base)) == (["lab"], [])


def test_bad_names_are_passed_over_with_a_warning(base):
    for name in ("my lab", "lab", "a,b", "new\nline"):
        chroot(base, name)
    good, warnings = list_source_names(str(base))
    assert good == ["lab"]
    assert [warning.removeprefix(f"{base}/") for warning in warnings] == [
        "a,b: name must not contain a comma; skipped: rename it, or give its path with --name=a-b",
        "my lab: name must not contain a space; skipped: rename it, or give its path with --name=my-lab",
        "new\\nline: name must not contain a line break; skipped: rename it, or give its path with --name=new-line",
    ]


def test_more_than_three_are_made_only_on_demand(base):
    for name in "abcd":
        chroot(base, name)
    with pytest.raises(UsageError, match="there are 4: a, b, c, d") as caught:
        list_source_names(str(base))
    assert "ALL_IMAGES=1" in caught.value.hint
    assert list_source_names(str(base), all_images=True)[0] == list("abcd")


def test_nothing_there_is_an_error_with_a_way_out(base):
    with pytest.raises(LtspError, match="contains no chroot or VM disk") as caught:
        list_source_names(str(base))
    assert caught.value.hint == "for the running system, type ltsp image /"
    with pytest.raises(LtspError):
        list_source_names(f"{base}/missing")
