"""A directory becomes a tree: every kind of entry, and entries that change under the scan."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from ltsp.errors import FileUnreadable
from ltsp.host import system_call
from ltsp.host.root import RootDirectory
from ltsp.source.directory.scan import Scan
from ltsp.tree.faults import Faults
from ltsp.tree.node import Device, DeviceKind, Fifo, File, Metadata, Socket, Symlink
from ltsp.tree.selection import Inclusion, select_all

SOURCE = Path(__file__).parent.parent.parent / "src"
NOBODY = 65534


@pytest.fixture(params=["openat2", "stepwise"])
def scan(request, monkeypatch):
    """Scans a directory; both ways to open its parts."""
    if request.param == "stepwise":

        def missing(*_arguments):
            raise OSError(errno.ENOSYS, "no such call")

        monkeypatch.setattr(system_call, "openat2", missing)
    roots = []

    def run(path, selection=select_all, faults=None, **options):
        roots.append(RootDirectory.open(os.fsencode(path)))
        return Scan(selection, Faults() if faults is None else faults, **options).run(roots[-1])

    yield run
    for root in roots:
        root.close()


@pytest.fixture
def open_place():
    """A directory that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


def paths(tree):
    return [path for path, _ in tree.walk()]


def content(node):
    with node.content.open() as stream:
        data = stream.read(stream.size)
        assert stream.is_consistent()
        assert stream.mtime is None
    return data


@pytest.mark.root
def test_every_kind_of_entry(tmp_path, scan):
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("/nowhere/\udcff")
    os.mkfifo(tmp_path / "fifo")
    os.mknod(tmp_path / "character", stat.S_IFCHR | 0o620, os.makedev(300, 70000))
    os.mknod(tmp_path / "block", stat.S_IFBLK | 0o660, os.makedev(8, 1))
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "socket"))
    entries = scan(tmp_path).root.entries
    assert {name: type(node) for name, node in entries.items()} == {
        "file": File,
        "link": Symlink,
        "fifo": Fifo,
        "character": Device,
        "block": Device,
        "socket": Socket,
    }
    assert content(entries["file"]) == b"text"
    assert entries["link"].target == "/nowhere/\udcff"
    character, block = entries["character"], entries["block"]
    assert (character.kind, character.major, character.minor) == (DeviceKind.CHARACTER, 300, 70000)
    assert (block.kind, block.major, block.minor) == (DeviceKind.BLOCK, 8, 1)


@pytest.mark.root
def test_metadata_is_the_inode_s(tmp_path, scan):
    file = tmp_path / "file"
    file.touch()
    os.chown(file, 70000, 80000)
    os.chmod(file, 0o6751)
    os.utime(file, ns=(0, -1_500_000_000))
    os.chmod(tmp_path, 0o1711)
    os.utime(tmp_path, ns=(0, 5_000_000_000 * 10**9 + 999_999_999))
    tree = scan(tmp_path)
    assert tree.root.metadata == Metadata(0o1711, 0, 0, 5_000_000_000)
    assert tree.get("file").metadata == Metadata(0o6751, 70000, 80000, -2)


@pytest.mark.root
def test_attributes_are_kept_of_links_and_devices_too(tmp_path, scan):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").mkdir()
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(tmp_path / "file", "user.b", b"2")
    os.setxattr(tmp_path / "file", "user.a", b"\0\xff")
    os.setxattr(tmp_path / "directory", "user.d", b"")
    for name in ("file", "link", "device"):
        os.setxattr(tmp_path / name, "trusted.t", name.encode(), follow_symlinks=False)
    tree = scan(tmp_path)
    assert tree.get("file").metadata.xattrs == (("trusted.t", b"file"), ("user.a", b"\0\xff"), ("user.b", b"2"))
    assert tree.get("link").metadata.xattrs == (("trusted.t", b"link"),)
    assert tree.get("device").metadata.xattrs == (("trusted.t", b"device"),)
    assert tree.get("directory").metadata.xattrs == (("user.d", b""),)


def test_names_of_any_bytes(tmp_path, scan):
    names = [b"\xff\xfe", "ä€😀".encode(), b"new\nline", b"a\\b", b"%n{}", b"-rf", b"n" * 255, b"\x01\x7f"]
    for name in names:
        (Path(tmp_path) / os.fsdecode(name)).write_bytes(name)
        os.mkdir(os.fsencode(tmp_path) + b"/" + name[:200] + b".d")
    tree = scan(tmp_path)
    assert len(tree.root.entries) == 2 * len(names)
    for name in names:
        assert content(tree.root.entries[name.decode("utf-8", "surrogateescape")]) == name


def test_the_language_of_the_machine_changes_nothing(tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/d\xc3\xa4\xff")
    (tmp_path / "d\xe4\udcff/f\xe4\udcff").write_text("x")
    script = (
        "import os\nfrom ltsp.host.root import RootDirectory\nfrom ltsp.source.directory.scan import Scan\n"
        "from ltsp.tree.faults import Faults\nfrom ltsp.tree.selection import select_all\nimport sys\n"
        "tree = Scan(select_all, Faults()).run(RootDirectory.open(os.fsencode(sys.argv[1])))\n"
        "print(ascii([(p, p.endswith('f\\xe4\\udcff') and n.content.open().read(9)) for p, n in tree.walk()]))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, tmp_path],
            env={"PYTHONPATH": str(SOURCE), "PYTHONCOERCECLOCALE": "0", **environment},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for environment in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0"})
    }
    assert outputs == {ascii([("d\xe4\udcff", False), ("d\xe4\udcff/f\xe4\udcff", b"x")]) + "\n"}


def test_hard_links_share_their_node(tmp_path, scan):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "sub/b")
    (tmp_path / "l").symlink_to("a")
    os.link(tmp_path / "l", tmp_path / "sub/l", follow_symlinks=False)
    (tmp_path / "other").write_text("x")
    tree = scan(tmp_path)
    assert tree.get("a") is tree.get("sub/b")
    assert tree.get("l") is tree.get("sub/l")
    assert tree.get("a") is not tree.get("other")


def test_a_link_whose_other_name_is_left_out_is_an_ordinary_file(tmp_path, scan):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("x")
    os.link(tmp_path / "out/a", tmp_path / "in/b")
    tree = scan(tmp_path, lambda path, _directory: Inclusion.EMPTIED if path == "out" else Inclusion.ALL)
    assert paths(tree) == ["in", "in/b", "out"]
    assert content(tree.get("in/b")) == b"x"


def test_the_selection_is_asked_once_for_each_entry_that_it_lets_one_see(tmp_path, scan):
    for name in ("all/file", "emptied/file", "nothing/file"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    os.chmod(tmp_path / "emptied", 0o1700)
    asked = []

    def selection(path, directory):
        asked.append((path, directory))
        return {"emptied": Inclusion.EMPTIED, "nothing": Inclusion.NOTHING}.get(path, Inclusion.ALL)

    tree = scan(tmp_path, selection)
    assert sorted(asked) == [("all", True), ("all/file", False), ("emptied", True), ("nothing", True)]
    assert paths(tree) == ["all", "all/file", "emptied"]
    assert tree.get("emptied").metadata.mode == 0o1700


@pytest.fixture
def deep(tmp_path):
    """A file below 1,500 directories, which pytest's own way to clear up cannot walk."""
    top = tmp_path / "deep"
    top.mkdir()
    try:
        here = os.open(top, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        with open(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w") as file:
            file.write("deep")
        os.close(here)
        yield top
    finally:
        subprocess.run(["rm", "-rf", top], check=True)


def test_depth_is_unlimited(deep, scan):
    tree = scan(deep)
    *_, (path, node) = tree.walk()
    assert path == "d/" * 1500 + "file"
    assert content(node) == b"deep"


def test_what_vanishes_before_it_is_seen_is_named(tmp_path, scan):
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "stays").touch()

    def selection(path, directory):
        if path == "file":
            (tmp_path / path).unlink()
        elif directory:
            (tmp_path / path).rmdir()
        return Inclusion.ALL

    faults = Faults()
    assert paths(scan(tmp_path, selection, faults)) == ["stays"]
    assert sorted(faults.vanished) == ["directory", "file"]


def test_a_directory_that_becomes_a_link_is_not_followed(tmp_path, scan):
    secret = tmp_path / "host"
    secret.mkdir()
    (secret / "canary").touch()
    (tmp_path / "chroot/directory").mkdir(parents=True)

    def selection(path, _directory):
        (tmp_path / "chroot" / path).rmdir()
        (tmp_path / "chroot" / path).symlink_to(secret)
        return Inclusion.ALL

    faults = Faults()
    assert paths(scan(tmp_path / "chroot", selection, faults)) == []
    assert faults.vanished == ["directory"]


@pytest.mark.root
def test_an_unreadable_directory_is_an_error_or_named(open_place, scan):
    (open_place / "closed/below").mkdir(parents=True)
    (open_place / "open").mkdir()
    os.chmod(open_place / "closed", 0o700)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(FileUnreadable, match="cannot read /closed: Permission denied"):
            scan(open_place)
        faults = Faults(skip_unreadable=True)
        assert paths(scan(open_place, faults=faults)) == ["open"]
        assert faults.unreadable == [("closed", "Permission denied")]
    finally:
        os.seteuid(0)


@pytest.mark.root
def test_an_unreadable_root_is_an_error_in_any_case(open_place, scan):
    (open_place / "closed").mkdir(mode=0o700)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(FileUnreadable, match="cannot read the source"):
            scan(open_place / "closed", faults=Faults(skip_unreadable=True))
    finally:
        os.seteuid(0)


@pytest.mark.root
def test_output_directories_are_known_under_every_path(tmp_path, scan):
    (tmp_path / "out/images").mkdir(parents=True)
    (tmp_path / "seen").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "out", tmp_path / "seen"], check=True)
    status = (tmp_path / "seen").stat()
    subprocess.run(["umount", tmp_path / "seen"], check=True)
    assert paths(scan(tmp_path, excluded_inodes={(status.st_dev, status.st_ino)})) == ["seen"]


def test_few_descriptors_are_open_at_a_time(tmp_path, scan):
    for outer in range(12):
        for inner in range(12):
            (tmp_path / f"{outer}/{inner}").mkdir(parents=True)
    most = 0

    def selection(_path, _directory):
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))
        return Inclusion.ALL

    before = len(os.listdir("/proc/self/fd"))
    scan(tmp_path, selection)
    assert most - before < 50


@pytest.mark.oracle
def test_a_skipped_directory_is_never_opened(tmp_path):
    """Told by strace, which shows every descriptor with its path."""
    for name in ("all/below", "emptied/below", "nothing/below"):
        (tmp_path / "chroot" / name).mkdir(parents=True)
        (tmp_path / "chroot" / name / "file").touch()
    script = (
        "import os, sys\nfrom ltsp.host.root import RootDirectory\nfrom ltsp.source.directory.scan import Scan\n"
        "from ltsp.tree.faults import Faults\nfrom ltsp.tree.selection import Inclusion\n"
        "takes = {'emptied': Inclusion.EMPTIED, 'nothing': Inclusion.NOTHING}\n"
        "tree = Scan(lambda path, _: takes.get(path, Inclusion.ALL), Faults())"
        ".run(RootDirectory.open(os.fsencode(sys.argv[1])))\n"
        "for path, node in tree.walk():\n    print(path)\n"
        "    hasattr(node, 'content') and node.content.open().read(1)\n"
    )
    log = tmp_path / "log"
    run = subprocess.run(
        ["strace", "-f", "-y", "-o", log, sys.executable, "-W", "ignore", "-c", script, tmp_path / "chroot"],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert run.stdout.split() == ["all", "all/below", "all/below/file", "emptied"]
    text = log.read_text()
    assert f"<{tmp_path}/chroot/all/below>" in text
    assert f"<{tmp_path}/chroot/emptied" not in text
    assert f"<{tmp_path}/chroot/nothing" not in text
    assert '"nothing"' not in text, "not even looked at"


@pytest.mark.root
def test_a_failing_attribute_is_an_error_not_a_loss(tmp_path, scan, monkeypatch):
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", "user.a", b"1")

    def broken(*_arguments, **_options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "getxattr", broken)
    with pytest.raises(FileUnreadable, match="cannot read /file: Input/output error"):
        scan(tmp_path)


def test_a_directory_that_breaks_off_is_an_error(tmp_path, scan, monkeypatch):
    (tmp_path / "sub/below").mkdir(parents=True)
    (tmp_path / "file").touch()
    true = os.scandir

    def broken(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/sub"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return true(descriptor)

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(FileUnreadable, match="cannot read /sub"):
        scan(tmp_path)
    faults = Faults(skip_unreadable=True)
    assert paths(scan(tmp_path, faults=faults)) == ["file"]
    assert faults.unreadable == [("sub", "Input/output error")]


def test_a_million_files_would_fit(tmp_path, scan):
    """At most 600 bytes for a file, measured on some thousands."""
    for number in range(1000):
        (tmp_path / f"file-{number:06}").touch()
    tracemalloc.start()
    try:
        tree = scan(tmp_path)
        assert tracemalloc.get_traced_memory()[0] / 1000 < 600
    finally:
        tracemalloc.stop()
    assert len(tree.root.entries) == 1000
