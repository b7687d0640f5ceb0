from __future__ import annotations

import hashlib
import io
import lzma
from pathlib import Path

import pytest

from corpus.dict_tree import data, make_tree, paths
from corpus.elf_files import ARM64, module, program
from ltsp.cpio.compression import compress
from ltsp.cpio.newc import write_archive
from ltsp.errors import FileUnreadable, FormatError, LtspError
from ltsp.initrd.client_tree import ClientInitrd, ClientOptions, build_client_tree
from ltsp.initrd.kernel_modules import KernelModules
from ltsp.initrd.module_file import ModuleFile
from ltsp.initrd.program_file import BUSYBOX_APPLETS, ServerPrograms
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.faults import Faults
from ltsp.tree.node import Device, Directory, File, Metadata
from ltsp.tree.selection import select_all

MODULES = "usr/lib/modules/6.1.0"
E1000, PTP, OVERLAY = "kernel/drivers/net/ethernet/intel/e1000.ko", "kernel/drivers/ptp/ptp.ko", "kernel/fs/overlay.ko"
IMAGE = {
    "lib": "-> usr/lib",
    "bin": "-> usr/bin",
    "usr/bin/busybox": program(applets=BUSYBOX_APPLETS),
    f"{MODULES}/modules.dep": f"{E1000}.xz: {PTP}\n{PTP}:\n{OVERLAY}:\n",
    f"{MODULES}/modules.builtin": "kernel/fs/squashfs/squashfs.ko\n",
    f"{MODULES}/{E1000}.xz": lzma.compress(
        module(["alias=pci:v00008086d*", "firmware=e1000.fw", "alias=two words", "firmware=../../etc/shadow"])
    ),
    f"{MODULES}/{PTP}": module(["alias=ptp-alias"]),
    f"{MODULES}/{OVERLAY}": module(["alias=fs-overlay"]),
    "usr/lib/firmware/e1000.fw": "firmware",
}


def made(changes=None, options=None, server=None) -> ClientInitrd:
    image = make_tree(IMAGE | (changes or {}))
    return build_client_tree(image, KernelModules.read(image, "6.1.0"), options, server)


def text(initrd: ClientInitrd, path: str) -> list[str]:
    return (data(initrd.tree, path) or b"").decode().splitlines()


def test_modules_are_decompressed_next_to_the_lists_that_the_shell_reads():
    initrd = made()
    assert data(initrd.tree, f"ltsp/modules/6.1.0/{E1000}").startswith(b"\x7fELF")
    assert text(initrd, "ltsp/modules.order") == [f"base {OVERLAY}", f"net {PTP}", f"net {E1000}"]
    assert f"{E1000}: {PTP} {E1000}" in text(initrd, "ltsp/modules.load")
    assert set(text(initrd, "ltsp/modules.alias")) == {
        f"pci:v00008086d* {E1000}", f"ptp-alias {PTP}", f"fs-overlay {OVERLAY}"
    }  # fmt: skip
    assert text(initrd, "ltsp/version") == ["6.1.0"]
    assert initrd.modules["net"] == (PTP, E1000)


def test_the_last_dependency_of_depmods_line_is_loaded_first():
    deep = {f"{MODULES}/modules.dep": f"{E1000}.xz: {PTP} {OVERLAY}\n{PTP}: {OVERLAY}\n{OVERLAY}:\n"}
    assert f"{E1000}: {OVERLAY} {PTP} {E1000}" in text(made(deep), "ltsp/modules.load")


def test_the_shell_code_starts_with_init():
    tree = made().tree
    init = tree.get("ltsp/init")
    assert isinstance(init, File)
    assert init.metadata.mode == 0o755
    assert data(tree, "ltsp/init").startswith(b"#!/ltsp/bin/busybox sh\n")
    assert "ltsp/sh/message.sh" in paths(tree)


def test_files_of_a_distributions_initrd_are_not_replaced():
    """It is unpacked first; its /lib is a link, and that of dracut's hooks may be one."""
    initrd = made()
    assert {"init", "bin", "lib", "lib64", "sbin"}.isdisjoint(paths(initrd.tree))
    hooks = {f"{place}/lib/dracut/hooks/{hook}" for place in ("usr", "var") for hook in ("cmdline", "mount")}
    assert {f"{hook}/99-ltsp.sh" for hook in hooks} <= paths(initrd.tree)
    above = {"usr", "var", "usr/lib", "var/lib"}
    assert initrd.existing_directories == {
        *above,
        *(f"{path}/dracut{rest}" for path in ("usr/lib", "var/lib") for rest in ("", "/hooks")),
        *hooks,
    }
    assert b"BOOT=netboot\n" in data(initrd.tree, "conf/conf.d/zz-ltsp")
    assert b"mountroot() {" in data(initrd.tree, "scripts/netboot")


def test_paths_that_the_kernel_and_the_shell_need_exist():
    tree = made().tree
    console = tree.get("dev/console")
    assert isinstance(console, Device)
    assert (console.major, console.minor) == (5, 1)
    assert all(isinstance(tree.get(name), Directory) for name in ("proc", "sys", "run", "root", "dev"))


def test_firmware_is_included_and_no_other_file_can_be_requested():
    initrd = made()
    assert data(initrd.tree, "ltsp/firmware/e1000.fw") == b"firmware"
    assert initrd.absent_firmware == ()
    assert not any("shadow" in path for path in paths(initrd.tree))


def test_firmware_beyond_the_limit_is_listed():
    initrd = made(options=ClientOptions(firmware_limit=3))
    assert initrd.left_out_firmware == ("e1000.fw",)
    assert any("left out 1 firmware files beyond" in warning for warning in initrd.warnings)


def test_owner_and_times_are_zero_so_that_bytes_are_the_same():
    metadata = {(node.metadata.uid, node.metadata.gid, node.metadata.mtime) for _, node in made().tree.walk()}
    assert metadata == {(0, 0, 0)}
    assert archive(made()) == archive(made())


def archive(initrd: ClientInitrd) -> bytes:
    output = io.BytesIO()
    write_archive(initrd.tree, output)
    return output.getvalue()


def test_the_servers_nbd_client_is_used_for_an_image_of_the_same_architecture():
    def lending(target):
        tree = {"usr/sbin/nbd-client": program(target, "/lib/ld.so.1", ["libc.so"]), "lib/ld.so.1": program(target)}
        files = tree | {"usr/lib/libc.so": program(target)}
        return ServerPrograms(files.get)

    lent = made(server=lending((64, 62)))
    assert lent.nbd is not None
    assert {"ltsp/bin/nbd-client", "ltsp/lib/ld.so.1", "ltsp/lib/libc.so"} <= paths(lent.nbd)
    assert made(server=lending(ARM64)).nbd is None
    assert made(options=ClientOptions(nbd=False), server=lending((64, 62))).nbd is None


def test_files_for_nbd_are_not_in_the_initrd_of_all_clients():
    with_nbd = made(server=ServerPrograms({"usr/sbin/nbd-client": program()}.get))
    assert paths(with_nbd.tree) == paths(made().tree)
    assert paths(with_nbd.nbd) == {"ltsp", "ltsp/bin", "ltsp/bin/nbd-client"}


def test_without_nbd_client_the_package_is_named():
    assert any("install the package nbd-client" in warning for warning in made().warnings)


def test_a_chosen_driver_that_is_missing_is_named():
    (warning,) = (w for w in made(options=ClientOptions(network_drivers=("e1000", "r8169"))).warnings if "driver" in w)
    assert warning == "kernel 6.1.0 has no module r8169 (network driver)"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({f"{MODULES}/{PTP}": None}, f"modules.dep names /lib/modules/6.1.0/{PTP}, which is not in the image"),
        ({f"{MODULES}/{PTP}": "text"}, "ptp.ko is not a kernel module: it is not an ELF file"),
        ({f"{MODULES}/{E1000}.xz": b"\xfd7zXZ\0" + b"x" * 50}, r"e1000.ko.xz is damaged"),
    ],
    ids=["missing", "no module", "damaged"],
)
def test_a_missing_or_damaged_module_is_an_error_that_names_it(changes, reason):
    with pytest.raises(FormatError, match=reason):
        made(changes)


class Failing:
    """A file on a disk that fails."""

    size = 100

    def open(self):
        raise OSError(5, "Input/output error")


def test_a_module_that_cannot_be_read_is_an_error_of_the_source():
    with pytest.raises(FileUnreadable, match="cannot read a module or firmware file of the image: Input/output error"):
        made({f"{MODULES}/{PTP}": File(Metadata(0o644), Failing())})


def test_an_unreadable_or_damaged_nbd_client_is_ignored():
    for broken in (File(Metadata(0o755), Failing()), program(needed=["libc.so"])[:-40]):
        assert made({"usr/sbin/nbd-client": broken}).nbd is None


def test_records_of_a_module_are_read():
    file = ModuleFile.parse(module(["license=GPL", "alias=a", "alias=a", "firmware=x/y.bin"]), "x.ko")
    assert (file.aliases, file.firmware) == (("a",), ("x/y.bin",))


def test_an_image_without_busybox_gets_none_from_a_server_of_another_architecture():
    with pytest.raises(LtspError, match="no static busybox for x86-64"):
        made({"usr/bin/busybox": "no program"})


def module_name(path):
    """Without the suffixes of modules, compressed or not."""
    return path.rpartition("/")[2].partition(".ko")[0]


@pytest.mark.oracle
def test_the_initrd_of_a_debian_root_has_all_wired_drivers(debian_root):
    (version,) = (path.name for path in (debian_root / "usr/lib/modules").iterdir())
    server = ServerPrograms(lambda path: Path("/", path).read_bytes() if Path("/", path).is_file() else None)
    with DirectorySource("d", str(debian_root), "").open(select_all, Faults()) as image:
        modules = KernelModules.read(image, version)
        initrd = build_client_tree(image, modules, server=server)
        again = build_client_tree(image, modules, server=server)
    tree = initrd.tree
    directory = debian_root / "usr/lib/modules" / version
    names = {module_name(path) for path in paths(tree)}
    wired = {module_name(path.name) for path in (directory / "kernel/drivers/net/ethernet").rglob("*.ko*")}
    assert len(wired) > 100
    assert wired <= names
    built_in = {module_name(line) for line in (directory / "modules.builtin").read_text().splitlines()}
    assert {"overlay", "squashfs", "loop", "virtio_pci", "nfsv3", "nfsv4", "nbd"} <= names | built_in
    assert hashlib.sha256(archive(initrd)).digest() == hashlib.sha256(archive(again)).digest()
    # 13 MB with Debian 12's kernel, 15 with Debian 13's, 19 with Ubuntu 24.04's, which have more drivers.
    assert len(compress(archive(initrd), "zstd")) <= 20_000_000
