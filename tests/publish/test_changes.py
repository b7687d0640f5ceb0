from __future__ import annotations

from dataclasses import replace

from ltsp.publish.changes import VersionChanges
from ltsp.publish.manifest import FileFacts, ImageFacts, KernelFacts, Manifest, Origin, SourceFacts


def manifest(packages, *, size=100, setuid=(), kernel="6.1"):
    image = ImageFacts(size, "", "gzip")
    source = SourceFacts("/", "directory")
    return Manifest(
        "lab", "", "", Origin.BUILT, source, image, KernelFacts("boot/vmlinuz", kernel), {}, packages, tuple(setuid)
    )


def test_packages_are_added_removed_and_updated():
    before = manifest({"bash": "5.2-1", "gone": "1", "same": "1"})
    after = manifest({"bash": "5.2-2", "same": "1", "new": "2"}, size=150)
    changes = VersionChanges.between(before, after)
    assert changes.added == {"new": "2"}
    assert changes.removed == {"gone": "1"}
    assert changes.updated == {"bash": ("5.2-1", "5.2-2")}
    assert changes.bytes == 50
    assert changes.kernel is None


def test_setuid_programs_are_added_and_removed():
    changes = VersionChanges.between(manifest({}, setuid=["usr/bin/su"]), manifest({}, setuid=["usr/bin/new"]))
    assert changes.setuid_added == ("usr/bin/new",)
    assert changes.setuid_removed == ("usr/bin/su",)


def test_packages_are_unknown_unless_both_manifests_list_them():
    changes = VersionChanges.between(manifest(None), manifest({"bash": "5.2-1"}, kernel="6.2"))
    assert not changes.packages_known
    assert changes.added == {}
    assert changes.kernel == ("6.1", "6.2")


def test_boot_files_change_without_the_image():
    one = {"vmlinuz": FileFacts(1, "a"), "initrd.img": FileFacts(2, "b")}
    old = replace(manifest({}), files=one)
    new = replace(manifest({}), files={**one, "initrd.img": FileFacts(2, "c"), "client.img": FileFacts(3, "d")})
    changes = VersionChanges.between(old, new)
    assert changes.same_image
    assert changes.boot_files == ("client.img", "initrd.img")
    assert not VersionChanges.between(old, manifest({}, size=101)).same_image
