"""Unified kernels: their sections, compared with binutils, and files that only look like one."""

from __future__ import annotations

import struct
import subprocess

import pytest

from corpus.dict_tree import make_tree
from corpus.unified_kernels import unified
from ltsp.boot.kernel import find_kernel
from ltsp.boot.unified_kernel import UnifiedKernel
from ltsp.errors import FormatError, LtspError
from ltsp.tree.content import Bytes

PARTS = (
    (".osrel", b"ID=fedora\n"),
    (".uname", b"6.6.1\n\0"),
    (".initrd", b"initrd" * 999),
    (".linux", b"kernel" * 999),
)


def content(part):
    with part.open() as stream:
        return stream.read(1 << 20)


def test_kernel_initrd_and_version_are_its_sections():
    found = UnifiedKernel.parse(Bytes(unified(*PARTS)))
    assert (content(found.kernel), content(found.initrd), found.version) == (PARTS[3][1], PARTS[2][1], "6.6.1")


@pytest.mark.oracle
def test_binutils_see_the_same_sections(tmp_path):
    file = tmp_path / "linux.efi"
    file.write_bytes(unified(*PARTS))
    listed = subprocess.run(["objdump", "-h", file], capture_output=True, text=True, check=True).stdout
    assert "pei-x86-64" in listed
    found = UnifiedKernel.parse(Bytes(file.read_bytes()))
    for name, part in ((".linux", found.kernel), (".initrd", found.initrd)):
        subprocess.run(["objcopy", f"--dump-section={name}={tmp_path}/part", file, tmp_path / "copy"], check=True)
        assert (tmp_path / "part").read_bytes()[: part.size] == content(part)


NONE = {
    "an addition to one has no kernel": unified((".cmdline", b"quiet")),
    "a program without an EFI header": b"MZ" + bytes(0x100),
    "a header that lies beyond the file": unified(*PARTS)[:0x3C] + struct.pack("<I", 1 << 31) + bytes(0x100),
    "a table that lies beyond the file": unified(*PARTS)[:0x90],
    "no program at all": b"\x7fELF" + bytes(0x100),
    "an empty file": b"",
}


@pytest.mark.parametrize("what", NONE)
def test_other_files_are_not_unified_kernels(what):
    assert UnifiedKernel.parse(Bytes(NONE[what])) is None


def test_the_first_of_several_profiles_overrides_the_sections_before_it():
    profile = (".profile", b"ID=x\n")
    one = unified(
        (".linux", b"base"), (".initrd", b"base"), profile, (".initrd", b"first"), profile, (".initrd", b"second")
    )
    found = UnifiedKernel.parse(Bytes(one))
    assert (content(found.kernel), content(found.initrd)) == (b"base", b"first")


@pytest.mark.parametrize("name", [".linux", ".initrd", ".uname"])
@pytest.mark.parametrize(("virtual", "raw", "offset"), [(0, 0, 0), (1 << 31, 1 << 31, 512), (9, 512, (1 << 32) - 1)])
def test_a_section_beyond_the_end_of_the_file_is_refused(name, virtual, raw, offset):
    data = bytearray(unified(*PARTS))
    at = data.index(name.encode().ljust(8, b"\0"))
    struct.pack_into("<II", data, at + 8, virtual, 0)
    struct.pack_into("<II", data, at + 16, raw, offset)
    with pytest.raises(FormatError, match=f"section {name} extends beyond the end of the file"):
        UnifiedKernel.parse(Bytes(bytes(data)))


def test_a_damaged_file_is_a_unified_kernel_or_refused(chance):
    whole = unified(*PARTS)
    for _ in range(2000):
        data = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
        for _ in range(chance.randrange(6)):
            if data:
                data[chance.randrange(min(len(data), 0x400))] = chance.randrange(256)
        try:
            found = UnifiedKernel.parse(Bytes(bytes(data)))
        except FormatError:
            continue
        for part in (found.kernel, found.initrd) if found else ():
            assert part is None or len(content(part)) == part.size <= len(data)


def test_another_file_in_place_of_a_unified_kernel_is_passed_over():
    with pytest.raises(LtspError, match=r"EFI/Linux/a\.efi \(it has no section \.linux"):
        find_kernel(make_tree({"efi/EFI/Linux/a.efi": unified((".cmdline", b"quiet"))}), "lab")
