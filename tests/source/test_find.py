"""From an argument to a source: where it is looked for, and what is said of what is none."""

from __future__ import annotations

import os

import pytest

from corpus.system import make_system
from ltsp.errors import FormatError, LtspError, SourceError, UsageError
from ltsp.source.directory.directory import DirectorySource
from ltsp.source.find import find_source
from ltsp.source.squashfs import SquashfsSource
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

SQUASHFS = b"hsqs" + bytes(92)


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base/images").mkdir(parents=True)
    return tmp_path / "base"


def chroot(path):
    return make_system(path)


def found(argument, base, **options):
    source = find_source(argument, str(base), **options)
    return source.name, source.path


def test_a_simple_name_is_a_chroot_before_a_disk_before_an_exported_image(base):
    (base / "images/lab.img").write_bytes(SQUASHFS)
    assert found("lab", base, recompress=True) == ("lab", f"{base}/images/lab.img")
    (base / "lab.img").write_bytes(SQUASHFS)
    assert found("lab", base) == ("lab", f"{base}/lab.img")
    chroot(base / "lab")
    assert found("lab", base) == ("lab", f"{base}/lab")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lab", 'no source "lab"'),
        ("lab.img", "image name 'lab.img' must not end with"),
        ("sub/lab", 'no source "sub/lab"'),
        ("etc/passwd", 'no source "etc/passwd"'),
    ],
)
def test_a_name_is_never_looked_up_in_the_working_directory(base, monkeypatch, tmp_path, name, says):
    """Anybody's directory would become everyone's image."""
    here = tmp_path / "anybody's"
    chroot(here / "lab")
    chroot(here / "sub/lab")
    (here / "lab.img").write_bytes(SQUASHFS)
    (here / "etc").mkdir()
    (here / "etc/passwd").touch()
    monkeypatch.chdir(here)
    with pytest.raises(LtspError, match=says) as caught:
        find_source(name, str(base))
    assert caught.value.hint.startswith(f"to use the one in the current directory, type ./{name}")


def test_the_choice_between_a_chroot_and_a_disk_of_one_name_is_reported(base):
    chroot(base / "lab")
    assert find_source("lab", str(base)).plan().warnings == ()
    (base / "lab.img").touch()
    assert find_source("lab", str(base)).plan().warnings == (
        f"using the chroot {base}/lab, not the VM disk {base}/lab.img",
    )


def test_a_path_below_the_base_directory(base):
    chroot(base / "sub/lab")
    (base / "images/other.img").write_bytes(SQUASHFS)
    assert found("sub/lab", base) == ("lab", f"{base}/sub/lab")
    assert found("images/other.img", base, recompress=True) == ("other", f"{base}/images/other.img")


def test_paths_begin_with_a_slash_or_a_dot(base, tmp_path, monkeypatch):
    chroot(tmp_path / "lab")
    monkeypatch.chdir(tmp_path / "lab")
    assert found(f"{tmp_path}/lab", base) == ("lab", f"{tmp_path}/lab")
    assert found(f"{tmp_path}/lab/", base) == ("lab", f"{tmp_path}/lab/")
    assert found(".", base) == ("lab", ".")
    assert found("../lab", base) == ("lab", "../lab")


def test_a_link_to_the_running_system_is_the_running_system(base, tmp_path):
    (tmp_path / "amd64").symlink_to("/")
    source = find_source(f"{tmp_path}/amd64", str(base))
    assert (source.name, source.description) == ("amd64", "the running system")
    (base / "server").symlink_to("/")
    assert find_source("server", str(base)).description == "the running system"
    assert find_source("/", str(base)).name == os.uname().machine.replace("i686", "x86_32")


def test_the_name_can_be_chosen(base):
    chroot(base / "lab")
    assert find_source("lab", str(base), name="room1").name == "room1"
    with pytest.raises(UsageError, match="must not contain a comma"):
        find_source("lab", str(base), name="a,b")


def test_a_bad_name_is_refused_unless_another_is_chosen(base, tmp_path):
    chroot(tmp_path / "my lab")
    with pytest.raises(UsageError, match="image name 'my lab' must not contain a space") as caught:
        find_source(f"{tmp_path}/my lab", str(base))
    assert caught.value.hint == "choose another: --name=my-lab"
    assert find_source(f"{tmp_path}/my lab", str(base), name="lab").name == "lab"


def test_a_name_with_a_blank_says_how_the_file_of_that_name_is_given(base, tmp_path, monkeypatch):
    with pytest.raises(UsageError) as caught:
        find_source("Lubuntu 24.04.vdi", str(base))
    assert caught.value.hint == "give its path (starting with / or .) and --name=Lubuntu-24.04"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Lubuntu 24.04.vdi").touch()
    with pytest.raises(UsageError) as caught:
        find_source("Lubuntu 24.04.vdi", str(base))
    assert (
        caught.value.hint == "to use the one in the current directory, type './Lubuntu 24.04.vdi' --name=Lubuntu-24.04"
    )


def test_a_name_with_a_blank_says_what_there_is_in_the_base_directory(base):
    def hint():
        with pytest.raises(UsageError, match="image name 'my lab' must not contain a space") as caught:
            find_source("my lab", str(base), recompress=True)
        return caught.value.hint

    assert hint() == "give its path (starting with / or .) and --name=my-lab"
    (base / "images").mkdir(exist_ok=True)
    (base / "images/my-lab.img").touch()
    assert hint() == f"for {base}/images/my-lab.img, type my-lab"
    (base / "my lab.img").touch()
    assert hint() == f"type '{base}/my lab.img' --name=my-lab"


def test_nothing_found_says_where_was_looked(base):
    with pytest.raises(LtspError) as caught:
        find_source("lab", str(base))
    assert caught.value.message == (f'no source "lab": looked for {base}/lab, {base}/lab.img and {base}/images/lab.img')
    assert caught.value.hint == f"create a system in {base}/lab, or give a path (starting with / or .)"
    with pytest.raises(LtspError, match="/nowhere not found"):
        find_source("/nowhere", str(base))


def test_a_name_in_the_wrong_case_is_not_found_but_suggested(base):
    (base / "Debian12.img").write_bytes(bytes(512))
    with pytest.raises(LtspError, match='no source "debian12"') as caught:
        find_source("debian12", str(base))
    assert caught.value.hint == "did you mean Debian12?"


def test_the_error_for_a_directory_without_a_system_says_what_it_contains(tmp_path, base):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError) as caught:
        find_source(f"{tmp_path}/empty", str(base))
    assert caught.value.message == (
        f"{tmp_path}/empty: it is not a Linux root file system: /etc/passwd and /usr are missing; found nothing"
    )
    (tmp_path / "boot/usr").mkdir(parents=True)
    for name in ("vmlinuz", "grub", "efi", "a\nb", "x1", "x2"):
        (tmp_path / "boot" / name).touch()
    with pytest.raises(SourceError, match=r"/etc/passwd is missing; found a\\nb, efi, grub, usr, vmlinuz, x1, …"):
        find_source(f"{tmp_path}/boot", str(base))


@pytest.mark.root
def test_a_directory_that_may_not_be_read_is_not_called_empty(base):
    chroot(base / "lab").chmod(0o700)
    for above in base.parents[:-1]:
        above.chmod(above.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        with pytest.raises(SourceError, match=r"cannot read .*/lab: Permission denied"):
            find_source(f"{base}/lab", str(base))
    finally:
        os.seteuid(0)


def test_a_system_of_links_out_of_it_is_none(tmp_path, base):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/usr").symlink_to("/usr")
    (tmp_path / "lab/etc").symlink_to("/etc")
    with pytest.raises(SourceError, match="/etc/passwd and /usr are missing"):
        find_source(f"{tmp_path}/lab", str(base))


@pytest.mark.parametrize(
    ("data", "said"),
    {
        "qcow2": (b"QFI\xfb\0\0\0\3", "vm.img: "),
        "LUKS": (b"LUKS\xba\xbe\0\2", "encrypted volume (LUKS)"),
        "LVM": (bytes(0x200) + b"LABELONE" + bytes(16) + b"LVM2 001", "LVM"),
        "a descriptor": (b"# Disk DescriptorFile\nversion=1\n", "no extents"),
        "text": (b"nothing to see\n", "it holds text"),
        "noise": (b"\x01\x02\x03", "no known format"),
        "nothing": (b"", "it holds nothing"),
        "a program": (b"\x7fELF", "it holds a program"),
    }.values(),
)
def test_a_file_without_a_system_is_named_with_what_it_holds(base, data, said):
    (base / "vm.img").write_bytes(data)
    with pytest.raises((SourceError, FormatError)) as caught:
        find_source("vm", str(base))
    assert caught.value.message.startswith(f"{base}/vm.img")
    assert said in caught.value.message


def test_a_link_to_nothing_is_named_with_what_it_leads_to(base):
    (base / "vm.img").symlink_to("/gone/disk.vmdk")
    with pytest.raises(SourceError, match=r"vm.img, which links to /gone/disk.vmdk: No such file"):
        find_source("vm", str(base))


def test_what_is_neither_file_nor_directory_is_not_opened(base):
    os.mkfifo(base / "vm.img")
    with pytest.raises(LtspError, match="not a file, disk or directory"):
        find_source("vm", str(base))


def test_an_exported_image_is_made_again_from_what_it_was_made_from(base):
    (base / "images/lab.img").write_bytes(SQUASHFS)
    chroot(base / "other")
    source = find_source("lab", str(base), find_recorded={"lab": f"{base}/other"}.get)
    assert isinstance(source, DirectorySource)
    assert (source.name, source.path) == ("lab", f"{base}/other")


def test_an_exported_image_of_unknown_origin_is_not_made_from_itself_unasked(base):
    (base / "images/lab.img").write_bytes(SQUASHFS)
    (base / "link.img").symlink_to("images/lab.img")
    for argument in ("lab", f"{base}/images/lab.img"):
        with pytest.raises(LtspError, match="its source is unknown") as caught:
            find_source(argument, str(base))
        assert "--recompress" in caught.value.hint
    assert isinstance(find_source(f"{base}/images/lab.img", str(base), name="room1"), SquashfsSource)
    assert isinstance(find_source("lab", str(base), recompress=True), SquashfsSource)
    assert find_source("link", str(base)).name == "link"


@pytest.mark.parametrize("option", ["fstype=ext4", "partition=1"])
def test_options_of_disks_make_no_sense_for_directories(base, option):
    chroot(base / "lab")
    with pytest.raises(UsageError, match=f"{option} does not apply to .*, which is a directory"):
        find_source(f"lab,{option}", str(base))


def test_mount_options_are_reported_as_without_effect(base):
    chroot(base / "lab")
    assert find_source("lab,noatime,ro", str(base)).plan().warnings == (
        "mount options for lab have no effect, because it is not mounted: noatime",
    )
    assert find_source("lab,ro,loop", str(base)).plan().warnings == ()


def test_the_type_of_a_squashfs_is_squashfs(base):
    (base / "vm.img").write_bytes(SQUASHFS)
    assert isinstance(find_source("vm,fstype=squashfs,ro", str(base)), SquashfsSource)
    assert find_source("vm,loop,ro,fstype=squashfs", str(base)).plan().warnings == ()
    with pytest.raises(UsageError, match="fstype=ext4 does not apply to"):
        find_source("vm,fstype=ext4", str(base))
    with pytest.raises(SourceError, match="no partition 1; it has"):
        find_source("vm,partition=1", str(base))


def test_output_directories_are_left_out_of_what_is_found(base):
    chroot(base / "lab")
    (base / "lab/srv/tftp").mkdir()
    with find_source("lab", str(base), excluded_directories=(f"{base}/lab/srv/tftp",)).open(
        select_all, Faults()
    ) as tree:
        assert tree.get("srv").entries == {}


@pytest.mark.parametrize("address", ["https://example.org/lab.qcow2", "ssh://server/srv/lab.img", "nbd+unix:///lab"])
def test_what_is_on_another_machine_is_to_be_fetched_first(base, address):
    with pytest.raises(LtspError, match=r"is not on this machine: download it with curl, scp or rsync"):
        find_source(address, str(base))


@pytest.mark.parametrize(
    ("name", "data", "holds", "typed"),
    [
        ("Lubuntu.zip", b"PK\x03\x04rest", "a zip archive", "unzip {path}"),
        ("Kali.7z", b"7z\xbc\xaf\x27\x1crest", "a 7-Zip archive", "7z x {path}"),
        ("lab.rar", b"Rar!\x1a\x07\0rest", "a RAR archive", "unrar x {path}"),
        ("mac.dmg", bytes(512) + b"koly" + bytes(508), "a macOS disk image (DMG)", "qemu-img convert -O raw {path}"),
        ("lab.img.lz4", b"\x04\x22\x4d\x18rest\0", "an lz4 file", "unlz4 {path}"),
        ("lab.vdi", b"PK\x03\x04rest", "a zip archive", "unzip {path}"),
        ("lab.vdi", b"<!DOCTYPE html>\n<title>404</title>\n", "text", "download it again"),
    ],
)
def test_what_has_to_be_unpacked_first_says_by_what(tmp_path, base, name, data, holds, typed):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        find_source(str(path), str(base), name="lab")
    assert caught.value.message == f"{path} is not supported as a source: it holds {holds}"
    assert typed.format(path=path) in caught.value.hint


def test_a_disk_of_another_format_than_its_name_says_is_reported(tmp_path, base):
    path = tmp_path / "lab.vdi"
    path.write_bytes(b"\x01\x02\x03" * 400)
    with pytest.raises(SourceError, match="it holds no known format") as caught:
        find_source(str(path), str(base))
    assert caught.value.hint.startswith("it is named like a VDI disk but is not one: copy or download it again")


def test_the_directory_of_a_virtual_machine_says_which_disk_to_name(tmp_path, base):
    machine = tmp_path / "Lubuntu 24"
    machine.mkdir()
    for name in ("Lubuntu.vbox", "Lubuntu.vdi", "initrd.img"):
        (machine / name).write_bytes(b"")
    with pytest.raises(SourceError, match="is not a Linux root file system") as caught:
        find_source(str(machine), str(base), name="lab")
    assert caught.value.hint == f"name the disk in it: ltsp image '{machine}/Lubuntu.vdi'"
