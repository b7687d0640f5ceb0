"""Kernels found by a table, tested by a table whose keys are sentences."""

import struct
import zlib

import pytest

from corpus.planted import data, planted
from ltsp.boot.codecs import readable_codecs
from ltsp.boot.kernel import Rule, find_kernel
from ltsp.boot.kernel_header import stated_version
from ltsp.errors import LtspError, UsageError
from ltsp.source.directory import DirectorySource
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Device, DeviceKind, Fifo, File, Metadata
from ltsp.tree.selection import everything


def modules(*versions):
    return {f"usr/lib/modules/{version}/modules.dep": "" for version in versions} | {"lib": "-> usr/lib"}


def bzimage(version):
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x100)
    text = f"{version} (builder@host) #1 SMP\0".encode()
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head)


class Huge:
    size = 1 << 40

    def open(self):
        raise AssertionError("a file too large to be a kernel is not read")


DEBIAN = {"boot/vmlinuz-6.1.0-9": "k9", "boot/initrd.img-6.1.0-9": "i9"} | modules("6.1.0-9", "6.1.0-10", "6.1.0-rc1")
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
        DEBIAN | {"boot/vmlinuz-6.1.0-10": "k10", "boot/initrd.img-6.1.0-10": "i10"},
        ("boot/vmlinuz-6.1.0-10", "boot/initrd.img-6.1.0-10", "6.1.0-10"),
    ),
    "a release is newer than its candidate": (
        DEBIAN | {"boot/vmlinuz-6.1.0-rc1": "krc", "boot/initrd.img-6.1.0-rc1": "irc"},
        ("boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9", "6.1.0-9"),
    ),
    "the top comes before boot": (
        DEBIAN | {"vmlinuz-6.1.0-9": "k", "initrd.img-6.1.0-9": "i"},
        ("vmlinuz-6.1.0-9", "initrd.img-6.1.0-9", "6.1.0-9"),
    ),
    "Fedora has an initramfs, and a rescue kernel that comes last": (
        {"boot/vmlinuz-6.5.6-300.fc39.x86_64": "k", "boot/initramfs-6.5.6-300.fc39.x86_64.img": "i"}
        | {"boot/vmlinuz-0-rescue-abc": "r", "boot/initramfs-0-rescue-abc.img": "r"}
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
        {"live/vmlinuz-6.1.0-9-amd64": "k", "live/initrd.img-6.1.0-9-amd64": "i"},
        ("live/vmlinuz-6.1.0-9-amd64", "live/initrd.img-6.1.0-9-amd64", "6.1.0-9-amd64"),
    ),
    "Tiny Core has a core.gz": (
        {"boot/vmlinuz": "no header", "boot/core.gz": "i"},
        ("boot/vmlinuz", "boot/core.gz", None),
    ),
    "a kernel without an initrd is better than none": (
        {"boot/vmlinuz-6.1.0-9": "k"} | modules("6.1.0-9"),
        ("boot/vmlinuz-6.1.0-9", None, "6.1.0-9"),
    ),
    "a kernel with an initrd is better than a newer one without": (
        DEBIAN | {"boot/vmlinuz-6.1.0-10": "k10"},
        ("boot/vmlinuz-6.1.0-9", "boot/initrd.img-6.1.0-9", "6.1.0-9"),
    ),
}


@pytest.mark.parametrize("system", FOUND)
def test_kernel(system):
    entries, (path, initrd, version) = FOUND[system]
    tree = planted(entries)
    found = find_kernel(tree, "lab")
    assert (found.path, found.initrd_path, found.version) == (path, initrd, version)
    with found.kernel.open() as stream:
        assert stream.read(1 << 20) == data(tree, path)
    assert (found.initrd is None) == (initrd is None)


PASSED_OVER = {
    "its modules are not there": (
        {"boot/vmlinuz-6.9": "k", "boot/initrd.img-6.9": "i"},
        "/lib/modules/6.9 is not in the image",
    ),
    "it is empty": ({"boot/vmlinuz-6.9": "", "boot/initrd.img-6.9": "i"}, "it is empty"),
    "it is a FIFO": ({"boot/vmlinuz-6.9": Fifo(Metadata(0o644))}, "it is not a regular file"),
    "it is a device": (
        {"boot/vmlinuz-6.9": Device(Metadata(0o644), DeviceKind.BLOCK, 8, 0)},
        "it is not a regular file",
    ),
    "it is a directory": ({"boot/vmlinuz-6.9": None}, "it is not a regular file"),
    "it is absurdly large": ({"boot/vmlinuz-6.9": File(Metadata(0o644), Huge())}, "it is larger than 512 MiB"),
    "it is a link to the server": (
        {"boot/vmlinuz-6.9": "-> /srv/secret"},
        "a link that leads nowhere inside the image",
    ),
    "it is a link to itself": ({"boot/vmlinuz-6.9": "-> vmlinuz-6.9"}, "a link that leads nowhere inside the image"),
}


@pytest.mark.parametrize("why", PASSED_OVER)
def test_a_kernel_is_passed_over_with_a_warning_when(why):
    entries, warning = PASSED_OVER[why]
    found = find_kernel(planted(DEBIAN | entries), "lab")
    assert found.path == "boot/vmlinuz-6.1.0-9"
    (said,) = found.warnings
    assert said.startswith("/boot/vmlinuz-6.9 is passed over: ")
    assert said.endswith(warning)


def test_no_kernel_is_an_error_that_says_where_was_looked():
    with pytest.raises(
        LtspError, match=r"^no kernel in lab: looked for boot/\*/loader/linux, .*, vmlinuz, vmlinuz-\*"
    ) as caught:
        find_kernel(planted({"etc/passwd": "-> /etc/shadow", "vmlinuz": "-> /etc/shadow"}), "lab")
    assert "/vmlinuz is passed over" in caught.value.message
    assert "--kernel-initrd=none" in caught.value.hint


OWN = {"own/kernel-1": "k1", "own/kernel-2": "k2", "own/ramdisk-2": "r2", "own/ramdisk-1": "r1", "own/.kernel-9": "k9"}


def test_the_users_rule_comes_first():
    found = find_kernel(planted(DEBIAN | OWN | modules("2")), "lab", "own/kernel-* s|kernel|ramdisk|")
    assert (found.path, found.initrd_path, found.version) == ("own/kernel-2", "own/ramdisk-2", "2")


def test_the_users_kernel_is_taken_without_its_modules_and_that_is_said():
    found = find_kernel(planted(DEBIAN | OWN), "lab", "/own/kernel-2 s|kernel|ramdisk|")
    assert found.path == "own/kernel-2"
    assert found.warnings == ("/own/kernel-2 has no modules: /lib/modules/2 is not in the image",)


def test_the_users_rule_may_name_a_kernel_alone():
    found = find_kernel(planted(DEBIAN | OWN | modules("2")), "lab", "own/kernel-2")
    assert (found.path, found.initrd_path, found.initrd) == ("own/kernel-2", None, None)


def test_a_users_rule_that_finds_nothing_leaves_it_to_the_others():
    assert find_kernel(planted(DEBIAN), "lab", "nowhere/* s|a|b|").path == "boot/vmlinuz-6.1.0-9"


@pytest.mark.parametrize("rule", ["", "/ s|a|b|", "live/vmlinuz s|a|b"])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(UsageError):
        Rule.parse(rule)


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


STATED = {
    "a bzImage says it in its header": (bzimage("6.1.0-9-amd64"), "6.1.0-9-amd64"),
    "an arm64 Image has the banner": (BANNER, "6.6.1-arm"),
    "so has a compressed one": (gzipped(BANNER), "6.6.1-arm"),
    "so has one that unpacks itself": (zboot(gzipped(BANNER), b"gzip"), "6.6.1-arm"),
    "the banner may lie across two pieces": (bytes((1 << 20) - 20) + BANNER[-60:], "6.6.1-arm"),
    "another compression is not known": (zboot(b"x" * 100, b"xzkern"), None),
    "a truncated file says nothing": (gzipped(BANNER)[:40], None),
    "a damaged one neither": (gzipped(BANNER)[:20] + b"\xff" * 50, None),
    "an offset of zero means that there is no version": (bzimage("6.1")[:0x20E] + b"\0\0", None),
    "an offset beyond the file neither": (bzimage("6.1")[:0x20E] + b"\xff\xff", None),
    "what is no version is none": (bzimage("../../etc"), None),
    "an empty file says nothing": (b"", None),
}


@pytest.mark.parametrize("how", STATED)
def test_stated_version(how):
    content, version = STATED[how]
    assert stated_version(Bytes(content)) == version


CONFIG = "CONFIG_SQUASHFS=m\nCONFIG_SQUASHFS_ZLIB=y\n# CONFIG_SQUASHFS_LZ4 is not set\nCONFIG_SQUASHFS_ZSTD=y\n"
MODULE = b"\x7fELF\0zlib_inflate\0xz_dec_run\0ZSTD_decompressStream\0"


def test_the_configuration_says_which_compressions_the_kernel_reads():
    tree = planted({"boot/config-6.1": CONFIG})
    assert readable_codecs(tree, "6.1") == {"gzip", "zstd"}
    assert readable_codecs(tree, "6.2") is None
    assert readable_codecs(tree, None) is None


def test_a_kernel_without_squashfs_reads_none():
    assert readable_codecs(planted({"boot/config-6.1": "CONFIG_SQUASHFS_ZSTD=y\n"}), "6.1") == frozenset()


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_without_a_configuration_the_module_is_asked(suffix):
    import lzma  # noqa: PLC0415

    from ltsp.boot.codecs import zstd  # noqa: PLC0415

    pack = {"": bytes, ".gz": gzipped, ".xz": lzma.compress, ".zst": zstd.compress}[suffix]
    path = f"lib/modules/6.1/kernel/fs/squashfs/squashfs.ko{suffix}"
    assert readable_codecs(planted({path: pack(MODULE)}), "6.1") == {"gzip", "xz", "zstd"}
    if suffix:
        assert readable_codecs(planted({path: b"damaged"}), "6.1") is None


@pytest.mark.oracle
def test_a_real_root_gives_its_kernel(debian_root):
    with DirectorySource("debian", str(debian_root), "a real root").open(everything, Faults()) as tree:
        found = find_kernel(tree, "debian")
        assert (found.path, found.initrd_path, found.warnings) == ("vmlinuz", "initrd.img", ())
        assert found.version == stated_version(found.kernel)
        by_configuration = readable_codecs(tree, found.version)
        without = tree.edit({f"boot/config-{found.version}": None})
        assert readable_codecs(without, found.version) == by_configuration
        assert by_configuration >= {"gzip", "xz", "zstd"}
