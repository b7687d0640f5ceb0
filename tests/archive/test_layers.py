"""Merging layers: whiteouts, links within and across layers, and links that replace directories."""

from __future__ import annotations

import json

import pytest

from archive.raw_tar import (
    Held,
    Layout,
    Opened,
    digest,
    directory,
    docker,
    extended,
    file,
    header,
    layout,
    link,
    packed,
    shown,
    symlink,
    tar,
)
from ltsp.archive import oci
from ltsp.archive.archive import ArchiveFormat
from ltsp.errors import FormatError, SourceError


@pytest.fixture
def read(tmp_path):
    opened = Opened(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def laid(read):
    """The merged tree of layers, each given by its members."""

    def tree(*layers):
        return read(layout(*(tar(*members) for members in layers)).archive())

    return tree


BASE = [
    directory(b"etc/"),
    file(b"etc/a", b"base a"),
    file(b"etc/b", b"base b"),
    directory(b"etc/deep/"),
    file(b"etc/deep/c", b"base c"),
    directory(b"usr/"),
    directory(b"usr/lib/"),
    file(b"usr/lib/x", b"base x"),
    symlink(b"lib", b"usr/lib"),
]


def test_a_whiteout_hides_one_name_of_the_layers_below(laid):
    found = shown(laid(BASE, [file(b"etc/.wh.a"), file(b"etc/.wh.deep"), file(b".wh.lib"), file(b"etc/.wh.nothing")]))
    assert found == {"etc/": "", "etc/b": "base b", "usr/": "", "usr/lib/": "", "usr/lib/x": "base x"}


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_whiteout_hides_all_below_but_nothing_of_its_own_layer(laid, first):
    members = [directory(b"etc/"), file(b"etc/new", b"new"), directory(b"etc/deep/"), file(b"etc/deep/d", b"own d")]
    opaque = file(b"etc/.wh..wh..opq")
    members = [members[0], opaque, *members[1:]] if first else [*members, opaque, opaque]
    found = shown(laid(BASE[:5], members))
    assert found == {"etc/": "", "etc/deep/": "", "etc/deep/d": "own d", "etc/new": "new"}


def test_a_whiteout_hides_nothing_of_its_own_layer(laid):
    for members in (
        [file(b"etc/.wh.a"), file(b"etc/a", b"own a")],
        [file(b"etc/a", b"own a"), file(b"etc/.wh.a")],
    ):
        assert shown(laid(BASE, members))["etc/a"] == "own a"


def test_a_directory_can_be_created_again_in_the_layer_that_hides_it(laid):
    for members in (
        [file(b"etc/.wh.deep"), directory(b"etc/deep/"), file(b"etc/deep/d", b"d")],
        [directory(b"etc/deep/"), file(b"etc/deep/d", b"d"), file(b"etc/.wh.deep")],
    ):
        found = shown(laid(BASE, members))
        assert [path for path in found if path.startswith("etc/deep/")] == ["etc/deep/", "etc/deep/d"]


def test_a_later_layer_may_bring_back_what_one_before_hid(laid):
    found = shown(laid(BASE, [file(b".wh.etc")], [file(b"etc/again", b"x")], [file(b"etc/.wh..wh..opq")]))
    assert [path for path in found if path.startswith("etc")] == ["etc/"]


def test_a_directory_of_a_later_layer_is_laid_over_the_one_below(laid):
    tree = laid(BASE, [directory(b"etc", mode=b"0000700\0", uid=b"0000005\0"), file(b"etc/a", b"new a")])
    assert (tree.get("etc").metadata.mode, tree.get("etc").metadata.uid) == (0o700, 5)
    assert shown(tree)["etc/a"] == "new a"
    assert shown(tree)["etc/b"] == "base b"


def test_a_directory_that_no_layer_describes_keeps_what_the_one_below_said(laid):
    tree = laid([directory(b"etc", mode=b"0000700\0")], [file(b"etc/a", b"x")])
    assert tree.get("etc").metadata.mode == 0o700


def test_other_kinds_take_each_others_place(laid):
    tree = laid(BASE, [file(b"etc", b"a file now"), directory(b"lib"), symlink(b"usr", b"lib")])
    assert shown(tree) == {"etc": "a file now", "lib/": "", "usr": "-> lib"}


def test_files_below_a_link_go_where_it_leads_in_the_tree(laid):
    found = shown(laid(BASE, [file(b"lib/y", b"y"), file(b"lib/new/z", b"z"), link(b"lib/x2", b"lib/x")]))
    assert found["lib"] == "-> usr/lib"
    assert {path: found[path] for path in ("usr/lib/y", "usr/lib/new/z", "usr/lib/x2")} == {
        "usr/lib/y": "y",
        "usr/lib/new/z": "z",
        "usr/lib/x2": "base x",
    }


def test_a_directory_in_place_of_a_link_is_one_of_its_own(laid):
    found = shown(laid(BASE, [directory(b"lib/"), file(b"lib/y", b"y"), file(b"lib/.wh.x")]))
    assert found["usr/lib/x"] == "base x"
    assert found["lib/y"] == "y"
    assert "usr/lib/y" not in found


@pytest.mark.parametrize("target", [b"/etc", b"../../../../etc", b"../etc", b"/../../etc/."])
def test_a_link_never_leads_out_of_the_tree(laid, target):
    found = shown(laid([directory(b"etc"), symlink(b"out", target)], [file(b"out/passwd", b"inside")]))
    assert found == {"etc/": "", "etc/passwd": "inside", "out": f"-> {target.decode()}"}


def test_a_link_in_place_of_a_directory_leads_what_comes_after_it(laid):
    """CVE-2021-30465 and its kin: first a directory, then a link in its place, then files through it."""
    members = [directory(b"a"), file(b"a/one", b"1"), symlink(b"a", b"/etc"), file(b"a/two", b"2"), directory(b"etc")]
    with pytest.raises(FormatError, match="has files below /a, but etc is missing"):
        laid(members)
    members = [directory(b"etc"), *members[:-1]]
    assert shown(laid(members)) == {"a": "-> /etc", "etc/": "", "etc/two": "2"}


def test_hard_links_across_layers_are_names_of_one_file_until_one_is_replaced(laid):
    tree = laid(BASE, [link(b"again", b"etc/a"), link(b"third", b"/etc/a"), file(b"etc/a", b"new a")])
    assert tree.get("again") is tree.get("third")
    assert shown(tree)["again"] == "base a"
    assert shown(tree)["etc/a"] == "new a"


def test_a_hard_link_to_a_link_is_another_name_of_the_link(laid):
    tree = laid(BASE, [link(b"again", b"lib")])
    assert tree.get("again") is tree.get("lib")


def test_what_aufs_left_behind_is_nothing(laid):
    found = shown(
        laid([directory(b".wh..wh.plnk"), file(b".wh..wh.plnk/1.2", b"x"), file(b".wh..wh.aufs"), file(b"a")])
    )
    assert found == {"a": ""}


def test_whiteouts_are_names_like_others_outside_of_layers(read):
    assert shown(read(tar(file(b"a", b"x"), file(b".wh.a", b"y")))) == {".wh.a": "y", "a": "x"}


@pytest.mark.parametrize(
    ("members", "said"),
    {
        "upwards": ([file(b"../a")], r"a path with \.\."),
        "upwards inside": ([file(b"a/../b")], r"a path with \.\."),
        "a link upwards": ([link(b"a", b"../../etc/shadow")], r"a path with \.\."),
        "a link to nothing": (
            [link(b"a", b"etc/shadow")],
            "hard link to a missing file: a to etc/shadow",
        ),
        "a link to itself": ([link(b"a", b"a")], "hard link to a missing file"),
        "a link to a directory": ([directory(b"a"), link(b"b", b"a")], "hard link to a directory"),
        "a link to the root": ([link(b"b", b"/")], "hard link to a directory"),
        "a link through a loop": ([symlink(b"l", b"l"), link(b"b", b"l/x")], "more than 40 symbolic links"),
        "a loop": ([symlink(b"l", b"m"), symlink(b"m", b"l"), file(b"l/x")], "more than 40 symbolic links: l"),
        "below a file": ([file(b"a"), file(b"a/b")], "has files below /a, but a is not a directory"),
        "below a dangling link": ([symlink(b"a", b"b"), file(b"a/c")], "but b is missing"),
        "a file as the root": ([extended((b"path", b".")), file(b"x")], "in place of its root"),
        "a link as the root": ([symlink(b"/", b"etc")], "in place of its root"),
        "a NUL": ([extended((b"path", b"a\0b")), file(b"x")], "not valid on Linux"),
        "a long name": (
            [file(b"n" * 100, prefix=b"p" * 155), extended((b"path", b"n" * 256)), file(b"x")],
            "too long",
        ),
        "a long path": ([extended((b"path", b"n/" * 2100)), file(b"x")], "not valid on Linux"),
        "a link to no name": ([symlink(b"a", b"")], "invalid target"),
        "a long link": ([extended((b"linkpath", b"t" * 5000)), symlink(b"a", b"t")], "invalid target"),
        "a device of no kernel": ([extended((b"SCHILY.devmajor", b"4096")), header(b"a", b"3")], "invalid number"),
        "a whiteout of nothing": ([file(b".wh.")], "a whiteout without a name"),
        "a whiteout of above": ([file(b"etc/.wh...")], "a whiteout without a name"),
    }.values(),
)
def test_what_has_no_place_in_a_tree_is_refused(laid, members, said):
    with pytest.raises(FormatError, match=said) as caught:
        laid(members)
    assert caught.value.message.isprintable()


def test_docker_archives_by_content_and_by_name(read):
    data = docker(tar(*BASE), tar(file(b"etc/.wh.a")))
    for form in (ArchiveFormat.ANY, ArchiveFormat.DOCKER):
        assert "etc/a" not in shown(read(data, form))
    assert shown(read(data, ArchiveFormat.DOCKER, "lab"))["etc/b"] == "base b"
    assert shown(read(packed(data)))["etc/b"] == "base b"
    with pytest.raises(SourceError, match="contains no container image"):
        read(data, ArchiveFormat.OCI)
    with pytest.raises(SourceError, match="contains no image tagged other") as caught:
        read(data, ArchiveFormat.DOCKER, "other")
    assert caught.value.hint == "available: lab:latest"


@pytest.mark.parametrize("full", ["docker.io/library/lab:latest", "localhost/lab:latest", "docker.io/lab"])
def test_a_name_is_found_as_its_user_gave_it_to_skopeo_or_podman(read, full):
    data = docker(tar(*BASE), tags=[full])
    for tag in ("lab", "lab:latest", full) if full.endswith("latest") else ("lab", full):
        assert shown(read(data, ArchiveFormat.DOCKER, tag))["etc/b"] == "base b"
    with pytest.raises(SourceError, match="contains no image tagged la"):
        read(data, ArchiveFormat.DOCKER, "la")


def test_what_docker_saves_since_25_is_both(read):
    made = layout(tar(*BASE), tar(file(b"etc/.wh.a")))
    (configuration,) = (name for name, data in made.files.items() if b"diff_ids" in data)
    paths = [f"blobs/{digest(tar(*members)).replace(':', '/')}" for members in (BASE, [file(b"etc/.wh.a")])]
    manifest = [{"Config": configuration, "RepoTags": ["lab:1"], "Layers": paths}]
    made.files["manifest.json"] = json.dumps(manifest).encode()
    whole = shown(read(made.archive()))
    assert "etc/a" not in whole
    for form, tag in ((ArchiveFormat.OCI, ""), (ArchiveFormat.DOCKER, "lab:1")):
        assert shown(read(made.archive(), form, tag)) == whole


def test_one_large_layer_does_not_come_again_and_again(read):
    large, empty = tar(file(b"a", b"x" * 70_000)), tar(directory(b"a"))
    assert shown(read(layout(*[empty] * 100, *[large] * 8).archive()))
    with pytest.raises(FormatError, match="one layer 900 times"):
        read(layout(*[large] * 900).archive())


def test_a_layer_of_a_docker_archive_may_be_a_link_to_another(read):
    """As docker wrote them before 25, for layers that came again."""
    data = docker(tar(*BASE), tar(*BASE))
    name = data[: data.index(b"\0")]
    again = data.index(name, 512)
    assert again > 0
    whole = shown(read(data))
    assert whole["etc/a"] == "base a"
    first, second = tar(*BASE), tar(file(b"x"))
    moved = docker(first, second)
    path = moved[: moved.index(b"\0")]
    linked = moved.replace(path, b"elsewhere.tar".ljust(len(path), b"\0"), 1)
    linked = linked[:148] + b" " * 8 + linked[156:]
    linked = linked[:148] + b"%06o\0 " % sum(linked[:512]) + linked[156:]
    directory_name, _, _ = path.partition(b"/")
    fixed = directory(directory_name) + extended((b"linkpath", b"../elsewhere.tar")) + header(path, b"2") + linked
    assert shown(read(fixed))["etc/a"] == "base a"


def test_a_layer_that_is_not_what_its_digest_says_is_refused(read):
    for data in (docker(tar(file(b"a", b"good"))), layout(tar(file(b"a", b"good"))).archive()):
        with pytest.raises(FormatError, match=r"does not match its digest sha256:.{12}"):
            read(data.replace(b"good", b"evil"))


def test_a_packed_layer_that_is_not_what_its_digest_says_is_refused(read):
    made = layout(packed(tar(file(b"a", b"good"))))
    name = next(name for name, data in made.files.items() if data.startswith(b"\x1f\x8b"))
    made.files[name] = packed(tar(file(b"a", b"evil")))
    with pytest.raises(FormatError, match=r"does not match its digest|bytes long, not"):
        read(made.archive())


def test_layers_may_be_cut_where_their_digest_says_so(read):
    assert shown(read(layout(file(b"a", b"x")).archive())) == {"a": "x"}


def test_the_image_for_this_machine_is_chosen(read):
    made = Layout()
    images = [
        made.image(tar(file(name.encode())), platform={"os": "linux", "architecture": name})
        for name in ("amd64", "arm64")
    ]
    unknown = made.image(tar(file(b"statement")), platform={"os": "unknown", "architecture": "unknown"})
    for data in (
        made.of(unknown, *images).archive(),
        made.of(made.index(*images, unknown)).archive(),
    ):
        assert len(shown(read(data))) == 1


def test_the_machine_chooses():
    made = Layout()
    images = [
        made.image(tar(file(name.encode())), platform={"os": "linux", "architecture": name})
        for name in ("amd64", "arm64")
    ]
    made.of(*images)

    def parts(path):
        return Held(made.files[path])

    chosen = {machine: oci.read_layers(parts, "", machine)[0].path for machine in ("x86_64", "aarch64")}
    assert made.files[chosen["x86_64"]].startswith(b"amd64")
    assert made.files[chosen["aarch64"]].startswith(b"arm64")
    with pytest.raises(SourceError, match="contains no image for linux/riscv64, only for linux/amd64, linux/arm64"):
        oci.read_layers(parts, "", "riscv64")


def test_a_single_image_is_used_for_any_machine(read):
    made = Layout()
    assert shown(
        read(made.of(made.image(tar(file(b"a")), platform={"os": "linux", "architecture": "s390x"})).archive())
    )


def test_one_of_several_images_must_be_named(read):
    made = Layout()
    made.of(*(made.image(tar(file(tag.encode())), tag=tag) for tag in ("one", "two")))
    assert shown(read(made.archive(), ArchiveFormat.OCI, "two")) == {"two": ""}
    with pytest.raises(SourceError, match="contains 2 images: one, two") as caught:
        read(made.archive())
    assert "after a colon" in caught.value.hint
    with pytest.raises(SourceError, match="contains no image tagged three") as caught:
        read(made.archive(), ArchiveFormat.OCI, "three")
    assert caught.value.hint == "available: one, two"


def _changed(made, **changes):
    """A layout whose manifest says something else."""
    manifest = {"schemaVersion": 2, "layers": [made.blob(tar(), "application/vnd.oci.image.layer.v1.tar")]} | changes
    return made.of(made.document(manifest, "application/vnd.oci.image.manifest.v1+json")).archive()


@pytest.mark.parametrize(
    ("changes", "said"),
    {
        "encrypted": ({"layers": [{"mediaType": "x.tar+gzip+encrypted", "digest": "sha256:" + "0" * 64}]}, "encrypted"),
        "a chart": ({"artifactType": "application/vnd.cncf.helm"}, "but application/vnd.cncf.helm"),
        "of wasm": (
            {"layers": [{"mediaType": "wasm", "digest": "sha256:" + "0" * 64}]},
            "a layer has the unsupported type wasm",
        ),
        "of schema 1": ({"layers": {}}, "the list of layers has the wrong type"),
        "no layer": ({"layers": []}, "has 0 layers"),
        "too many": ({"layers": [{"mediaType": "tar", "digest": "sha256:" + "0" * 64}] * 1001}, "has 1001 layers"),
        "md5": ({"layers": [{"mediaType": "tar", "digest": "md5:" + "0" * 32}]}, "neither sha256 nor sha512"),
        "a path": ({"layers": [{"mediaType": "tar", "digest": "sha256:../../../etc/shadow"}]}, "neither sha256"),
        "missing": ({"layers": [{"mediaType": "tar", "digest": "sha256:" + "0" * 64}]}, "blobs/sha256/0+ is missing"),
        "sizes": (
            {"layers": [{"mediaType": "tar", "digest": "sha256:" + "0" * 64, "size": 5}]},
            "blobs/sha256/0+ is missing",
        ),
    }.values(),
)
def test_manifests_of_other_things_are_named(read, changes, said):
    with pytest.raises((FormatError, SourceError), match=said):
        read(_changed(Layout(), **changes))


def test_a_part_of_another_size_is_refused(read):
    made = layout(tar(file(b"a")))
    index = made.files["index.json"].replace(b'"size": ', b'"size": 1')
    made.files["index.json"] = index
    with pytest.raises(FormatError, match="bytes long, not 1"):
        read(made.archive())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[]", "has the wrong type"),
        (b'{"manifests": 1}', "an index"),
        (b'{"manifests": []}', "contains no container image"),
        (b'{"manifests": [{"digest": 5}]}', "a digest"),
    ],
)
def test_invalid_documents_are_refused(read, text, said):
    made = layout(tar())
    made.files["index.json"] = text
    with pytest.raises((FormatError, SourceError), match=said):
        read(made.archive())


def test_indexes_that_lead_to_each_other_end(read):
    made = Layout()
    inner = made.image(tar())
    for _ in range(6):
        inner = made.index(inner)
    with pytest.raises(FormatError, match="nested more than 4 levels"):
        read(made.of(inner).archive())
