from __future__ import annotations

import subprocess

import pytest

from corpus.bit_flip import flip
from filesystem.mkfs import differences, filled, is_refused_by_kernel, make_file_system, shown
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.ext import volume as ext
from ltsp.tree.node import Directory, File
from ltsp.tree.selection import Inclusion

MIB = 1 << 20
SHAPES = {
    "ext4": ("-t", "ext4"),
    "ext4 with values in inodes and data in inodes": ("-t", "ext4", "-O", "ea_inode,inline_data"),
    "ext4 with large inodes": ("-t", "ext4", "-I", "1024", "-O", "large_dir,metadata_csum_seed", "-b", "4096"),
    "ext4 with clusters": ("-t", "ext4", "-O", "bigalloc,64bit", "-C", "16384"),
    "ext4 with groups of groups": ("-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"),
    "ext4 with two copies of the superblock": ("-t", "ext4", "-O", "^resize_inode,sparse_super2", "-b", "2048"),
    "ext4 without checksums": ("-t", "ext4", "-O", "^metadata_csum,^64bit"),
    "ext3 of small blocks": ("-t", "ext3", "-b", "1024"),
    "ext2": ("-t", "ext2"),
    "ext2 of small blocks and inodes": ("-t", "ext2", "-b", "1024", "-I", "128"),
}
JOURNALS = {
    "ext4": ("-t", "ext4"),
    "ext4 without checksums": ("-t", "ext4", "-O", "^metadata_csum,^64bit", "-b", "1024"),
    "ext3": ("-t", "ext3"),
}


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("shape", SHAPES)
def test_all_that_the_kernel_shows_is_in_the_tree(shape, nasty_root, blocks, tmp_path):
    image = make_file_system(tmp_path / "image", 96 * MIB, "mke2fs", "-q", "-L", "a label", *SHAPES[shape])
    expected = filled(image, nasty_root, then="allocated")
    found = ext.open(blocks(image))
    assert (found.kind, found.label) == (shape[:4], "a label")
    assert len(expected) > 1800
    assert differences(expected, found.tree()) == []


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("mode", ["data=ordered", "data=journal"])
@pytest.mark.parametrize("shape", JOURNALS)
def test_after_a_power_cut_the_tree_is_what_a_mount_shows(shape, mode, nasty_root, blocks, tmp_path):
    image = make_file_system(tmp_path / "image", 96 * MIB, "mke2fs", "-q", *JOURNALS[shape])
    filled(image, nasty_root, mode, "pull-the-plug")
    cut = blocks(tmp_path / "image.cut")
    before = cut.read_at(0, MIB)
    found = ext.open(cut)
    assert found.blocks is not cut  # the journal holds something
    tree = found.tree()
    assert tree.get("directory-99/magic") is not None
    assert cut.read_at(0, MIB) == before
    assert differences(shown(tmp_path / "image.cut"), tree) == []


@pytest.mark.root
@pytest.mark.oracle
def test_fast_commits_are_refused_with_the_remedy(blocks, tmp_path):
    """They are not replayed here; without them the last files would be missing."""
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", 64 * MIB, "mke2fs", "-q", "-t", "ext4", "-O", "fast_commit")
    filled(image, tmp_path / "source", then="commit-fast")
    with pytest.raises(SourceError, match="contains fast commits") as raised:
        ext.open(blocks(tmp_path / "image.cut"))
    assert "e2fsck -fy" in raised.value.hint
    subprocess.run(["e2fsck", "-fy", tmp_path / "image.cut"], check=False, capture_output=True)
    tree = ext.open(blocks(tmp_path / "image.cut")).tree()
    assert {"synced-0", "synced-1", "synced-2"} <= tree.root.entries.keys()


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("features", ["ea_inode", "^ea_inode"])
def test_many_and_large_attributes_are_read(features, blocks, tmp_path):
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", 64 * MIB, "mke2fs", "-q", "-t", "ext4", "-O", features)
    expected = filled(image, tmp_path / "source", then="many-attributes")
    assert differences(expected, ext.open(blocks(image)).tree()) == []


@pytest.mark.oracle
def test_a_damaged_journal_is_refused_with_the_remedy(blocks, tmp_path):
    """Never the state before it, which would be an older or a mixed one."""
    image = make_file_system(tmp_path / "image", 16 * MIB, "mke2fs", "-q", "-t", "ext4")
    dump = subprocess.run(["debugfs", "-R", "stat <8>", image], capture_output=True, text=True, check=True).stdout
    journal = int(dump.split("EXTENTS:\n", 1)[1].split(":", 1)[1].split("-", 1)[0])
    with image.open("r+b") as file:
        file.seek(1024 + 0x60)
        features = int.from_bytes(file.read(4), "little") | 4
        file.seek(1024 + 0x60)
        file.write(features.to_bytes(4, "little"))
        file.seek(journal * 1024 + 0x1C)
        file.write((1).to_bytes(4, "big"))
    with pytest.raises(FormatError) as raised:
        ext.open(blocks(image))
    assert "e2fsck -fy" in str(raised.value)


def plain(tmp_path, *options):
    source = tmp_path / "source"
    (source / "home" / "user").mkdir(parents=True)
    (source / "home" / "user" / "secret").write_text("x")
    (source / "file").write_text("content\n" * 3000)
    return make_file_system(tmp_path / "image", 16 * MIB, "mke2fs", "-q", "-t", "ext4", "-d", str(source), *options)


def patch(image, at, data):
    with image.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.oracle
def test_a_directory_that_is_emptied_is_never_opened(blocks, tmp_path):
    image = plain(tmp_path, "-O", "^metadata_csum")
    asked = []

    def selection(path, directory):
        asked.append((path, directory))
        return Inclusion.EMPTIED if path == "home" else Inclusion.NOTHING if path == "lost+found" else Inclusion.ALL

    tree = ext.open(blocks(image)).tree(selection)
    assert sorted(tree.root.entries) == ["file", "home"]
    assert isinstance(tree.root.entries["home"], Directory)
    assert not tree.root.entries["home"].entries
    assert sorted(asked) == [("file", False), ("home", True), ("lost+found", True)]


@pytest.mark.oracle
def test_several_streams_of_one_file_are_read_at_once(blocks, tmp_path):
    tree = ext.open(blocks(plain(tmp_path))).tree()
    file = tree.root.entries["file"]
    assert isinstance(file, File)
    with file.content.open() as one, file.content.open() as other:
        assert one.read(8) == b"content\n"
        assert other.read(16) == b"content\n" * 2
        assert one.read(1 << 20) == b"content\n" * 2999
        assert one.read(1) == b""
        assert one.is_consistent()


@pytest.mark.oracle
def test_a_truncated_volume_is_refused(blocks, tmp_path):
    image = plain(tmp_path)
    with image.open("r+b") as file:
        file.truncate(8 * MIB)
    with pytest.raises(FormatError, match=r"16777216 bytes long, but the volume only 8388608"):
        ext.open(blocks(image))


@pytest.mark.oracle
def test_an_unknown_feature_is_named(blocks, tmp_path):
    image = plain(tmp_path, "-O", "^metadata_csum")
    patch(image, 1024 + 0x60, (0x1 | 0x42 | 1 << 20).to_bytes(4, "little"))
    with pytest.raises(SourceError, match="compression, 0x100000"):
        ext.open(blocks(image))


@pytest.mark.oracle
def test_an_encrypted_directory_is_refused_by_name_unless_it_is_left_out(blocks, tmp_path):
    image = plain(tmp_path, "-O", "^metadata_csum")
    subprocess.run(["debugfs", "-w", "-R", "sif home flags 0x80800", image], check=True, capture_output=True)
    with pytest.raises(SourceError, match=r"directory /home: it is encrypted \(fscrypt\)"):
        ext.open(blocks(image)).tree()
    tree = ext.open(blocks(image)).tree(lambda path, _: Inclusion.EMPTIED if path == "home" else Inclusion.ALL)
    assert "file" in tree.root.entries


FAULTS = {
    "a second name for a directory": ("link /home /again", "a hard link to a directory"),
    "a directory in itself": ("link /home /home/user/loop", "a hard link to a directory"),
    "an entry for an inode that is free": ("clri /file", "is not in use"),
    "an entry for a reserved inode": ("link <7> /reserved", "inode 7 is reserved"),
    "a file of 2^60 bytes": ("sif /file size 0x1000000000000000", "bytes"),
    "a directory larger than the volume": ("sif /home size 0x40000000", "invalid for a directory: 1073741824 bytes"),
    "a type that there is none of": ("sif /file mode 0170644", "type"),
}


@pytest.mark.oracle
@pytest.mark.parametrize("fault", FAULTS)
def test_forged_inodes_are_reported_with_their_place(fault, blocks, tmp_path):
    command, words = FAULTS[fault]
    image = plain(tmp_path, "-O", "^metadata_csum")
    subprocess.run(["debugfs", "-w", "-R", command, image], check=True, capture_output=True)
    with pytest.raises(LtspError) as raised:
        ext.open(blocks(image)).tree()
    assert words in raised.value.message
    assert raised.value.message.startswith("directory /")
    assert "e2fsck -fy" in raised.value.hint


@pytest.mark.oracle
def test_a_name_that_leads_elsewhere_is_damage(blocks, tmp_path):
    image = plain(tmp_path, "-O", "^metadata_csum")
    data = image.read_bytes()
    at = data.index(b"\4\1file") + 2
    for name in (b"../e", b"a/bc", b"ab\0d"):
        patch(image, at, name)
        with pytest.raises(FormatError, match="an entry with the invalid name"):
            ext.open(blocks(image)).tree()


@pytest.mark.oracle
def test_extents_out_of_the_volume_are_damage_when_the_file_is_opened(blocks, tmp_path):
    image = plain(tmp_path, "-O", "^metadata_csum")
    command = "sif /file block[5] 0x7fffffff"
    subprocess.run(["debugfs", "-w", "-R", command, image], check=True, capture_output=True)
    file = ext.open(blocks(image)).tree().root.entries["file"]
    assert isinstance(file, File)
    with pytest.raises(FormatError, match="block 2147483647"), file.content.open():
        pass


@pytest.mark.oracle
def test_an_entry_beyond_the_inodes_is_damage(blocks, tmp_path):
    image = plain(tmp_path, "-O", "^metadata_csum")
    patch(image, image.read_bytes().index(b"\4\1file") - 6, (40_000).to_bytes(4, "little"))
    with pytest.raises(FormatError, match="entry file: inode 40000 is out of range: the file system has 4096 inodes"):
        ext.open(blocks(image)).tree()


@pytest.fixture
def checked(tmp_path):
    """A file in so many pieces that its map has blocks of its own, and one with a block of attributes."""
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", 96 * MIB, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-I", "128")
    filled(image, tmp_path / "source", then="allocated")
    subprocess.run(["debugfs", "-w", "-R", "ea_set pieces user.key value", image], check=True, capture_output=True)
    return image


def inode_of(found, name):
    return found._read_inode(found.tree().get(name).content.number)


@pytest.mark.root
@pytest.mark.oracle
def test_a_wrong_checksum_in_the_map_of_a_file_is_refused_as_by_the_kernel(checked, blocks):
    found = ext.open(blocks(checked))
    block = int.from_bytes(inode_of(found, "pieces").map[16:20], "little")
    flip(checked, (block + 1) * 1024 - 30)
    content = ext.open(blocks(checked)).tree().get("pieces").content
    with pytest.raises(FormatError, match="extent tree is damaged: wrong checksum"):
        content.open()
    assert is_refused_by_kernel(checked, "pieces")


@pytest.mark.root
@pytest.mark.oracle
def test_a_wrong_checksum_of_a_block_of_attributes_is_refused(checked, blocks):
    found = ext.open(blocks(checked))
    assert found.tree().get("pieces").metadata.xattrs == (("user.key", b"value"),)
    flip(checked, (inode_of(found, "pieces").attribute_block + 1) * 1024 - 1)
    with pytest.raises(FormatError, match="attribute block is damaged: wrong checksum"):
        ext.open(blocks(checked)).tree()


LARGE = bytes([3]) * 4096
"""As the last attribute of `larger-than-a-block` begins, whose value lies in an inode of its own."""


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("features", ["ea_inode", "ea_inode,^metadata_csum", "ea_inode,metadata_csum_seed"])
def test_a_damaged_value_in_an_inode_of_its_own_is_refused_as_by_the_kernel(features, blocks, tmp_path):
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", 64 * MIB, "mke2fs", "-q", "-t", "ext4", "-O", features)
    filled(image, tmp_path / "source", then="many-attributes")
    assert not is_refused_by_kernel(image, "larger-than-a-block")
    assert len(ext.open(blocks(image)).tree().get("larger-than-a-block").metadata.xattrs) == 4
    flip(image, image.read_bytes().index(LARGE) + 5000)
    with pytest.raises(FormatError, match=r"value of its attribute in inode \d+ is damaged: wrong checksum"):
        ext.open(blocks(image)).tree()
    assert is_refused_by_kernel(image, "larger-than-a-block")


def with_value(image, name, value):
    """Give `file` an attribute of the user. debugfs takes a block of a value, here 1 KiB, which fits into no other."""
    source = image.with_name("value")
    source.write_bytes(value)
    command = f"ea_set -f {source} file user.{name}"
    subprocess.run(["debugfs", "-w", "-R", command, image], check=True, capture_output=True)


@pytest.mark.root
@pytest.mark.oracle
def test_the_value_of_another_attribute_is_refused_as_by_the_kernel(blocks, tmp_path):
    """Its own checksum is right."""
    image = plain(tmp_path, "-O", "ea_inode,^metadata_csum")
    with_value(image, "first-key", b"v" * 1024)
    with_value(image, "second-key", b"w" * 1024)
    assert not is_refused_by_kernel(image, "file")
    data = image.read_bytes()
    first, second = (data.index(name) - 12 for name in (b"first-key", b"second-key"))
    patch(image, first, data[second : second + 4])
    with pytest.raises(FormatError, match="wrong hash of its entry"):
        ext.open(blocks(image)).tree()
    assert is_refused_by_kernel(image, "file")


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("name", ["key", "schlüssel"])
def test_names_of_attributes_are_hashed_as_unsigned_or_signed_bytes(name, blocks, tmp_path):
    """As kernels and tools of all times did, which agree on names of ASCII alone."""
    image = plain(tmp_path, "-O", "ea_inode,^metadata_csum")
    with_value(image, name, b"v" * 1024)
    ((key, value),) = ext.open(blocks(image)).tree().get("file").metadata.xattrs
    assert (key, len(value), set(value)) == (f"user.{name}", 1024, set(b"v"))


@pytest.mark.oracle
def test_a_value_as_lustre_had_them_names_its_file_instead_of_a_checksum(blocks, tmp_path):
    image = plain(tmp_path, "-O", "ea_inode,^metadata_csum")
    with_value(image, "key", b"v" * 1024)
    found = ext.open(blocks(image))
    parent = inode_of(found, "file")
    data = image.read_bytes()
    value = int.from_bytes(data[data.index(b"key") - 12 :][:4], "little")
    for field, word in (("mtime", parent.number), ("atime", 0), ("generation", parent.generation)):
        command = f"sif <{value}> {field} {f'@{word}' if field != 'generation' else word}"
        subprocess.run(["debugfs", "-w", "-R", command, image], check=True, capture_output=True)
    flip(image, image.read_bytes().index(b"v" * 1024))
    assert dict(ext.open(blocks(image)).tree().get("file").metadata.xattrs)["user.key"][1:] == b"v" * 1023


@pytest.mark.oracle
@pytest.mark.parametrize("features", ["metadata_csum", "^metadata_csum,uninit_bg", "^metadata_csum,uninit_bg,64bit"])
def test_a_wrong_checksum_of_a_group_is_refused_as_by_the_checker(features, blocks, tmp_path):
    image = make_file_system(tmp_path / "image", 96 * MIB, "mke2fs", "-q", "-t", "ext4", "-O", features, "-b", "4096")
    assert ext.open(blocks(image)).tree() is not None
    flip(image, 4096 + 0x0C)
    with pytest.raises(FormatError, match="wrong checksum of block group 0"):
        ext.open(blocks(image))
    checker = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
    assert "checksum" in checker.stdout


@pytest.mark.root
@pytest.mark.oracle
def test_a_group_without_checksums_is_accepted(blocks, tmp_path):
    image = make_file_system(tmp_path / "image", 96 * MIB, "mke2fs", "-q", "-t", "ext2", "-b", "4096")
    flip(image, 4096 + 0x0C)
    assert ext.open(blocks(image)).tree() is not None
