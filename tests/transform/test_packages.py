"""Package lists: dpkg's from text, rpm's from a database as rpm writes it."""

import os
import sqlite3
import struct
import subprocess

import pytest

from corpus.dict_tree import make_tree
from ltsp.source.directory.directory import DirectorySource
from ltsp.transform.packages import list_packages, list_rpm_files
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

STATUS = """Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2-1
Description: a shell
 Version: not this one

Package: gone
Status: deinstall ok config-files
Version: 1

Package: bash
Status: install ok installed
Architecture: i386
Version: 5.2-2

Package: half
Status: install ok half-installed
Version: 1
"""


def test_dpkg_lists_what_is_installed():
    assert list_packages(make_tree({"var/lib/dpkg/status": STATUS})) == {"bash": "5.2-1", "bash:i386": "5.2-2"}


def test_minimal_images_have_a_file_for_each_package():
    tree = make_tree(
        {"var/lib/dpkg/status.d/a": "Package: a\nVersion: 1\n", "var/lib/dpkg/status.d/b": "Package: b\nVersion: 2\n"}
    )
    assert list_packages(tree) == {"a": "1", "b": "2"}


def _header(name, version, release, epoch=None):
    store, entries = b"", []
    for tag, value in ((1000, name), (1001, version), (1002, release), (1022, "x86_64")):
        entries.append(struct.pack(">IIiI", tag, 6, len(store), 1))
        store += value.encode() + b"\0"
    if epoch is not None:
        store += bytes(-len(store) % 4)
        entries.append(struct.pack(">IIiI", 1003, 4, len(store), 1))
        store += struct.pack(">I", epoch)
    return struct.pack(">II", len(entries), len(store)) + b"".join(entries) + store


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("place", ["usr/lib/sysimage/rpm", "var/lib/rpm"])
def test_rpm_lists_what_is_installed(tmp_path, place, mode):
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        blobs = [
            _header("bash", "5.2", "1.fc40"),
            _header("vim", "9", "2", epoch=2),
            _header("gpg-pubkey", "1", "1"),
            b"junk",
        ]
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    database.close()
    tree = make_tree({f"{place}/rpmdb.sqlite": (tmp_path / "db").read_bytes()})
    assert list_packages(tree) == {"bash": "5.2-1.fc40", "vim": "2:9-2"}


@pytest.mark.parametrize(
    "damaged", [b"", b"no database", b"SQLite format 3\0" + bytes(4096), os.urandom(5000)], ids=len
)
def test_a_damaged_database_says_nothing(damaged):
    assert list_packages(make_tree({"var/lib/rpm/rpmdb.sqlite": damaged})) is None


def test_an_older_database_of_rpm_is_not_read():
    assert list_packages(make_tree({"var/lib/rpm/Packages": b"\0" * 4096})) is None


def _with_files(directories, files):
    """The header of a package with these files: the number of a directory and a name each."""
    values = [
        (1116, 4, len(files), b"".join(struct.pack(">I", number) for number, _ in files)),
        (1117, 8, len(files), b"".join(name + b"\0" for _, name in files)),
        (1118, 8, len(directories), b"".join(name + b"\0" for name in directories)),
    ]
    store, entries = b"", b""
    for tag, kind, count, data in values:
        entries += struct.pack(">IIiI", tag, kind, len(store), count)
        store += data
    return struct.pack(">II", len(values), len(store)) + entries + store


def _database(at, *blobs):
    with sqlite3.connect(at) as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    database.close()
    return make_tree({"usr/lib/sysimage/rpm/rpmdb.sqlite": at.read_bytes()})


def test_rpm_names_its_files(tmp_path):
    chrome = _with_files([b"/opt/google/chrome/", b"/usr/bin/"], [(0, b"chrome"), (1, b"google-chrome"), (0, b"\xff")])
    tree = _database(tmp_path / "db", chrome, _header("bash", "5", "1"), b"junk", _with_files([b"/"], [(7, b"a")]))
    assert [*list_rpm_files(tree)] == [
        "/opt/google/chrome/chrome",
        "/usr/bin/google-chrome",
        "/opt/google/chrome/\udcff",
    ]


@pytest.mark.parametrize("tag", [1116, 1117, 1118])
@pytest.mark.parametrize(("offset", "count"), [(2**31 - 1, 1), (-1, 1), (0, 2**32 - 1), (0, 0), (6, 9)])
def test_forged_files_of_a_package_are_bounded(tmp_path, tag, offset, count):
    blob = bytearray(_with_files([b"/opt/"], [(0, b"a")]))
    at = blob.index(struct.pack(">I", tag)) + 8
    blob[at : at + 8] = struct.pack(">iI", offset, count)
    assert len([*list_rpm_files(_database(tmp_path / "db", bytes(blob)))]) <= 1


@pytest.mark.parametrize("damaged", [b"", b"no database", b"SQLite format 3\0" + bytes(4096)])
def test_a_damaged_database_has_no_files(damaged):
    assert [*list_rpm_files(make_tree({"var/lib/rpm/rpmdb.sqlite": damaged}))] == []


@pytest.mark.parametrize("count", [0, 1, 65535, 2**32 - 1])
def test_a_forged_header_is_bounded(tmp_path, count):
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
        entry = struct.pack(">IIiI", 1000, 6, 2**31 - 1, 1)
        database.execute("INSERT INTO Packages (blob) VALUES (?)", [struct.pack(">II", count, 0) + entry])
    database.close()
    assert list_packages(make_tree({"var/lib/rpm/rpmdb.sqlite": (tmp_path / "db").read_bytes()})) == {}


@pytest.mark.oracle
def test_dpkg_query_lists_the_same(debian_root):
    source = DirectorySource("debian", str(debian_root), "a real root")
    with source.open(select_all, Faults()) as tree:
        found = list_packages(tree)
    listed = subprocess.run(
        [
            "dpkg-query",
            f"--admindir={debian_root}/var/lib/dpkg",
            "-W",
            "-f",
            "${db:Status-Status} ${Package} ${Version}\n",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    installed = (line.split()[1:] for line in listed.splitlines() if line.startswith("installed "))
    assert found == dict(installed)
