from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from corpus.dict_tree import make_tree
from corpus.elf_files import ARM64, I386, X86_64, program
from ltsp.errors import LtspError
from ltsp.initrd.elf import Elf
from ltsp.initrd.program_file import BUSYBOX_APPLETS, find_busybox, find_program, make_image_reader

LIBC = program(needed=["ld-linux.so.2"])
LOADER = program()
NBD = program(interpreter="/lib64/ld-linux.so.2", needed=["libnl.so", "libc.so.6"])
IMAGE = {
    "usr/sbin/nbd-client": NBD,
    "sbin": "-> usr/sbin",
    "lib64": "-> usr/lib64",
    "usr/lib64/ld-linux.so.2": LOADER,
    "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
    "usr/lib/x86_64-linux-gnu/libnl.so": "-> libnl.so.200",
    "usr/lib/x86_64-linux-gnu/libnl.so.200": program(needed=["libc.so.6"]),
}
PATHS = ("usr/sbin/nbd-client",)


def found(entries, paths=PATHS):
    return find_program(make_image_reader(make_tree(entries)), paths)


def test_a_program_comes_with_its_loader_and_all_libraries_that_the_headers_name():
    nbd = found(IMAGE)
    assert nbd is not None
    assert nbd.data == NBD
    assert set(nbd.libraries) == {"ld-linux.so.2", "libc.so.6", "libnl.so"}
    assert nbd.libraries["libc.so.6"] == LIBC


def test_a_static_program_needs_nothing():
    nbd = found({"usr/sbin/nbd-client": program()})
    assert nbd is not None
    assert nbd.libraries == {}


def test_a_library_for_another_machine_is_passed_over():
    entries = IMAGE | {"usr/lib/libfoo.so": program(I386), "usr/sbin/nbd-client": program(needed=["libfoo.so"])}
    assert found(entries) is None


@pytest.mark.parametrize("path", ["usr/lib64/ld-linux.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6"])
def test_a_program_without_its_loader_or_library_is_not_found(path):
    assert found({name: what for name, what in IMAGE.items() if name != path}) is None


def test_the_next_path_is_tried_if_one_is_not_a_program():
    entries = {"usr/sbin/nbd-client": "#!/bin/sh\n", "usr/bin/nbd-client": program()}
    nbd = found(entries, ("usr/sbin/nbd-client", "usr/bin/nbd-client", "absent"))
    assert nbd is not None
    assert nbd.path == "usr/bin/nbd-client"


def test_links_of_an_image_never_lead_to_a_file_of_the_server():
    assert make_image_reader(make_tree({"bin/busybox": "-> /usr/bin/env"}))("bin/busybox") is None


@pytest.mark.oracle
def test_the_libraries_are_those_that_the_loader_lists():
    def read(path):
        return Path("/", path).read_bytes() if Path("/", path).is_file() else None

    nbd = find_program(read, PATHS)
    assert nbd is not None
    said = subprocess.run(["ldd", "/usr/sbin/nbd-client"], capture_output=True, text=True, check=True).stdout
    names = {os.path.basename(line.split()[0]) for line in said.splitlines()} - {"linux-vdso.so.1"}
    assert set(nbd.libraries) == names


GOOD = program(applets=BUSYBOX_APPLETS)
TARGETS = {Elf.parse(program(X86_64)).target}


def busybox(image, server=None, given=None, targets=TARGETS):
    return find_busybox(make_image_reader(make_tree(image)), make_image_reader(make_tree(server or {})), given, targets)


def test_the_images_own_static_busybox_comes_first():
    chosen = busybox(
        {"usr/bin/busybox": GOOD, "bin": "-> usr/bin"}, {"bin/busybox": program(applets=[*BUSYBOX_APPLETS, "vi"])}
    )
    assert (chosen.data, chosen.origin) == (GOOD, "/bin/busybox of the image")


def test_the_images_own_may_be_for_another_machine_than_its_kernel():
    small = program(I386, applets=BUSYBOX_APPLETS)
    assert busybox({"bin/busybox": small}).data == small


def test_the_servers_busybox_is_used_if_the_images_is_not_static():
    chosen = busybox({"bin/busybox": program(needed=["libc.so.6"])}, {"usr/bin/busybox": GOOD})
    assert chosen.origin == "/usr/bin/busybox of this server"


def test_a_given_busybox_has_precedence():
    assert busybox({"bin/busybox": program(applets=[*BUSYBOX_APPLETS, "vi"])}, given=GOOD).data == GOOD


@pytest.mark.parametrize(
    ("image", "server", "reason"),
    [
        ({}, {}, "no static busybox for x86-64: not found in the image or on this server"),
        ({"bin/busybox": program(needed=["libc.so.6"])}, {}, "/bin/busybox of the image is not static"),
        ({}, {"bin/busybox": program(ARM64, applets=BUSYBOX_APPLETS)}, "/bin/busybox of this server is for arm64"),
        ({"bin/busybox": program(applets=BUSYBOX_APPLETS[:-2])}, {}, "/bin/busybox of the image lacks uname, wget"),
    ],
    ids=["none", "with libraries", "another machine", "built without what is needed"],
)
def test_without_a_suitable_busybox_the_error_says_what_was_found_and_names_the_package(image, server, reason):
    with pytest.raises(LtspError, match=reason) as caught:
        busybox(image, server)
    assert "busybox-static" in caught.value.hint
    assert "--busybox FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"#!/bin/sh", "of --busybox cannot be used: it is not an ELF file"),
        (program(ARM64, applets=BUSYBOX_APPLETS), "of --busybox is for arm64"),
        (program(needed=["libc.so.6"]), "of --busybox is not static"),
    ],
)
def test_a_given_busybox_that_is_not_suitable_is_an_error(given, reason):
    with pytest.raises(LtspError, match=reason):
        busybox({"bin/busybox": GOOD}, given=given)


@pytest.mark.oracle
def test_a_distributions_busybox_has_all_required_applets():
    data = Path("/usr/bin/busybox").read_bytes()
    listed = subprocess.run(["/usr/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    assert set(BUSYBOX_APPLETS) <= set(listed)
    assert busybox({}, {"usr/bin/busybox": data}).data == data
