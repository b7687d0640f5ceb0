"""`img1,options,,img2,options`, taken apart."""

from __future__ import annotations

from itertools import permutations

import pytest

from ltsp.errors import UsageError
from ltsp.source.spec import ImageSpec, is_same_source, parse


@pytest.mark.parametrize(
    ("text", "layers"),
    {
        "a name": ("lab", [ImageSpec("lab")]),
        "the manual's example": (
            "/,,/boot,subdir=boot,,/opt,subdir=opt",
            [ImageSpec("/"), ImageSpec("/boot", subdir="boot"), ImageSpec("/opt", subdir="opt")],
        ),
        "mount options that say what is so anyway": (
            "disk.img,fstype=ext4,partition=2,ro,noload,noatime,,/x,subdir=/a//./b/,ro",
            [
                ImageSpec("disk.img", fstype="ext4", partition="2", options=("noatime",)),
                ImageSpec("/x", subdir="a/b"),
            ],
        ),
        "several disks of one system": (
            "vm.img,disk=vm-2.img,disk=/b/vm-3.img,partition=2:1",
            [ImageSpec("vm.img", partition="2:1", disks=("vm-2.img", "/b/vm-3.img"))],
        ),
        "a mount option with a value": ("x,offset=512", [ImageSpec("x", options=("offset=512",))]),
        "a part without a place": (
            "/cd,,casper/filesystem.squashfs",
            [ImageSpec("/cd"), ImageSpec("casper/filesystem.squashfs")],
        ),
    }.values(),
)
def test_taken_apart(text, layers):
    assert parse(text) == layers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no name"),
        ("/,,,subdir=x", "no name"),
        ("/,,", "no name"),
        ("/,subdir=x", "first part"),
        ("/,,/x,subdir=../x", r"contains \.\."),
        ("/,,/x,subdir=a/../../x", r"contains \.\."),
        ("/,,/x,subdir=x,subdir=y", "twice"),
        ("vm.img,disk=", "names no file"),
    ],
)
def test_an_invalid_specification_is_refused(text, reason):
    with pytest.raises(UsageError, match=reason):
        parse(text)


@pytest.mark.parametrize("words", list(permutations(["loop", "ro", "fstype=ext4", "partition=2"])))
def test_options_stand_in_any_order(words):
    assert parse(",".join(["vm.img", *words])) == [ImageSpec("vm.img", fstype="ext4", partition="2")]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("/vm.img,subvol=@,noatime,loop", True),
        ("/vm.img,fstype=btrfs,subvol=@", True),
        ("/vm.img,noatime,subvol=@home", False),
        ("/vm.img,noatime,subvol=@,partition=2", False),
        ("/vm.img,noatime,subvol=@,,/opt.img", False),
    ],
)
def test_a_source_is_the_same_in_any_order_of_its_options(other, same):
    assert is_same_source("/vm.img,noatime,subvol=@", other) is same
