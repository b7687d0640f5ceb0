"""Kernels found by a table, tested by a table whose keys are sentences."""

import lzma
import struct
import zlib

import pytest

from corpus.dict_tree import data, make_tree
from corpus.unified_kernels import unified
from ltsp.boot.kernel import find_kernel
from ltsp.boot.kernel_codecs import find_squashfs_codecs, zstd
from ltsp.boot.kernel_header import looks_like_kernel, read_embedded_version
from ltsp.boot.kernel_rules import KernelRule
from ltsp.errors import LtspError, UsageError
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Device, DeviceKind, Fifo, File, Metadata
from ltsp.tree.selection import select_all


def modules(*versions):
    return {f"usr/lib/modules/{version}/modules.dep": "" for version in versions} | {"lib": "-> usr/lib"}


def elf(text):
    """A kernel that does not state its version."""
    return f"\x7fELF{text}"


def bzimage(version, syssize=0, protocol=0x20F):
    """The first 1 KiB of a bzImage; `syssize` is the stated size after the setup sectors, in units of 16 bytes."""
    head = bytearray(0x400)
    head[0x1F1] = 1
    struct.pack_into("<I", head, 0x1F4, syssize)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<HxxxxxxH", head, 0x206, protocol, 0x100)
    text = f"{version} (builder@host) #1 SMP\0".encode()
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head)


BANNER = b"padding " * 5000 + b"Linux version 6.6.1-arm (builder@host) (gcc) #1 SMP\n"


def zboot(payload, kind):
    head = bytearray(64)
    head[:2], head[4:8] = b"MZ", b"zimg"
    struct.pack_into("<II", head, 8, 64, len(payload))
    head[24 : 24 + len(kind)] = kind
    return bytes(head) + payload


def gzipped(data):
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def zimage(payload):
    """A kernel of 32-bit ARM: a loader and the compressed kernel. arch/arm/boot/compressed/head.S of Linux"""
    head = bytearray(0x400)
    struct.pack_into("<I", head, 0x24, 0x016F2818)
    return bytes(head) + b"\x1f\x8b\x08 is not the beginning" + payload + b"appended device tree"


def modules_in_lib(version):
    return {f"lib/modules/{version}/modules.dep": ""}


class Huge:
    size = 1 << 40

    def open(self):
        raise AssertionError("a file too large to be a kernel is not read")


DEBIAN = {"boot/vmlinuz-6.1.0-9": elf("k9"), "boot/initrd.img-6.1.0-9": "i9"} | modules(
    "6.1.0-9", "6.1.0-10", "6.1.0-rc1"
)
FOUND = {
    "a Debian root has links at its top": (
        DEBIAN | {"vmlinuz": "-> boot/vmlinuz-6.1.0-9", "initrd.img": "-> boot/initrd.img-6.1.0-9"},
        ("vmlinuz", "initrd.img", "6.1.0-9"),
    ),
    "an absolute link leads to the image's own file": (
        DEBIAN | {"vmlinuz": "-> /boot/vmlinuz-6.1.0-9", "initrd.img": "-> /boot/initrd.img-6.1.0-9"},
        ("vmlinuz", "initrd.img", "6.1.0-9"),
    ),
    "without links, the newest version in boot is taken": (
        DEBIAN | {"boot/vmlinuz-6.1.0-10": elf("k10"), "boot/initrd.img-6.1.0-10": "i10"},
        ("boot/vmlinuz-6.1.0-10", "boot/initrd.img-6.1.0-10", "6.1.0-10"),
    ),
    "a release is newer than its candidate": (
        DEBIAN | {"boot/vmlinuz-6.1.0-rc1": elf("krc"), "boot/initrd.img-6.1.0-rc1": "irc"},
        ("boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9", "6.1.0-9"),
    ),
    "the top comes before boot": (
        DEBIAN | {"vmlinuz-6.1.0-9": elf("k"), "initrd.img-6.1.0-9": "i"},
        ("vmlinuz-6.1.0-9", "initrd.img-6.1.0-9", "6.1.0-9"),
    ),
    "Fedora has an initramfs, and a rescue kernel that comes last": (
        {"boot/vmlinuz-6.5.6-300.fc39.x86_64": elf("k"), "boot/initramfs-6.5.6-300.fc39.x86_64.img": "i"}
        | {"boot/vmlinuz-0-rescue-abc": elf("r"), "boot/initramfs-0-rescue-abc.img": "r"}
        | modules("6.5.6-300.fc39.x86_64"),
        ("boot/vmlinuz-6.5.6-300.fc39.x86_64", "boot/initramfs-6.5.6-300.fc39.x86_64.img", "6.5.6-300.fc39.x86_64"),
    ),
    "Arch names no version, so the kernel is asked": (
        {"boot/vmlinuz-linux": bzimage("6.7.1-arch1-1"), "boot/initramfs-linux.img": "i"} | modules("6.7.1-arch1-1"),
        ("boot/vmlinuz-linux", "boot/initramfs-linux.img", "6.7.1-arch1-1"),
    ),
    "Alpine's initramfs has no suffix": (
        {"boot/vmlinuz-lts": bzimage("6.6.1-lts"), "boot/initramfs-lts": "i"} | modules("6.6.1-lts"),
        ("boot/vmlinuz-lts", "boot/initramfs-lts", "6.6.1-lts"),
    ),
    "Ubuntu live comes without modules of its own": (
        {"casper/vmlinuz": bzimage("6.5.0-9"), "casper/initrd.lz": "i", "casper/initrd.gz": "j"},
        ("casper/vmlinuz", "casper/initrd.lz", "6.5.0-9"),
    ),
    "openSUSE live has a directory for each architecture": (
        {"boot/x86_64/loader/linux": bzimage("6.4.0"), "boot/x86_64/loader/initrd": "i"},
        ("boot/x86_64/loader/linux", "boot/x86_64/loader/initrd", "6.4.0"),
    ),
    "Debian's installer": (
        {"install.amd/vmlinuz": bzimage("6.1.0"), "install.amd/initrd.gz": "i"},
        ("install.amd/vmlinuz", "install.amd/initrd.gz", "6.1.0"),
    ),
    "Fedora live": (
        {"isolinux/vmlinuz": bzimage("6.5.6"), "isolinux/initrd.img": "i"},
        ("isolinux/vmlinuz", "isolinux/initrd.img", "6.5.6"),
    ),
    "Debian live": (
        {"live/vmlinuz-6.1.0-9-amd64": elf("k"), "live/initrd.img-6.1.0-9-amd64": "i"},
        ("live/vmlinuz-6.1.0-9-amd64", "live/initrd.img-6.1.0-9-amd64", "6.1.0-9-amd64"),
    ),
    "Tiny Core has a core.gz": (
        {"boot/vmlinuz": elf("no version"), "boot/core.gz": "i"},
        ("boot/vmlinuz", "boot/core.gz", None),
    ),
    "Debian live of one kernel": (
        {"live/vmlinuz": bzimage("6.1.0-9-amd64"), "live/initrd.img": "i"},
        ("live/vmlinuz", "live/initrd.img", "6.1.0-9-amd64"),
    ),
    "Fedora, Arch and openSUSE have the kernel with its modules": (
        {"lib/modules/6.9/vmlinuz": bzimage("6.9"), "lib/modules/6.9/modules.dep": ""},
        ("lib/modules/6.9/vmlinuz", None, "6.9"),
    ),
    "bootc and ostree have the initrd there too": (
        {"lib/modules/6.9/vmlinuz": elf("k"), "lib/modules/6.9/initramfs.img": "i", "lib/modules/6.9/modules.dep": ""},
        ("lib/modules/6.9/vmlinuz", "lib/modules/6.9/initramfs.img", "6.9"),
    ),
    "an initrd in boot belongs to a kernel with its modules": (
        {"lib/modules/6.9/Image": elf("k"), "boot/initrd-6.9": "i", "lib/modules/6.9/modules.dep": ""},
        ("lib/modules/6.9/Image", "boot/initrd-6.9", "6.9"),
    ),
    "of two places the newest kernel counts, wherever it is": (
        DEBIAN | {"usr/lib/modules/6.1.0-10/vmlinuz": elf("k10"), "boot/initramfs-6.1.0-10.img": "i10"},
        ("lib/modules/6.1.0-10/vmlinuz", "boot/initramfs-6.1.0-10.img", "6.1.0-10"),
    ),
    "kernel-install has a directory of each version": (
        {"boot/4f1c/6.9.7-arch1-1/linux": elf("k"), "boot/4f1c/6.9.7-arch1-1/initrd": "i"} | modules("6.9.7-arch1-1"),
        ("boot/4f1c/6.9.7-arch1-1/linux", "boot/4f1c/6.9.7-arch1-1/initrd", "6.9.7-arch1-1"),
    ),
    "on the EFI system partition at /efi": (
        {"efi/4f1c/6.9/linux": elf("k"), "efi/4f1c/6.9/initrd": "i"} | modules("6.9"),
        ("efi/4f1c/6.9/linux", "efi/4f1c/6.9/initrd", "6.9"),
    ),
    "a unified kernel says its version": (
        {"boot/EFI/Linux/arch-linux.efi": unified((".uname", b"6.9"), (".linux", b"\x7fELF"), (".initrd", b"i"))}
        | modules("6.9"),
        ("boot/EFI/Linux/arch-linux.efi", "boot/EFI/Linux/arch-linux.efi", "6.9"),
    ),
    "or the kernel in it does": (
        {"boot/efi/efi/linux/4f1c-6.9.efi": unified((".linux", bzimage("6.9")), (".initrd", b"i"))} | modules("6.9"),
        ("boot/efi/efi/linux/4f1c-6.9.efi", "boot/efi/efi/linux/4f1c-6.9.efi", "6.9"),
    ),
    "Fedora's unified kernel lies with its modules": (
        {"lib/modules/6.9/vmlinuz-virt.efi": unified((".linux", b"\x7fELF"), (".initrd", b"i"))}
        | modules_in_lib("6.9"),
        ("lib/modules/6.9/vmlinuz-virt.efi", "lib/modules/6.9/vmlinuz-virt.efi", "6.9"),
    ),
    "Gentoo's kernels are called kernel": (
        {"boot/kernel-6.6.30-gentoo-dist": elf("k"), "boot/initramfs-6.6.30-gentoo-dist.img": "i"}
        | modules("6.6.30-gentoo-dist"),
        ("boot/kernel-6.6.30-gentoo-dist", "boot/initramfs-6.6.30-gentoo-dist.img", "6.6.30-gentoo-dist"),
    ),
    "Gentoo's kernels for firmware alone": (
        {"efi/EFI/Gentoo/vmlinuz-6.6.30.efi": elf("k"), "efi/EFI/Gentoo/initramfs-6.6.30.img": "i"} | modules("6.6.30"),
        ("efi/EFI/Gentoo/vmlinuz-6.6.30.efi", "efi/EFI/Gentoo/initramfs-6.6.30.img", "6.6.30"),
    ),
    "a board's kernel says its version, and its initrd has it": (
        {"boot/Image": BANNER, "boot/initrd.img-6.6.1-arm": "i", "boot/uInitrd-6.6.1-arm": "u"} | modules("6.6.1-arm"),
        ("boot/Image", "boot/initrd.img-6.6.1-arm", "6.6.1-arm"),
    ),
    "so does one that unpacks itself": (
        {"boot/zImage": zimage(gzipped(BANNER)), "boot/initrd.img-6.6.1-arm": "i"} | modules("6.6.1-arm"),
        ("boot/zImage", "boot/initrd.img-6.6.1-arm", "6.6.1-arm"),
    ),
    "Raspberry Pi OS before 2023 has kernels of the firmware alone": (
        {"boot/kernel8.img": gzipped(BANNER), "boot/kernel.img": elf("k")} | modules("6.6.1-arm"),
        ("boot/kernel8.img", None, "6.6.1-arm"),
    ),
    "Raspberry Pi OS since then has them in boot/firmware, and one in boot": (
        {"boot/firmware/kernel8.img": gzipped(BANNER), "boot/firmware/initramfs8": "i"}
        | {"boot/vmlinuz-6.6.1-arm": gzipped(BANNER), "boot/initrd.img-6.6.1-arm": "i"}
        | modules("6.6.1-arm"),
        ("boot/vmlinuz-6.6.1-arm", "boot/initrd.img-6.6.1-arm", "6.6.1-arm"),
    ),
    "the initrd of the kernel's version is taken where the link leads to another's": (
        DEBIAN
        | {
            "vmlinuz": "-> boot/vmlinuz-6.1.0-9",
            "initrd.img": "-> boot/initrd.img-6.1.0-8",
            "boot/initrd.img-6.1.0-8": "i8",
        },
        ("vmlinuz", "boot/initrd.img-6.1.0-9", "6.1.0-9"),
    ),
    "openSUSE's link has no suffix": (
        {
            "boot/vmlinuz": "-> vmlinuz-6.9",
            "boot/vmlinuz-6.9": elf("k"),
            "boot/initrd": "-> initrd-6.9",
            "boot/initrd-6.9": "i",
        }
        | modules("6.9"),
        ("boot/vmlinuz", "boot/initrd", "6.9"),
    ),
    "a file for debuggers is not a kernel where there is one": (
        {"boot/vmlinux-6.9": elf("debug"), "boot/vmlinuz-6.9": elf("k")} | modules("6.9"),
        ("boot/vmlinuz-6.9", None, "6.9"),
    ),
    "Debian has no other on ppc64el": (
        {"boot/vmlinux-6.9": elf("k"), "boot/initrd.img-6.9": "i"} | modules("6.9"),
        ("boot/vmlinux-6.9", "boot/initrd.img-6.9", "6.9"),
    ),
    "a copy of a kernel is not newer than it": (
        DEBIAN | {"boot/vmlinuz-6.1.0-9.bak": elf("k"), "boot/initrd.img-6.1.0-9.bak": "i"},
        ("boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9", "6.1.0-9"),
    ),
    "a directory of modules without modules is not one": (
        DEBIAN
        | {"boot/vmlinuz-6.9": elf("k"), "boot/initrd.img-6.9": "i", "usr/lib/modules/6.9/build": "-> /usr/src/6.9"},
        ("boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9", "6.1.0-9"),
    ),
    "a kernel without an initrd is better than none": (
        {"boot/vmlinuz-6.1.0-9": elf("k")} | modules("6.1.0-9"),
        ("boot/vmlinuz-6.1.0-9", None, "6.1.0-9"),
    ),
    "a kernel with an initrd is better than a newer one without": (
        DEBIAN | {"boot/vmlinuz-6.1.0-10": elf("k10")},
        ("boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9", "6.1.0-9"),
    ),
}


@pytest.mark.parametrize("system", FOUND)
def test_kernel(system):
    entries, (path, initrd, version) = FOUND[system]
    tree = make_tree(entries)
    found = find_kernel(tree, "lab")
    assert (found.path, found.initrd_path, found.version) == (path, initrd, version)
    with found.kernel.open() as stream:
        kernel = stream.read(1 << 20)
    assert kernel in data(tree, path) if path.endswith(".efi") else kernel == data(tree, path)
    assert (found.initrd is None) == (initrd is None)


PASSED_OVER = {
    "its modules are not there": (
        {"boot/vmlinuz-6.9": elf("k"), "boot/initrd.img-6.9": "i"},
        "no /lib/modules/6.9",
    ),
    "only a part of its modules is there": (
        {"boot/vmlinuz-6.9": elf("k"), "boot/initrd.img-6.9": "i", "usr/lib/modules/6.9/modules.order": ""},
        "no modules in /lib/modules/6.9",
    ),
    "it is cut off": (
        {"boot/vmlinuz-6.9": bzimage("6.9", 4096)} | modules("6.9"),
        "truncated: it has 1024 of 66560 bytes",
    ),
    "it is not a kernel": (
        {"boot/vmlinuz-6.9": "neither kernel nor anything else", "boot/initrd.img-6.9": "i"} | modules("6.9"),
        "not a kernel: no known header",
    ),
    "it is empty": ({"boot/vmlinuz-6.9": "", "boot/initrd.img-6.9": "i"}, "empty"),
    "it is a FIFO": ({"boot/vmlinuz-6.9": Fifo(Metadata(0o644))}, "not a regular file"),
    "it is a device": (
        {"boot/vmlinuz-6.9": Device(Metadata(0o644), DeviceKind.BLOCK, 8, 0)},
        "not a regular file",
    ),
    "it is a directory": ({"boot/vmlinuz-6.9": None}, "not a regular file"),
    "it is absurdly large": ({"boot/vmlinuz-6.9": File(Metadata(0o644), Huge())}, "larger than 1024 MiB"),
    "it is a link to the server": (
        {"boot/vmlinuz-6.9": "-> /srv/secret"},
        "a dangling symbolic link",
    ),
    "it is a link to itself": ({"boot/vmlinuz-6.9": "-> vmlinuz-6.9"}, "a dangling symbolic link"),
}


@pytest.mark.parametrize("why", PASSED_OVER)
def test_a_kernel_is_passed_over_with_a_warning_when(why):
    entries, warning = PASSED_OVER[why]
    found = find_kernel(make_tree(DEBIAN | entries), "lab")
    assert found.path == "boot/vmlinuz-6.1.0-9"
    (said,) = found.warnings
    assert said.startswith("passed over /boot/vmlinuz-6.9: ")
    assert said.endswith(warning)


def test_no_kernel_is_an_error_that_lists_the_places_searched():
    with pytest.raises(LtspError, match=r"^no kernel in lab: looked for vmlinuz, vmlinuz-\*, kernel-\*, .*") as caught:
        find_kernel(make_tree({"etc/passwd": "-> /etc/shadow", "vmlinuz": "-> /etc/shadow"} | modules("6.1")), "lab")
    assert "passed over: /vmlinuz (a dangling symbolic link)" in caught.value.message
    assert "modules of 6.1 have no kernel" in caught.value.message
    assert caught.value.hint.startswith("install one, ")
    assert "--kernel-initrd=none" in caught.value.hint


def test_a_truncated_kernel_is_an_error_if_it_is_the_only_one():
    """The disk was full when it was written; clients would stop without a reason."""
    one = bzimage("6.9", 4096)
    with pytest.raises(LtspError, match=r"truncated: it has 1024 of 66560 bytes"):
        find_kernel(make_tree({"boot/vmlinuz-6.9": one} | modules("6.9")), "lab")
    with pytest.raises(LtspError, match=r"truncated: it has 1024 of 66560 bytes"):
        find_kernel(
            make_tree({"efi/EFI/Linux/a.efi": unified((".linux", one), (".initrd", b"i"))} | modules("6.9")), "lab"
        )


def test_a_kernel_is_complete_with_a_signature_after_it_or_with_the_size_field_of_old_ones():
    whole = bzimage("6.9", 4) + bytes(64) + b"signature"
    old = bzimage("6.9", 0xFFFF_0000, protocol=0x203)
    for kernel in (whole, old):
        assert find_kernel(make_tree({"boot/vmlinuz-6.9": kernel} | modules("6.9")), "lab").warnings == ()


NOISE = "".join(map(chr, range(1, 120))) * 50
NOT_KERNELS = {
    "in /boot": {"boot/vmlinuz-6.9": NOISE},
    "with its modules": {"lib/modules/6.9/vmlinuz": NOISE},
    "where kernel-install has it": {"boot/4f1c/6.9/linux": NOISE},
    "as a link": {"vmlinuz": "-> boot/vmlinuz-6.9", "boot/vmlinuz-6.9": NOISE},
    "in a unified kernel": {"efi/EFI/Linux/4f1c-6.9.efi": unified((".uname", b"6.9"), (".linux", NOISE.encode()))},
    "on a live medium": {"live/vmlinuz": NOISE},
    "of a board": {"boot/Image": NOISE},
}


@pytest.mark.parametrize("where", NOT_KERNELS)
def test_a_file_that_is_not_a_kernel_is_named_and_not_published(where):
    path = next(iter(NOT_KERNELS[where]))
    tree = make_tree({"etc/os-release": "ID=debian\n"} | NOT_KERNELS[where] | modules_in_lib("6.9"))
    with pytest.raises(LtspError, match=r"^no kernel in lab can be booted: ") as caught:
        find_kernel(tree, "lab")
    assert f"/{path} (not a kernel: no known header)" in caught.value.message
    assert caught.value.hint.startswith("reinstall the kernel's package in the source")
    good = {"boot/vmlinuz-6.1.0-9": bzimage("6.1.0-9"), "lib/modules/6.1.0-9/modules.dep": ""}
    found = find_kernel(make_tree(NOT_KERNELS[where] | modules_in_lib("6.9") | good), "lab")
    assert found.path == "boot/vmlinuz-6.1.0-9"
    with pytest.raises(LtspError, match="not a kernel"):
        find_kernel(tree, "lab", path)


def test_the_hint_for_a_damaged_kernel_is_the_reinstall_command():
    with pytest.raises(LtspError) as caught:
        find_kernel(make_tree(DEBIAN_12 | {"boot/vmlinuz-6.9": NOISE} | modules("6.9")), "lab")
    assert (
        "reinstall the kernel's package in the source: apt-get install --reinstall linux-image-6.9; or choose one with "
        in caught.value.hint
    )


def test_a_kernel_of_another_version_than_the_modules_is_named_with_both():
    files = {"boot/vmlinuz": bzimage("6.1.0-8-amd64"), "usr/lib/modules/6.1.0-10/build": "-> /x"}
    with pytest.raises(LtspError) as caught:
        find_kernel(make_tree(DEBIAN_12 | files | modules("6.1.0-9-amd64")), "lab")
    assert caught.value.message == (
        "no kernel in lab has its modules: /boot/vmlinuz (its version is 6.1.0-8-amd64; "
        "no /lib/modules/6.1.0-8-amd64); the image has modules of 6.1.0-9-amd64"
    )
    assert caught.value.hint.startswith("install in the source: linux-image-6.1.0-8-amd64 ")


DEBIAN_12 = {"etc/os-release": "ID=debian\n"}


def test_the_hint_does_not_install_what_exists():
    with pytest.raises(LtspError, match=r"no kernel in lab has its modules: /boot/vmlinuz-6\.9 \(no ") as caught:
        find_kernel(make_tree(DEBIAN_12 | {"boot/vmlinuz-6.9": elf("k")} | modules("6.8")), "lab")
    assert caught.value.hint.startswith(
        "install in the source: linux-image-6.9 (reinstall it if it is installed); or choose one with "
    )


def test_a_kernel_that_states_another_version_than_its_name_is_refused_without_modules_for_that():
    """An interrupted upgrade: the kernel that would boot cannot use the existing modules."""
    tree = make_tree(
        DEBIAN_12 | {"boot/vmlinuz-6.6.119": bzimage("6.6.108"), "boot/initrd.img-6.6.119": "i"} | modules("6.6.119")
    )
    with pytest.raises(LtspError, match=r"its version is 6\.6\.108, not 6\.6\.119; no /lib/modules/6\.6\.108"):
        find_kernel(tree, "lab")
    with pytest.raises(LtspError, match=r"its version is 6\.6\.108, not 6\.6\.119"):
        find_kernel(make_tree({"lib/modules/6.6.119/vmlinuz": bzimage("6.6.108")} | modules_in_lib("6.6.119")), "lab")


MISNAMED = {"boot/vmlinuz-6.9": bzimage("6.8"), "boot/initrd.img-6.9": "i"} | modules("6.8", "6.9")


def test_a_kernel_that_states_another_version_than_its_name_is_the_last_resort():
    found = find_kernel(make_tree(MISNAMED | {"boot/vmlinuz-6.1.0-9": elf("k9")} | modules("6.1.0-9")), "lab")
    assert found.path == "boot/vmlinuz-6.1.0-9"
    assert str(found).endswith("passed over: /boot/vmlinuz-6.9 (its version is 6.8, not 6.9)")


def test_the_last_resort_gets_the_modules_of_its_stated_version_and_a_warning():
    found = find_kernel(make_tree(MISNAMED), "lab")
    assert (found.path, found.version, found.initrd_path) == ("boot/vmlinuz-6.9", "6.8", None)
    assert found.warnings == ("/boot/vmlinuz-6.9 is version 6.8 despite its name; clients get its modules",)


def test_a_unified_kernel_for_another_version_is_refused_too():
    one = unified((".uname", b"6.9"), (".linux", bzimage("6.8")), (".initrd", b"i"))
    with pytest.raises(LtspError, match=r"its version is 6\.8, not 6\.9; no /lib/modules/6\.8"):
        find_kernel(make_tree({"efi/EFI/Linux/a.efi": one} | modules("6.9")), "lab")


NEWER = {"boot/vmlinuz-6.1.0-10": elf("k10"), "boot/initrd.img-6.1.0-10": "i10"}
WHY = {
    "the newest": (DEBIAN, "/boot/vmlinuz-6.1.0-9 with /boot/initrd.img-6.1.0-9: newest with modules"),
    "the newest of several": (
        DEBIAN | NEWER,
        "/boot/vmlinuz-6.1.0-10 with /boot/initrd.img-6.1.0-10: newest with modules",
    ),
    "the newest with modules": (
        DEBIAN | {"boot/vmlinuz-6.9": elf("k")},
        (
            "/boot/vmlinuz-6.1.0-9 with /boot/initrd.img-6.1.0-9: newest with modules; "
            "passed over: /boot/vmlinuz-6.9 (no /lib/modules/6.9)"
        ),
    ),
    "the newest for ordinary computers": (
        DEBIAN
        | {"boot/vmlinuz-6.1.0-9-rt": elf("k"), "boot/initrd.img-6.1.0-9-rt": "i"}
        | modules("6.1.0-9-rt", "6.1.0-9"),
        "/boot/vmlinuz-6.1.0-9 with /boot/initrd.img-6.1.0-9: newest with modules",
    ),
    "the newest with an initrd": (
        DEBIAN | {"boot/vmlinuz-6.1.0-10": elf("k10")},
        (
            "/boot/vmlinuz-6.1.0-9 with /boot/initrd.img-6.1.0-9: newest with modules and an initrd; "
            "passed over: /boot/vmlinuz-6.1.0-10 (it has no initrd)"
        ),
    ),
    "the system's default, and not what is newer": (
        DEBIAN | NEWER | {"vmlinuz": "-> boot/vmlinuz-6.1.0-9", "initrd.img": "-> boot/initrd.img-6.1.0-9"},
        (
            "/vmlinuz with /initrd.img: the system's default; "
            "passed over: /boot/vmlinuz-6.1.0-10 (newer, but /vmlinuz is the system's default)"
        ),
    ),
    "the one that there is, without an initrd": (
        {"boot/vmlinuz-6.9": elf("k")} | modules("6.9"),
        "/boot/vmlinuz-6.9 without an initrd: newest with modules",
    ),
    "a unified one": (
        {"efi/EFI/Linux/a.efi": unified((".linux", bzimage("6.9")), (".initrd", b"i"))} | modules("6.9"),
        "/efi/EFI/Linux/a.efi with an embedded initrd: newest with modules",
    ),
    "of a live medium": (
        {"casper/vmlinuz": bzimage("6.9"), "casper/initrd": "i"},
        "/casper/vmlinuz with /casper/initrd: kernel of the live medium",
    ),
}


@pytest.mark.parametrize("what", WHY)
def test_a_choice_is_given_with_its_reason(what):
    entries, line = WHY[what]
    found = find_kernel(make_tree(entries), "lab")
    assert str(found) == line
    assert [each["path"] for each in found.to_json()["passed_over"]] == [each.path for each in found.passed_over]


def test_a_kernel_without_an_initrd_causes_no_warning():
    """Clients boot the client's initrd."""
    assert find_kernel(make_tree({"boot/vmlinuz-6.9": elf("k")} | modules("6.9")), "lab").warnings == ()


def test_only_a_few_dozen_files_are_searched_for_their_version():
    asked = []

    class Asked(Bytes):
        __slots__ = ()

        def open(self):
            asked.append(self)
            return super().open()

    many = {
        f"boot/vmlinuz-x{number}": File(Metadata(0o644), Asked(b"\x7fELF" + b"nothing" * 9)) for number in range(999)
    }
    assert find_kernel(make_tree(many), "lab").version is None
    assert len(asked) < 5000


def test_the_user_s_rule_prefers_what_has_modules_and_says_what_it_passed_over():
    found = find_kernel(make_tree(DEBIAN | OWN | modules("1")), "lab", "own/kernel-* s|kernel|ramdisk|")
    assert (found.path, found.initrd_path, found.reason) == (
        "own/kernel-1",
        "own/ramdisk-1",
        "chosen by --kernel-initrd",
    )
    assert [str(each) for each in found.passed_over] == ["/own/kernel-2 (no /lib/modules/2)"]


def test_a_substitution_that_finds_no_initrd_causes_a_warning():
    found = find_kernel(make_tree(DEBIAN | OWN | modules("2")), "lab", "own/kernel-2 s|kernel|nothing|")
    assert (found.path, found.initrd_path) == ("own/kernel-2", None)
    assert found.warnings == ("--kernel-initrd=own/kernel-2 matches the kernel /own/kernel-2, but no initrd",)


OWN = {
    "own/kernel-1": elf("k1"),
    "own/kernel-2": elf("k2"),
    "own/ramdisk-2": "r2",
    "own/ramdisk-1": "r1",
    "own/.kernel-9": elf("k9"),
}


def test_the_users_rule_has_precedence():
    found = find_kernel(make_tree(DEBIAN | OWN | modules("2")), "lab", "own/kernel-* s|kernel|ramdisk|")
    assert (found.path, found.initrd_path, found.version) == ("own/kernel-2", "own/ramdisk-2", "2")


def test_the_users_kernel_is_chosen_without_modules_but_with_a_warning():
    found = find_kernel(make_tree(DEBIAN | OWN), "lab", "/own/kernel-2 s|kernel|ramdisk|")
    assert found.path == "own/kernel-2"
    assert found.warnings == ("/own/kernel-2 has no modules: /lib/modules/2 is not in the image",)


def test_the_users_rule_may_name_only_a_kernel():
    found = find_kernel(make_tree(DEBIAN | OWN | modules("2")), "lab", "own/kernel-2")
    assert (found.path, found.initrd_path, found.initrd) == ("own/kernel-2", None, None)


def test_a_users_rule_that_matches_nothing_falls_back_to_the_others():
    found = find_kernel(make_tree(DEBIAN), "lab", "nowhere/* s|a|b|")
    assert found.path == "boot/vmlinuz-6.1.0-9"
    assert found.warnings == ("--kernel-initrd=nowhere/* matches no kernel; using another",)


@pytest.mark.parametrize("rule", ["", "/ s|a|b|", "live/vmlinuz s|a|b"])
def test_an_invalid_rule_is_refused(rule):
    with pytest.raises(UsageError):
        KernelRule.parse(rule)


STATED = {
    "a bzImage says it in its header": (bzimage("6.1.0-9-amd64"), "6.1.0-9-amd64"),
    "an arm64 Image has the banner": (BANNER, "6.6.1-arm"),
    "so has a compressed one": (gzipped(BANNER), "6.6.1-arm"),
    "so has one that unpacks itself": (zboot(gzipped(BANNER), b"gzip"), "6.6.1-arm"),
    "the banner may lie across two pieces": (bytes((1 << 20) - 20) + BANNER[-60:], "6.6.1-arm"),
    "which may have been compressed in other ways": (zboot(zstd.compress(BANNER), b"zstd"), "6.6.1-arm"),
    "by xz": (zboot(lzma.compress(BANNER), b"xzkern"), "6.6.1-arm"),
    "by lzma": (zboot(lzma.compress(BANNER, lzma.FORMAT_ALONE), b"lzma"), "6.6.1-arm"),
    "another compression is not known": (zboot(b"x" * 100, b"lzo"), None),
    "a zImage has it compressed behind its loader": (zimage(gzipped(BANNER)), "6.6.1-arm"),
    "a uImage behind its header": (b"\x27\x05\x19\x56" + bytes(60) + gzipped(BANNER), "6.6.1-arm"),
    "what would be a path in lib/modules is not a version": (b"Linux version 6.6/../../etc (x) ", None),
    "a truncated file says nothing": (gzipped(BANNER)[:40], None),
    "a damaged one neither": (gzipped(BANNER)[:20] + b"\xff" * 50, None),
    "an offset of zero means that there is no version": (bzimage("6.1")[:0x20E] + b"\0\0", None),
    "an offset beyond the file neither": (bzimage("6.1")[:0x20E] + b"\xff\xff", None),
    "what is no version is none": (bzimage("../../etc"), None),
    "an empty file says nothing": (b"", None),
}


HEADERS = {
    "bzImage": bzimage("6.1"),
    "EFI stub": b"MZ".ljust(0x3C, b"\0") + b"\x80\0\0\0".ljust(0x44, b"\0") + b"PE\0\0",
    "zboot": zboot(b"x", b"gzip"),
    "Image of arm64": bytes(0x38) + b"ARM\x64",
    "Image of riscv64": bytes(0x38) + b"RSC\x05",
    "Image.gz": gzipped(b"x"),
    "zImage": zimage(b""),
    "uImage": b"\x27\x05\x19\x56",
    "vmlinux": b"\x7fELF",
    "zstd": zstd.compress(b"x"),
    "xz": lzma.compress(b"x"),
    "s390x": bytes(0x10008) + b"S390EP",
}


@pytest.mark.parametrize("form", HEADERS)
def test_kernels_of_all_forms_have_a_header(form):
    assert looks_like_kernel(Bytes(HEADERS[form] + bytes(64)))


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + b"\xff" * 70, b"#!/bin/sh\n", bytes(0x20000), b"hsqs" * 999])
def test_other_files_have_no_header(data):
    assert not looks_like_kernel(Bytes(data))


@pytest.mark.parametrize("how", STATED)
def test_stated_version(how):
    content, version = STATED[how]
    assert read_embedded_version(Bytes(content)) == version


CONFIG = "CONFIG_SQUASHFS=m\nCONFIG_SQUASHFS_ZLIB=y\n# CONFIG_SQUASHFS_LZ4 is not set\nCONFIG_SQUASHFS_ZSTD=y\n"
MODULE = b"\x7fELF\0zlib_inflate\0xz_dec_run\0ZSTD_decompressStream\0"


def test_the_configuration_says_which_compressions_the_kernel_reads():
    tree = make_tree({"boot/config-6.1": CONFIG})
    assert find_squashfs_codecs(tree, "6.1") == {"gzip", "zstd"}
    assert find_squashfs_codecs(tree, "6.2") is None
    assert find_squashfs_codecs(tree, None) is None


def test_a_kernel_without_squashfs_supports_no_compression():
    assert find_squashfs_codecs(make_tree({"boot/config-6.1": "CONFIG_SQUASHFS_ZSTD=y\n"}), "6.1") == frozenset()


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_without_a_configuration_the_module_is_inspected(suffix):
    pack = {"": bytes, ".gz": gzipped, ".xz": lzma.compress, ".zst": zstd.compress}[suffix]
    path = f"lib/modules/6.1/kernel/fs/squashfs/squashfs.ko{suffix}"
    assert find_squashfs_codecs(make_tree({path: pack(MODULE)}), "6.1") == {"gzip", "xz", "zstd"}
    if suffix:
        assert find_squashfs_codecs(make_tree({path: b"damaged"}), "6.1") is None


@pytest.mark.oracle
def test_the_kernel_of_a_real_root_is_found(debian_root):
    with DirectorySource("debian", str(debian_root), "a real root").open(select_all, Faults()) as tree:
        found = find_kernel(tree, "debian")
        assert (found.path, found.initrd_path, found.warnings) == ("vmlinuz", "initrd.img", ())
        assert found.version == read_embedded_version(found.kernel)
        by_configuration = find_squashfs_codecs(tree, found.version)
        without = tree.edit({f"boot/config-{found.version}": None})
        assert find_squashfs_codecs(without, found.version) == by_configuration
        assert by_configuration >= {"gzip", "xz", "zstd"}
