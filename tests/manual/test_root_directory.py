"""`/` of an image and the places below it, whatever the directory, disk or archive was like that they came from."""

from __future__ import annotations

import os
import subprocess

import pytest

from corpus.site import Site

pytestmark = [pytest.mark.oracle, pytest.mark.root]

TIME = 1_600_000_000


def made_of_directory(_site: Site, root):
    os.setxattr(root, "user.note", b"ours")
    return str(root)


def made_of_tar(site: Site, root):
    archive = f"{site.home}/lab.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    return archive


def made_of_squashfs(site: Site, root):
    image = f"{site.home}/lab.squashfs"
    subprocess.run(["mksquashfs", root, image, "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
    return image


def made_of_disk(site: Site, root):
    disk = f"{site.home}/lab.raw"
    subprocess.run(["truncate", "-s", "16M", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-d", root, disk], check=True)
    return disk


def made_of_parts(site: Site, root):
    usr = site.home / "usr"
    (root / "usr").rename(usr)
    (root / "usr").mkdir()
    usr.chmod(0o700)
    os.utime(root, (TIME, TIME))
    return f"{root},,{usr},subdir=usr"


KINDS = [made_of_directory, made_of_tar, made_of_squashfs, made_of_disk, made_of_parts]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__.removeprefix("made_of_"))
@pytest.mark.parametrize("cleanup", [1, 0])
def test_the_root_of_an_image_is_everybodys_to_look_into(tmp_path, make, cleanup):
    """A chroot kept in a directory of mode 0700 made clients whose services, which run as other users, failed."""
    site = Site.make(tmp_path)
    root = site.system("lab")
    for name in ("proc", "sys", "tmp"):
        (root / name).rmdir()
    root.chmod(0o2700)
    os.chown(root, 1000, 1000)
    os.utime(root, (TIME, TIME))
    source = make(site, root)
    site.ltsp("image", "--quiet", f"--cleanup={cleanup}", "--name=room", source)
    listed = subprocess.check_output(["unsquashfs", "-lls", "-UTC", site.image("room")], text=True).splitlines()
    words = {line.partition("squashfs-root")[2]: line.split() for line in listed if "squashfs-root" in line}
    modes = {path: (mode, owner) for path, (mode, owner, *_) in words.items()}
    assert modes[""] == ("drwxr-xr-x", "root/root")
    assert modes["/tmp"] == ("drwxrwxrwt", "root/root")
    assert modes["/proc"] == modes["/sys"] == ("drwxr-xr-x", "root/root")
    if make is not made_of_disk:  # whose root mke2fs makes, with a time of its own
        assert words[""][3] == "2020-09-13"
