from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.elf_files import ARM64, I386, X86_64, module, program, relocatable
from ltsp.errors import FormatError
from ltsp.initrd.elf import Elf


@pytest.mark.parametrize(("target", "text"), [(X86_64, "x86-64"), (ARM64, "arm64"), (I386, "i386")])
def test_a_program_names_its_loader_and_its_libraries(target, text):
    elf = Elf.parse(program(target, "/lib/ld.so.2", ["libc.so.6", "libm.so.6"]))
    assert str(elf.target) == text
    assert elf.interpreter() == "/lib/ld.so.2"
    assert elf.needed_libraries() == ("libc.so.6", "libm.so.6")
    assert not elf.is_static


def test_a_program_without_loader_and_libraries_is_static():
    assert Elf.parse(program()).is_static


def test_a_library_has_no_loader_and_is_not_static():
    assert not Elf.parse(program(needed=["libc.so.6"])).is_static


@pytest.mark.parametrize("target", [X86_64, I386])
def test_sections_are_found_by_name(target):
    elf = Elf.parse(relocatable({".text": b"code", ".modinfo": b"a=b\0"}, target))
    assert elf.section(".modinfo") == b"a=b\0"
    assert elf.section(".other") is None


@pytest.mark.parametrize("target", [X86_64, I386])
def test_undefined_symbols_are_those_that_a_module_imports(target):
    elf = Elf.parse(module(target=target, wants=["register_netdev", "usbnet_probe"]))
    assert elf.undefined_symbols() == {"register_netdev", "usbnet_probe"}
    assert elf.section(".text") == b"\xc3" * 40
    assert Elf.parse(module(target=target)).undefined_symbols() is None


def test_a_machine_without_a_name_is_shown_by_its_number():
    assert str(Elf.parse(program((64, 258))).target) == "ELF machine 258"


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x03\x01" + bytes(100)])
def test_other_files_are_not_elf_files(data):
    with pytest.raises(FormatError, match="not an ELF file"):
        Elf.parse(data)


def _everything(data: bytes) -> None:
    elf = Elf.parse(data)
    elf.interpreter()
    elf.needed_libraries()
    elf.section(".modinfo")
    elf.undefined_symbols()


WHOLE = program(interpreter="/lib/ld.so", needed=["liba.so", "libb.so"])


@given(st.sampled_from([WHOLE, module(["alias=x"]), module(["alias=x"], I386)]), st.data())
def test_damaged_files_raise_format_errors_and_nothing_else(data, draw):
    broken = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        broken[draw.draw(st.integers(4, len(broken) - 1))] = draw.draw(st.integers(0, 255))
    with suppress(FormatError):
        _everything(bytes(broken[: draw.draw(st.integers(52, len(broken)))]))


@pytest.mark.oracle
@pytest.mark.parametrize("path", ["/usr/bin/cpio", "/usr/bin/busybox", "/usr/sbin/nbd-client"])
def test_readelf_agrees(path):
    said = subprocess.run(
        ["readelf", "-Wld", path], capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"}
    ).stdout
    needed = tuple(line.split("[")[1].rstrip("]") for line in said.splitlines() if "(NEEDED)" in line)
    loaders = [line.split(": ")[1].rstrip("]") for line in said.splitlines() if "Requesting program" in line]
    elf = Elf.parse(Path(path).read_bytes())
    assert elf.needed_libraries() == needed
    assert elf.interpreter() == (loaders[0] if loaders else None)
