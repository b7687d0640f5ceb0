"""The whole of `ltsp image` without a privilege: what may be read gives the same bytes as root would get."""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import replace

import pytest

from archive.forge import layout
from corpus import ordinary
from corpus.disks import converted, ext4, partitioned
from corpus.site import Site
from corpus.system import make_system
from ltsp.squashfs.reader import Image
from ltsp.tree.node import Device, DeviceKind

pytestmark = [pytest.mark.oracle, pytest.mark.root]

CAPABILITY = struct.pack("<5I", 0x2000001, 1 << 13, 0, 0, 0)
"""cap_net_raw, as the kernel keeps it. linux/capability.h"""
WHO = ("user", "container", "bare container")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """One system with what only root can make, as a disk, an archive, a layout, a squashfs file."""
    root = tmp_path_factory.mktemp("sources")
    system = make_system(root / "system")
    os.mknod(system / "opt/null", 0o20666, os.makedev(1, 3))
    os.mknod(system / "opt/disk", 0o60660, os.makedev(8, 0))
    (system / "opt/disk").chmod(0o660)  # whatever the umask
    (system / "usr/bin/ping").write_text("ping")
    os.setxattr(system / "usr/bin/ping", "security.capability", CAPABILITY)
    os.setxattr(system / "opt", "trusted.mark", b"1")
    os.chown(system / "opt", 33, 44)
    (system / "opt/closed").mkdir(mode=0o700)
    (system / "opt/closed/file").write_text("inside\n")
    (system / "opt/closed/file").chmod(0)
    disk = partitioned(root / "vm.img", "gpt", [("type=linux", ext4(root / "root.ext4", system, 32))])
    tar = ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--sort=name", "-C", system, "-c", "."]
    plain = subprocess.run(tar, check=True, stdout=subprocess.PIPE).stdout
    (root / "lab.tar").write_bytes(plain)
    subprocess.run(["gzip", "-k", root / "lab.tar"], check=True)
    subprocess.run(["mksquashfs", system, root / "lab.squashfs", "-quiet", "-no-progress"], check=True)
    layout(plain).write(root / "layout")
    found = {
        "qcow2": (str(converted(disk, "qcow2")),),
        "tar.gz": (f"{root}/lab.tar.gz",),
        "layout": (f"oci:{root}/layout",),
        "squashfs": (f"{root}/lab.squashfs",),
        "standard input": ("-",),
    }
    for path in root.rglob("*"):
        if system not in (path, *path.parents):
            path.chmod(0o755 if path.is_dir() else 0o644)
    root.chmod(0o755)
    return root, found


def somebodys(root, who, *needed):
    """A server in somebody's own directory, which nobody else can look into."""
    site = Site.make(root)
    if who == "root":
        return site
    ordinary.given(root).chmod(0o700)
    if who == "user":
        return replace(site, through=ordinary.as_user(root, *needed))
    return replace(site, through=ordinary.in_container(root, *needed, bare=who.startswith("bare")))


def built(root, who, sources, kind):
    """What clients get, byte for byte."""
    above, found = sources
    root.mkdir()
    site = somebodys(root, who, above)
    with (above / "lab.tar").open("rb") as tar:
        site.ltsp("image", "--name=lab", *found[kind], stdin=tar)
    kernel = site.kernel("lab").resolve().parent
    return site.image("lab"), {
        "image": site.image("lab").read_bytes(),
        **{name: (kernel / name).read_bytes() for name in ("vmlinuz", "initrd.img", "client.img")},
    }


@pytest.mark.parametrize("kind", ["qcow2", "tar.gz", "layout", "squashfs", "standard input"])
def test_what_anybody_builds_is_what_root_builds(tmp_path, sources, kind):
    image, expected = built(tmp_path / "root", "root", sources, kind)
    with image.open("rb") as file:
        tree = Image.open(file).tree()
        assert tree.get("usr/bin/ping").metadata.xattrs == (("security.capability", CAPABILITY),)
        assert (tree.get("opt").metadata.uid, tree.get("opt").metadata.gid) == (33, 44)
        assert tree.get("opt").metadata.xattrs == (("trusted.mark", b"1"),)
        assert (tree.get("opt/closed").metadata.mode, tree.get("opt/closed/file").metadata.mode) == (0o700, 0)
        null, disk = tree.get("opt/null"), tree.get("opt/disk")
        assert isinstance(null, Device)
        assert (null.kind, null.major, null.minor) == (DeviceKind.CHARACTER, 1, 3)
        assert (disk.kind, disk.major, disk.minor, disk.metadata.mode) == (DeviceKind.BLOCK, 8, 0, 0o660)
    for who in WHO:
        _, found = built(tmp_path / who.replace(" ", "-"), who, sources, kind)
        assert {name: data == expected[name] for name, data in found.items()} == dict.fromkeys(expected, True), who
