"""Under UEFI the kernel gets all initrds, whatever size the first of them has, and says so where it does not."""

from __future__ import annotations

import io
import os
import shutil
import uuid
from pathlib import Path

import pytest

from corpus import diskless
from corpus.tree_strategies import noise
from ltsp.boottest import run
from ltsp.boottest.console import BootStage
from ltsp.boottest.machine import NetworkBoot, VirtualMachine, prepare_uefi
from ltsp.cpio import compression, newc
from ltsp.initrd.site.layer import SiteLayer, build_site_tree, build_tree, make_text_file
from ltsp.publish.manifest import SourceFacts
from ltsp.publish.stage import VersionContents
from ltsp.publish.store import Store
from ltsp.publish.switch import PublishedVersion
from ltsp.tree.content import Bytes

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1800)]

NAMES = ("client.img", "ltsp.img")
WORDS = "rdinit=/ltsp/init ltsp.root=file:/none.img console=ttyS0 no_timer_check"  # a busy machine has late timers
SCRIPT = (
    f"#!ipxe\nkernel vmlinuz {WORDS} {' '.join(f'initrd={name}' for name in NAMES)}\n"
    + "".join(f"initrd {name}\n" for name in NAMES)
    + "boot\n"
)


NO_IMAGE = "/none.img not found among the loaded initrds"
MEDIA = uuid.UUID("5568e427-68fc-4f3d-ac74-ca555231cc68")
"""By this a boot loader hands all initrds to the kernel as one. LINUX_EFI_INITRD_MEDIA_GUID, include/linux/efi.h"""


def joins_by_itself(ipxe: Path) -> bool:
    """Whether an iPXE aligns them itself under UEFI, as it does since 2021, for kernels since 5.8."""
    return MEDIA.bytes_le in ipxe.read_bytes()


def archive(tree) -> bytes:
    output = io.BytesIO()
    newc.write_archive(tree, output)
    return output.getvalue()


@pytest.fixture(scope="module")
def packed(debian_root, tmp_path_factory) -> bytes:
    return compression.compress(
        diskless.initrd(debian_root, tmp_path_factory.mktemp("client")).read_bytes(), compression.CODECS[0]
    )


def of_remainder(packed: bytes, remainder: int) -> bytes:
    """The client's initrd with a small one behind it, so that it has a size of this remainder."""
    for size in range(1000, 1100):
        small = archive(build_tree({"filler": make_text_file(noise(size).hex())}))
        both = packed + compression.compress(small, compression.CODECS[0])
        if len(both) % 4 == remainder:
            return both
    raise AssertionError(remainder)


def booted(debian_root: Path, directory: Path, client: bytes):
    """The verdict on a client that is given an image that does not exist."""
    shutil.copy(max((debian_root / "boot").glob("vmlinuz-*")), directory / "vmlinuz")
    (directory / "client.img").write_bytes(client)
    (directory / "ltsp.img").write_bytes(archive(build_site_tree({"common": SiteLayer(env={"HOSTNAME": "pc"})}, {})))
    (directory / "boot.ipxe").write_text(SCRIPT)
    with diskless.one_at_a_time():
        uefi = prepare_uefi(str(directory / "disk"))
        machine = VirtualMachine(NetworkBoot("boot.ipxe", str(directory)), uefi, memory=1024)
        return run.run_boot_test(machine, run.WatchOptions(600))


@pytest.mark.parametrize("remainder", range(4))
def test_a_published_initrd_of_any_size_is_followed_by_the_settings(debian_root, packed, tmp_path, remainder):
    client = of_remainder(packed, remainder)
    for name in ("srv", "tftp"):
        (tmp_path / name).mkdir()
    contents = VersionContents(
        SourceFacts("/", "directory"), None, {"vmlinuz": Bytes(b"kernel"), "client.img": Bytes(client)}
    )
    with Store(str(tmp_path / "srv"), str(tmp_path / "tftp")).locked("lab") as held:
        published = held.publish_kernel(contents)
    assert isinstance(published, PublishedVersion)
    file = Path(published.version.file("client.img"))
    assert os.path.getsize(file) == len(client) + -len(client) % 4
    verdict = booted(debian_root, tmp_path, file.read_bytes())
    assert verdict.cause == NO_IMAGE, verdict.tail


@pytest.mark.parametrize("remainder", [1, 2, 3])
def test_an_initrd_that_the_kernel_lost_fails_the_boot_test_at_once(debian_root, packed, tmp_path, remainder):
    """As it was before initrds were padded."""
    verdict = booted(debian_root, tmp_path, of_remainder(packed, remainder))
    if joins_by_itself(tmp_path / "disk/EFI/BOOT/BOOTX64.EFI"):
        assert verdict.cause == NO_IMAGE, verdict.tail
        return
    assert verdict.cause == ("the kernel could not unpack the initrds: invalid magic at start of compressed archive"), (
        verdict.tail
    )
    assert BootStage.INITRD not in verdict.seconds
