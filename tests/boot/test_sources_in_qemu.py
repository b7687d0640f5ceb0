"""Clients boot images of sources other than directories: a virtual disk with LVM, and a container with a kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from corpus.archive_kinds import in_whole_seconds, umoci
from corpus.default_installs import INSTALLS
from corpus.diskless import one_at_a_time
from corpus.site import Site, listing
from corpus.unified_kernels import unified

pytestmark = [pytest.mark.boot, pytest.mark.root, pytest.mark.timeout(1200)]

FAST = ("-m", "-comp zstd -Xcompression-level 1", "--ionice=")
KERNEL = ("boot", "usr/lib/modules", "vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old")
"""What the container images of distributions lack."""


@pytest.fixture
def site(tmp_path):
    yield Site.make(tmp_path)
    shutil.rmtree(tmp_path)


def booted(site, *arguments):
    """The report of a client that boots the image of this source."""
    site.ltsp("image", *FAST, *arguments)
    site.ltsp("initrd")
    site.ltsp("ipxe")
    with one_at_a_time():
        done = site.ltsp("boottest", "--json", "--timeout=600", "lab", status=None)
    verdict = json.loads(done.stdout)
    assert verdict["passed"], (verdict["cause"], verdict["tail"])
    return verdict["guest"]


def test_the_disk_of_a_server_with_lvm(site, debian_root):
    """The kernel is on a separate partition, as with Ubuntu's and Debian's installers."""
    install = INSTALLS["Ubuntu Server"]
    system, made = site.home / "system", site.home / "made"
    subprocess.run(["cp", "-a", debian_root, system], check=True)
    (system / "etc/fstab").unlink(missing_ok=True)
    (system / "etc/fstab").write_text(install.fstab)
    made.mkdir()
    disk = install.make(system, made)
    assert not any((system / "boot").iterdir())
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, site.base / "lab.img"], check=True)
    for path in (system, made):
        shutil.rmtree(path)
    assert "ltsp.image=images/.versions/lab/" in booted(site, "lab")["cmdline"]


@pytest.mark.slow
def test_a_system_whose_only_kernel_is_a_unified_one(site, debian_root):
    """Kernel and initrd are sections of one EFI program, as on Arch and Fedora with systemd-boot."""
    system = site.base / "lab"
    subprocess.run(["cp", "-a", debian_root, system], check=True)
    for name in ("vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"):
        (system / name).unlink(missing_ok=True)
    (kernel,), (initrd,) = ((system / "boot").glob(f"{name}-*") for name in ("vmlinuz", "initrd.img"))
    version = kernel.name.removeprefix("vmlinuz-")
    parts = {".linux": kernel.read_bytes(), ".initrd": initrd.read_bytes()}
    efi = system / "efi/EFI/Linux" / f"0123456789abcdef-{version}.efi"
    efi.parent.mkdir(parents=True)
    efi.write_bytes(unified((".osrel", b"ID=debian\n"), (".uname", version.encode()), *parts.items()))
    for path in (kernel, initrd):
        path.unlink()
    guest = booted(site, "lab")
    assert guest["failed"] == []
    assert site.kernel("lab").read_bytes() == parts[".linux"]
    assert site.initrd("lab").read_bytes().startswith(parts[".initrd"])
    [told] = json.loads(site.ltsp("image", "--dry-run", "--json", "lab").stdout)["images"]
    assert told["kernel"]["path"] == told["kernel"]["initrd"] == f"efi/EFI/Linux/{efi.name}"
    assert told["kernel"]["version"] == version


@pytest.mark.slow
def test_an_oci_archive_to_which_a_kernel_was_added(site, debian_root):
    """The kernel is in a separate layer, over one with files that this layer removes."""
    umoci(site.home, "init", "--layout", "layout")
    umoci(site.home, "new", "--image", "layout:new")
    umoci(site.home, "unpack", "--image", "layout:new", "bundle")
    root = site.home / "bundle/rootfs"
    subprocess.run(["cp", "-a", f"{debian_root}/.", root], check=True)
    for name in KERNEL:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            path.mkdir()
        else:
            path.unlink(missing_ok=True)
    (root / "etc/systemd/system/gone.service").write_text("[Service]\nExecStart=/bin/false\n")
    os.symlink("../gone.service", root / "etc/systemd/system/multi-user.target.wants/gone.service")
    (root / "opt/gone").mkdir()
    (root / "opt/gone/file").write_text("gone\n")
    in_whole_seconds(root)
    umoci(site.home, "repack", "--image", "layout:container", "--refresh-bundle", "bundle")
    (root / "etc/systemd/system/gone.service").unlink()
    (root / "etc/systemd/system/multi-user.target.wants/gone.service").unlink()
    shutil.rmtree(root / "opt/gone")
    for name in KERNEL:
        if (debian_root / name).is_dir():
            subprocess.run(["cp", "-a", f"{debian_root / name}/.", root / name], check=True)
        elif os.path.lexists(debian_root / name):
            subprocess.run(["cp", "-a", debian_root / name, root / name], check=True)
    in_whole_seconds(root)
    umoci(site.home, "repack", "--image", "layout:bootable", "bundle")
    shutil.rmtree(site.home / "bundle")
    for tag in ("container", "bootable"):
        words = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:layout:{tag}", f"oci-archive:{tag}.tar:{tag}"]
        subprocess.run(words, cwd=site.home, check=True, capture_output=True)
    said = site.ltsp("image", *FAST, "--name=lab", "oci-archive:container.tar", status=1).stderr
    assert "apt-get install -y linux-image-amd64" in said
    guest = booted(site, "--name=lab", "oci-archive:bootable.tar")
    assert guest["failed"] == []
    assert not {"opt/gone", "etc/systemd/system/gone.service"} & listing(site.image("lab"))
