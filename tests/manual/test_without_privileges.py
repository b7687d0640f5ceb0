"""The whole of `ltsp image` without a privilege: what may be read gives the same bytes as root would get."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from dataclasses import replace

import pytest

from archive.raw_tar import layout
from corpus import unprivileged
from corpus.disks import converted, ext4, partitioned
from corpus.error_checks import refused
from corpus.site import Site, listing
from corpus.system import VERSION, make_system
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
    unprivileged.given(root).chmod(0o700)
    if who == "user":
        return replace(site, through=unprivileged.as_user(root, *needed))
    return replace(site, through=unprivileged.in_container(root, *needed, bare=who.startswith("bare")))


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


# Directories


@pytest.fixture
def chroot(tmp_path):
    """A system that root made, of which a user may read what users may; and a server of that user's."""
    system = make_system(tmp_path / "lab")
    for name in ("shadow", "gshadow"):
        (system / "etc" / name).chmod(0o640)
    os.chown(system / "opt", 33, 44)
    tmp_path.chmod(0o755)
    return system


def of_user(tmp_path, *needed):
    (tmp_path / "user").mkdir()
    return somebodys(tmp_path / "user", "user", *needed)


def test_a_directory_that_a_user_may_read_is_packed_as_by_root(tmp_path, chroot):
    """Clean-up locks all accounts, for which it needs no password."""
    (tmp_path / "root").mkdir()
    root, user = somebodys(tmp_path / "root", "root"), of_user(tmp_path, chroot)
    done = user.ltsp("image", "--quiet", str(chroot))
    assert "shadow" not in done.stderr
    root.ltsp("image", str(chroot))
    assert user.image("lab").read_bytes() == root.image("lab").read_bytes()


def test_what_a_user_may_not_read_is_named_and_counted(tmp_path, chroot):
    (chroot / "opt/key").write_text("secret")
    (chroot / "opt/key").chmod(0o600)
    (chroot / "opt/closed").mkdir(mode=0o700)
    (chroot / "opt/closed/inside").write_text("secret")
    site = of_user(tmp_path, chroot)
    done = site.ltsp("image", "--quiet", "--json", str(chroot), status=3)
    assert "/opt/key, so it is not in the image: Permission denied" in done.stderr
    assert "/opt/closed, so it is not in the image: Permission denied" in done.stderr
    assert "2 files and directories could not be read; try again as root" in done.stderr
    (built,) = json.loads(done.stdout)["images"]
    assert built["unreadable"] == {"opt/key": "Permission denied", "opt/closed": "Permission denied"}
    assert {"opt", "usr/bin/tool"} <= listing(site.image("lab"))
    assert not {"opt/key", "opt/closed"} & listing(site.image("lab"))
    refused(site, "--skip-unreadable=0", str(chroot), says=["cannot read /opt/"])


def test_an_unreadable_vital_file_is_reported_in_one_line(tmp_path, chroot):
    site = of_user(tmp_path, chroot)
    for path in (f"boot/vmlinuz-{VERSION}", f"boot/initrd.img-{VERSION}", "etc/passwd", "etc/group"):
        (chroot / path).chmod(0o600)
        for applet in ("image",) if path.startswith("etc") else ("image", "kernel"):
            line = site.ltsp(applet, "--name=lab", "--quiet", str(chroot), status=1).stderr
            assert line.count("\n") == 1
            assert "cannot read /" in line
            assert "Permission denied" in line
            assert "chmod" in line
        (chroot / path).chmod(0o644)


def test_files_of_any_owner_are_roots_with_all_root(tmp_path, chroot):
    unprivileged.given(chroot)
    site = of_user(tmp_path, chroot)
    for words, owner in (((), unprivileged.USER), (("--all-root",), 0), (("--all-root", "-m", "-force-uid 7"), 7)):
        site.ltsp("image", *words, str(chroot))
        with site.image("lab").open("rb") as file:
            tree = Image.open(file).tree()
            machine_id = tree.get("etc/machine-id").metadata.uid
            # Places that the chroot lacks are laid as root's.
            theirs = [(path, node) for path, node in tree.walk() if os.path.lexists(chroot / path)]
            assert {node.metadata.uid for path, node in theirs if path != "etc/machine-id"} == {owner}, words
            assert machine_id in (0, owner)
    site.conf.write_text("[server]\nALL_ROOT=1\n")
    site.ltsp("image", str(chroot))
    with site.image("lab").open("rb") as file:
        assert {node.metadata.gid for _, node in Image.open(file).tree().walk()} == {0}


def test_the_running_system_as_an_ordinary_user_sees_it(tmp_path):
    site = of_user(tmp_path)
    done = site.ltsp("image", "--dry-run", "--kernel-initrd=none", "/", status=None)
    assert done.returncode in (0, 3), done.stderr


# The rest of the command


def test_what_a_user_built_is_shown_reverted_and_removed_by_that_user(tmp_path, chroot):
    site = of_user(tmp_path, chroot)
    site.ltsp("image", str(chroot))
    first = site.image("lab").read_bytes()
    (tmp_path / "user/bin").mkdir()
    (chroot / "opt/new").write_text("new")
    site.ltsp("image", str(chroot))
    assert "lab" in site.ltsp("info").stdout
    assert len(json.loads(site.ltsp("versions", "--json", "lab").stdout)["lab"]["versions"]) == 2
    site.ltsp("image", "--revert", "lab")
    assert site.image("lab").read_bytes() == first
    site.ltsp("kernel", "--name=lab", str(chroot))
    site.ltsp("image", "--dry-run", str(chroot))
    site.ltsp("initrd")
    assert {path.stat().st_uid for path in site.base.rglob("*") if path.exists()} == {unprivileged.USER}
    refused(site, "--image-group=0", str(chroot), says=["Operation not permitted"])


def test_a_place_that_is_roots_is_refused_with_what_to_type(tmp_path, chroot):
    site = of_user(tmp_path, chroot, tmp_path)
    (tmp_path / "roots").mkdir(mode=0o755)
    line = site.ltsp(f"--base-dir={tmp_path}/roots", "image", "--quiet", str(chroot), status=1).stderr
    assert f"{tmp_path}/roots" in line
    assert "choose another one with ltsp --base-dir" in line
