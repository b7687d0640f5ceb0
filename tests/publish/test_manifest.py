from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltsp.errors import FormatError
from ltsp.publish.manifest import FileFacts, ImageFacts, KernelFacts, Manifest, Origin, SourceFacts, VersionChanges

NAMES = st.text(st.characters(codec="utf-8") | st.sampled_from("\udc80\udcff\n\x1b'\""), max_size=12)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
SIZES = st.integers(0, 2**50)
MANIFESTS = st.builds(
    Manifest,
    name=NAMES,
    version=NAMES,
    created=NAMES,
    origin=st.sampled_from(Origin),
    source=st.builds(SourceFacts, NAMES, NAMES),
    image=st.none() | st.builds(ImageFacts, SIZES, DIGESTS, NAMES, st.booleans()),
    kernel=st.none() | st.builds(KernelFacts, NAMES, NAMES),
    files=st.dictionaries(NAMES, st.builds(FileFacts, SIZES, DIGESTS), max_size=3),
    packages=st.none() | st.dictionaries(NAMES, NAMES, max_size=3),
    setuid=st.lists(NAMES, max_size=3).map(tuple),
    warnings=st.lists(NAMES, max_size=3).map(tuple),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(MANIFESTS)
def test_a_manifest_is_read_back_as_it_was(manifest):
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(MANIFESTS, st.data())
def test_a_damaged_manifest_is_a_format_error_or_another_manifest(manifest, data):
    record = json.loads(manifest.to_json())
    key = data.draw(st.sampled_from(sorted(record)))
    record[key] = data.draw(JSON)
    with suppress(FormatError):
        assert isinstance(Manifest.from_json(json.dumps(record).encode()), Manifest)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_but_a_format_error(data):
    with pytest.raises(FormatError):
        Manifest.from_json(data)


def test_a_later_schema_is_refused():
    manifest = Manifest("lab", "v", "", Origin.BUILT, SourceFacts("/", "directory"), None, None)
    record = json.loads(manifest.to_json()) | {"schema": 2}
    with pytest.raises(FormatError, match="schema 2"):
        Manifest.from_json(json.dumps(record).encode())


def manifest_of(packages, *, size=100, setuid=(), kernel="6.1"):
    image = ImageFacts(size, "", "gzip")
    source = SourceFacts("/", "directory")
    return Manifest(
        "lab", "", "", Origin.BUILT, source, image, KernelFacts("boot/vmlinuz", kernel), {}, packages, tuple(setuid)
    )


def test_packages_are_added_removed_and_updated():
    before = manifest_of({"bash": "5.2-1", "gone": "1", "same": "1"})
    after = manifest_of({"bash": "5.2-2", "same": "1", "new": "2"}, size=150)
    changes = VersionChanges.between(before, after)
    assert changes.added == {"new": "2"}
    assert changes.removed == {"gone": "1"}
    assert changes.updated == {"bash": ("5.2-1", "5.2-2")}
    assert changes.bytes == 50
    assert changes.kernel is None


def test_setuid_programs_are_added_and_removed():
    changes = VersionChanges.between(manifest_of({}, setuid=["usr/bin/su"]), manifest_of({}, setuid=["usr/bin/new"]))
    assert changes.setuid_added == ("usr/bin/new",)
    assert changes.setuid_removed == ("usr/bin/su",)


def test_packages_are_unknown_unless_both_manifests_list_them():
    changes = VersionChanges.between(manifest_of(None), manifest_of({"bash": "5.2-1"}, kernel="6.2"))
    assert not changes.packages_known
    assert changes.added == {}
    assert changes.kernel == ("6.1", "6.2")


def test_boot_files_change_without_the_image():
    one = {"vmlinuz": FileFacts(1, "a"), "initrd.img": FileFacts(2, "b")}
    old = replace(manifest_of({}), files=one)
    new = replace(manifest_of({}), files={**one, "initrd.img": FileFacts(2, "c"), "client.img": FileFacts(3, "d")})
    changes = VersionChanges.between(old, new)
    assert changes.same_image
    assert changes.boot_files == ("client.img", "initrd.img")
    assert not VersionChanges.between(old, manifest_of({}, size=101)).same_image
