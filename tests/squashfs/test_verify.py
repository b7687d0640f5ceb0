"""`--verify` finds nothing in a good image, and every kind of difference in another one."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from ltsp.errors import FileVanished, FormatError, LtspError
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.reader import Image
from ltsp.squashfs.verify import check_image, verify_image
from ltsp.squashfs.writer import WriteOptions
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Socket, Symlink
from ltsp.tree.tree import Tree
from squashfs.write_helpers import in_memory

PLAIN = Metadata(0o644, 1, 2, 3)
LINKED = File(PLAIN, Bytes(b"linked"))
ACL = ("system.posix_acl_access", b"\2\0\0\0")


def nodes():
    return {
        "block": Device(PLAIN, DeviceKind.BLOCK, 8, 1),
        "directory": Directory(PLAIN, {"inner": File(PLAIN, Bytes(b"inner")), "link": LINKED}),
        "fifo": Fifo(PLAIN),
        "file": File(replace(PLAIN, xattrs=(ACL, ("user.a", b"b"))), Bytes(b"x" * 300_000)),
        "holes": File(PLAIN, Bytes(bytes(1_000_000))),
        "early": File(replace(PLAIN, mtime=-5), Bytes(b"")),
        "late": File(replace(PLAIN, mtime=2**40), Bytes(b"")),
        "linked": LINKED,
        "socket": Socket(PLAIN),
        "symlink": Symlink(PLAIN, "file"),
        "\udcff": Fifo(PLAIN),
    }


def tree(**changes):
    entries = {**nodes(), **changes}
    return Tree(Directory(PLAIN, {name: node for name, node in entries.items() if node is not None}))


def written(source, faults):
    return check_image(in_memory(source, WriteOptions(Compression("zstd", 1)), faults))


@pytest.fixture(scope="module")
def image():
    return written(tree(), Faults())


def test_an_image_equals_what_it_was_made_from_but_for_what_squashfs_cannot_hold(image):
    seen = []
    verified = verify_image(image, tree(), Faults(), progress=seen.append)
    assert verified.nodes == 13
    assert verified.not_compared == ()
    assert sum(seen) == verified.source_bytes == 300_000 + 1_000_000 + len("linked" + "inner")


def changed(node, **changes):
    return replace(node, metadata=replace(node.metadata, **changes))


OTHERS = {
    "/fifo: type is fifo, not socket": {"fifo": Socket(PLAIN)},
    "/file: mode is 0o644, not 0o600": {"file": changed(nodes()["file"], mode=0o600)},
    "/file: owner is 1:2, not 1:7": {"file": changed(nodes()["file"], gid=7)},
    "/file: time is 3, not 4": {"file": changed(nodes()["file"], mtime=4)},
    "/early: time is 0, not 1": {"early": changed(nodes()["early"], mtime=1)},
    "/file: attributes is {'user.a': b'b'}, not {}": {"file": changed(nodes()["file"], xattrs=())},
    "/file: content differs": {"file": replace(nodes()["file"], content=Bytes(b"x" * 299_999 + b"y"))},
    "/holes: content differs": {"holes": File(PLAIN, Bytes(bytes(999_999) + b"y"))},
    "/symlink: target is file, not fifo": {"symlink": Symlink(PLAIN, "fifo")},
    "/block: kind of device is b, not c": {"block": Device(PLAIN, DeviceKind.CHARACTER, 8, 1)},
    "/block: device number is 8:1, not 8:2": {"block": Device(PLAIN, DeviceKind.BLOCK, 8, 2)},
    "/directory/link has different hard links": {"linked": File(PLAIN, Bytes(b"linked"))},
    "/linked has different hard links": {"early": LINKED},
    "/inner is missing": {"inner": Fifo(PLAIN)},
    "/block is not in the source": {"block": None},
    "/directory/inner: content differs": {
        "directory": Directory(PLAIN, {"inner": File(PLAIN, Bytes(b"outer")), "link": LINKED})
    },
}


@pytest.mark.parametrize("told", OTHERS)
def test_every_difference_is_reported_with_its_path_and_kind(image, told):
    with pytest.raises(LtspError) as found:
        verify_image(image, tree(**OTHERS[told]), Faults())
    assert told in found.value.message
    assert found.value.message.isprintable()


def test_the_root_itself_is_compared(image):
    with pytest.raises(LtspError, match=r"/: mode is 0o644, not 0o700"):
        verify_image(image, Tree(replace(tree().root, metadata=replace(PLAIN, mode=0o700))), Faults())


def test_of_many_differences_the_first_are_named_and_the_others_counted(image):
    more = {f"more-{number}": Fifo(PLAIN) for number in range(20)}
    with pytest.raises(LtspError, match=r"/more-0 is missing; .* and 15 more"):
        verify_image(image, tree(**more), Faults())


def test_a_damaged_block_is_reported():
    raw = bytearray(in_memory(tree(), WriteOptions(Compression("gzip"))).getvalue())
    raw[120] ^= 0xFF
    with pytest.raises(FormatError, match="block at 106"):
        verify_image(Image.open(io.BytesIO(raw)), tree(), Faults())


@dataclass(frozen=True)
class Moving:
    """A file that holds something else each time it is opened, or is gone."""

    versions: list[bytes | None]
    size: int = 1

    @contextmanager
    def open(self):
        data = self.versions.pop(0)
        if data is None:
            raise FileVanished("gone")
        with Bytes(data).open() as stream:
            stream.mtime = 50 + len(self.versions)
            yield stream


def test_a_file_that_changed_between_writing_and_verifying_is_not_judged():
    source = tree(file=File(PLAIN, Moving([b"1", b"2"])), other=File(PLAIN, Moving([b"1", None])))
    verified = verify_image(written(source, Faults()), source, Faults())
    assert verified.not_compared == ("file", "other")


def test_a_file_that_changed_between_scan_and_writing_has_the_time_that_it_had_when_it_was_read():
    source = tree(file=File(PLAIN, Moving([b"1", b"1"])))
    image = written(source, Faults())
    assert image.tree().root.entries["file"].metadata.mtime == 51


def test_what_could_not_be_read_is_not_expected():
    faults = Faults(skip_unreadable=True)
    source = tree(file=File(PLAIN, Moving([None])))
    image = written(source, faults)
    assert faults.vanished == ["file"]
    assert verify_image(image, source, faults).nodes == 12
