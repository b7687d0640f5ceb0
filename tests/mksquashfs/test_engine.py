from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from corpus import dict_tree, kitchen_sink, tree_snapshot
from corpus.tree_strategies import text
from ltsp.build.summary import describe_mksquashfs_losses
from ltsp.errors import FileUnreadable, LtspError, UsageError
from ltsp.host import command
from ltsp.mksquashfs import engine
from ltsp.mksquashfs.options import parse
from ltsp.source.directory.directory import DirectorySource
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.superblock import Flags, SquashfsSuperblock
from ltsp.squashfs.writer import WriteOptions
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata, Socket
from ltsp.tree.selection import select_all
from ltsp.tree.tree import Tree

pytestmark = pytest.mark.oracle

ROOT = Metadata(0o1751, uid=12, gid=34, mtime=987654321)
SMALL = Tree(Directory(ROOT, {"a": File(Metadata(0o644, mtime=5), Bytes(b"content"))}))
ZSTD = WriteOptions(Compression("zstd", 1))


@contextmanager
def nameless(directory: Path):
    """An unnamed file, like the staged image of a version."""
    descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    with open(descriptor, "w+b", buffering=0) as file:
        yield file


def written(tree: Tree, directory: Path, words=(), options=ZSTD, faults=None, progress=lambda _amount: None):
    """The named image, and the messages about it."""
    parameters = parse(words)
    with nameless(directory) as file:
        faults = Faults() if faults is None else faults
        made = engine.write_image(tree, file, parameters.apply_to(options), parameters, faults, progress)
        image = directory / "image"
        image.write_bytes(os.pread(file.fileno(), made.size, 0))
    return image, made


def superblock(image: Path) -> SquashfsSuperblock:
    return SquashfsSuperblock.unpack(image.read_bytes()[: SquashfsSuperblock.layout.size])


@pytest.mark.root
@pytest.mark.parametrize(
    "words", ["", "-no-fragments", "-no-duplicates", "-no-exports", "-noI -noD -noF -noX", "-always-use-fragments"]
)
def test_the_tree_of_nasty_cases_comes_back_through_a_file_without_a_name(tmp_path, words):
    large = 8 << 20 if words else 300 << 20
    root = kitchen_sink.build(tmp_path / "source", replace(kitchen_sink.QUICK, entries=200, owners=50, large=large))
    os.setxattr(root, "user.of-the-root", b"lost")
    taken: list[int] = []
    with DirectorySource("a", str(root), "a directory").open(select_all, Faults()) as tree:
        image, made = written(tree, tmp_path, words.split(), progress=taken.append)
    wanted = tree_snapshot.stated(tree_snapshot.directory(root))
    sockets = [path for path, entry in wanted.items() if entry.kind == "s"]
    assert (made.sockets, made.root_attributes) == (len(sockets), 1)
    del wanted[sockets[0]]
    found = tree_snapshot.unpacked(image, tmp_path)
    wanted[b""] = replace(wanted[b""], xattrs=())
    if not made.keeps_root:
        found[b""] = replace(found[b""], uid=wanted[b""].uid, gid=wanted[b""].gid, mtime=wanted[b""].mtime)
    assert tree_snapshot.differences(wanted, found) == []
    assert sum(taken) == made.source_bytes > large
    assert made.size < 100 << 20, "holes are stored"
    assert made.lost.times == sum(not 0 <= second <= tree_snapshot.LATEST for second in kitchen_sink.TIMES) * 3
    assert made.lost.acls == 2
    assert made.inodes == superblock(image).inode_count


def test_the_root_keeps_its_mode_and_from_mksquashfs_4_6_on_its_owner_and_time(tmp_path):
    image, made = written(SMALL, tmp_path)
    call = ["unsquashfs", "-UTC", "-lln", "-d", "", image]
    root = subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    assert root.startswith("drwxr-x--t")
    assert ("12/34" in root and "2001-04-19 04:25" in root) == made.keeps_root == (engine.read_version() >= (4, 6))
    assert list(describe_mksquashfs_losses(made)) == (
        []
        if made.keeps_root
        else ["the root directory has the owner and time of the build: mksquashfs older than 4.6 does not keep them"]
    )


def test_pseudo_files_come_with_a_stream_from_mksquashfs_4_6_on_and_are_refused_before(tmp_path):
    words = ["-p", "/pseudo d 700 1 2"]
    if engine.read_version() < (4, 6):
        with pytest.raises(UsageError, match="Pseudo files"):
            engine.check_parameters(parse(words))
        return
    engine.check_parameters(parse(words))
    image, _ = written(SMALL, tmp_path, words)
    listed = subprocess.run(["unsquashfs", "-lln", "-d", "", image], check=True, capture_output=True, text=True).stdout
    assert any(line.startswith("drwx------ 1/2") and line.endswith("/pseudo") for line in listed.splitlines()), listed


@pytest.mark.parametrize(("said", "version"), {"mksquashfs version 4.4 (2019)": (4, 4), "a fork": (99, 0)}.items())
def test_a_mksquashfs_that_reads_no_tar_is_refused_before_it_is_fed(tmp_path, monkeypatch, said, version):
    (tmp_path / "mksquashfs").write_text(f"#!/bin/sh\necho '{said}'\nexit 1\n")
    (tmp_path / "mksquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert engine.read_version() == version
    with pytest.raises(LtspError, match=r"mksquashfs (4\.4 cannot read a tar stream|failed)"):
        written(SMALL, tmp_path)


def test_the_time_of_the_image_is_that_of_its_newest_file_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    assert superblock(written(SMALL, tmp_path)[0]).mtime == ROOT.mtime
    assert superblock(written(SMALL, tmp_path, ["-mkfs-time", "77"])[0]).mtime == 77


def test_what_our_writer_lacks_is_done_by_the_real_one(tmp_path):
    words = "-b 64K -noI -noF -no-exports -comp gzip -Xcompression-level 12 -Xwindow-size 12"
    read = superblock(written(SMALL, tmp_path, words.split())[0])
    flags = Flags(read.flags)
    assert (read.block_size, read.compressor) == (64 << 10, 1)
    assert Flags.STORED_INODES | Flags.STORED_FRAGMENTS | Flags.COMPRESSOR_OPTIONS in flags
    assert not flags & (Flags.EXPORTABLE | Flags.STORED_DATA)
    assert Flags.EXPORTABLE in Flags(superblock(written(SMALL, tmp_path)[0]).flags)


@pytest.mark.parametrize(
    ("words", "flag"),
    {
        "-noI": Flags.STORED_INODES,
        "-noD": Flags.STORED_DATA,
        "-noF": Flags.STORED_FRAGMENTS,
        "-noX": Flags.STORED_XATTRS,
        "-no-fragments": Flags.NO_FRAGMENTS,
    }.items(),
)
def test_an_option_stores_what_it_names_and_reports_it(tmp_path, words, flag):
    nodes = dict_tree.make_tree({"a": text(131_072), "b": text(1000, 1), "c": text(1000, 2)})
    nodes = nodes.edit({"x": File(Metadata(0o644, xattrs=(("user.a", text(500)),)), Bytes(b""))})
    plain = superblock(written(nodes, tmp_path)[0])
    image = superblock(written(nodes, tmp_path, [words])[0])
    assert flag in Flags(image.flags)
    assert flag not in Flags(plain.flags)
    assert image.bytes_used > plain.bytes_used


def test_without_exports_there_is_no_table_of_them(tmp_path):
    image = superblock(written(SMALL, tmp_path, ["-no-exports"])[0])
    assert image.export_table == 2**64 - 1
    assert Flags.EXPORTABLE not in Flags(image.flags)


def test_duplicates_are_stored_again_when_that_is_asked_for(tmp_path):
    noise = os.urandom(8192)
    tree = dict_tree.make_tree({"a": noise, "b": noise})
    assert superblock(written(tree, tmp_path, ["-b", "4K"])[0]).bytes_used < 16_000
    assert superblock(written(tree, tmp_path, ["-b", "4K", "-no-duplicates"])[0]).bytes_used >= 16_000


def listed(image: Path) -> list[str]:
    call = ["unsquashfs", "-UTC", "-lln", "-d", "", image]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()


def test_times_of_the_image_and_of_all_files_can_be_set(tmp_path):
    image, _ = written(SMALL, tmp_path, ["-mkfs-time", "77", "-all-time", "86400"])
    assert superblock(image).mtime == 77
    assert [line.split()[3:5] for line in listed(image)] == [["1970-01-02", "00:00"]] * 2
    assert superblock(written(SMALL, tmp_path, ["-fstime", "78"])[0]).mtime == 78


def test_the_mode_of_the_root_can_be_set_and_its_owner_and_time_from_mksquashfs_4_6_on(tmp_path):
    assert listed(written(SMALL, tmp_path, ["-root-mode", "1777"])[0])[0].startswith("drwxrwxrwt")
    words = ["-root-uid", "5", "-root-gid", "6", "-root-time", "86400"]
    if engine.read_version() < (4, 6):
        with pytest.raises(UsageError, match="ignores -root-uid -root-gid -root-time with a tar stream"):
            engine.check_parameters(parse(words))
        return
    root = listed(written(SMALL, tmp_path, words)[0])[0].split()
    assert (root[1], *root[3:5]) == ("5/6", "1970-01-02", "00:00")


NAMES = ["a", "b", ".a", ".b", "ab", "a.b", "c", "log.1", "x y", "-"]
EXPRESSIONS = ["a", "^a$", "b", "[.]", "^[ab]$", "^.$", "^(a|c)", "1$", "a+b?", "[[:punct:]]"]


def lay_out(chance, root: Path, depth=0) -> None:
    root.mkdir()
    for name in chance.sample(NAMES, chance.randint(1, 6)):
        if depth < 3 and chance.random() < 0.5:
            lay_out(chance, root / name, depth + 1)
        else:
            (root / name).touch()


@pytest.mark.parametrize("number", range(5))
def test_random_expressions_leave_out_what_they_leave_out_of_a_directory(chance, tmp_path, number):
    root = tmp_path / "root"
    lay_out(chance, root)
    patterns = [
        "/".join(chance.choice(EXPRESSIONS) for _ in range(chance.choice([1, 2, 3]))) for _ in range(1 + number % 3)
    ]
    exclusions = ["-regex", "-e", *patterns]
    if number % 2:
        (tmp_path / "list").write_text("# patterns\n\n" + "".join(f"  {pattern}\n" for pattern in patterns))
        exclusions = ["-regex", "-ef", str(tmp_path / "list")]
    call = ["mksquashfs", root, tmp_path / "expected", "-noappend", "-quiet", "-no-progress", *exclusions]
    subprocess.run(call, check=True, capture_output=True)
    with DirectorySource("a", str(root), "a directory").open(select_all, Faults()) as tree:
        image, _ = written(tree, tmp_path, exclusions)
    shown = [
        subprocess.run(["unsquashfs", "-l", "-d", "", each], check=True, capture_output=True).stdout
        for each in (image, tmp_path / "expected")
    ]
    assert shown[0] == shown[1], patterns


def test_a_hard_link_to_a_file_that_an_expression_leaves_out_is_not_lost_silently(tmp_path):
    shared = File(Metadata(0o644), Bytes(b"x"))
    tree = Tree(Directory(ROOT, {"d": Directory(ROOT), "first": shared, "second": shared}))
    with pytest.raises(LtspError, match="mksquashfs lost /second: -regex leaves out /first, which is another name"):
        written(tree, tmp_path, ["-regex", "-e", "^fir"])
    assert len(listed(written(tree, tmp_path, ["-regex", "-e", "^sec"])[0])) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    {"-regex -e (a": "Unmatched", "-regex -e /a": "prefixed excludes not supported"}.items(),
)
def test_a_bad_expression_is_refused_before_the_build(words, message):
    with pytest.raises(UsageError, match=message):
        engine.check_parameters(parse(words.split()))


@pytest.mark.parametrize("name", ["lzo", "lzma", "lz4", "xz", "none", "gzip"])
def test_every_compressor_of_the_real_one_can_be_had(tmp_path, name):
    words = ["-comp", name] if name != "none" else []
    options = replace(ZSTD, compression=Compression("none")) if name == "none" else ZSTD
    image, _ = written(SMALL, tmp_path, words, options)
    assert subprocess.run(["unsquashfs", "-cat", image, "a"], check=True, capture_output=True).stdout == b"content"


def test_files_with_a_priority_come_first_in_the_image(tmp_path):
    noise = {name: os.urandom(200_000) for name in ("a", "b", "c")}
    tree = Tree(Directory(ROOT, {name: File(Metadata(0o644), Bytes(data)) for name, data in noise.items()}))
    image, _ = written(tree, tmp_path, ["-no-sparse"], replace(ZSTD, sort_priorities={"c": 1, "a": -1}))
    data = image.read_bytes()
    assert data.index(noise["c"][:1000]) < data.index(noise["b"][:1000]) < data.index(noise["a"][:1000])


def test_an_unknown_parameter_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"mksquashfs does not support all of these options: -option-of-tomorrow x"):
        written(SMALL, tmp_path, ["-option-of-tomorrow", "x"])


def test_a_failure_shows_the_last_output_of_mksquashfs(tmp_path):
    with pytest.raises(LtspError, match=r"^mksquashfs failed with exit status 1: .*Xbcj unrecognised filter"):
        written(SMALL, tmp_path, ["-comp", "xz", "-Xbcj", "none-such"])


def test_no_room_is_named_as_what_it_is(tmp_path, monkeypatch):
    tree = Tree(Directory(ROOT, {"a": File(Metadata(0o644), Bytes(os.urandom(3 << 20)))}))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import os; os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    (tmp_path / "mksquashfs").write_text(
        f"#!/bin/sh\nexec {sys.executable} -c '{code}' {command.find_program('mksquashfs')} \"$@\"\n"
    )
    (tmp_path / "mksquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(LtspError, match="because File too large"):
        written(tree, tmp_path)


def test_a_missing_mksquashfs_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "find_program", lambda _program: None)
    with pytest.raises(LtspError, match="install the package squashfs-tools"):
        written(SMALL, tmp_path)


class Unending:
    """A file that never ends, and tells when it is read."""

    size = 1 << 40
    mtime = None

    def __init__(self) -> None:
        self.read_once = threading.Event()

    def open(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        return None

    def hole_size(self) -> int:
        return 0

    def read(self, size: int) -> bytes:
        self.read_once.set()
        time.sleep(0.01)
        return bytes(size)

    def is_consistent(self) -> bool:
        return True


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()]


def test_a_signal_ends_the_build_and_leaves_no_process_and_no_file(tmp_path):
    content = Unending()
    tree = Tree(Directory(ROOT, {"a": File(Metadata(0o644), content)}))
    before = children()

    def interrupt() -> None:
        content.read_once.wait()
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        written(tree, tmp_path)
    helper.join()
    assert children() == before
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_ends_the_build(tmp_path):
    class Refused(Bytes):
        def open(self):
            raise PermissionError(13, "Permission denied")

    tree = Tree(Directory(ROOT, {"a": File(Metadata(0o644), Refused(b""))}))
    with pytest.raises(FileUnreadable, match="cannot read /a: Permission denied"):
        written(tree, tmp_path)
    faults = Faults(skip_unreadable=True)
    assert written(tree, tmp_path, faults=faults)[1].inodes == 1
    assert faults.unreadable == [("a", "Permission denied")]


def test_what_is_lost_is_counted(tmp_path):
    lossy = Metadata(0o755, mtime=-1, xattrs=(("system.posix_acl_default", b"x"), ("other.a", b"x")))
    tree = Tree(Directory(lossy, {"s": Socket(Metadata(0o600)), "d": Directory(lossy)}))
    _, made = written(tree, tmp_path)
    assert (made.lost.times, made.lost.acls, made.lost.foreign) == (2, 1, 1)
    assert (made.sockets, made.root_attributes) == (1, 2)
    assert list(describe_mksquashfs_losses(made))[:2] == [
        "mksquashfs left out 1 socket: a tar stream cannot contain them",
        "mksquashfs left out 2 attributes of the root directory",
    ]


def test_the_staged_file_stays_private(tmp_path):
    with nameless(tmp_path) as file:
        engine.write_image(SMALL, file, ZSTD, parse([]), Faults())
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
