"""Package lists: dpkg's from text, rpm's from a database as rpm writes it."""

import os
import sqlite3
import struct
import subprocess

import pytest

from corpus.planted import planted
from ltsp.source.directory import DirectorySource
from ltsp.transform.packages import packages
from ltsp.tree.faults import Faults
from ltsp.tree.selection import everything

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
    assert packages(planted({"var/lib/dpkg/status": STATUS})) == {"bash": "5.2-1", "bash:i386": "5.2-2"}


def test_minimal_images_have_a_file_for_each_package():
    tree = planted(
        {"var/lib/dpkg/status.d/a": "Package: a\nVersion: 1\n", "var/lib/dpkg/status.d/b": "Package: b\nVersion: 2\n"}
    )
    assert packages(tree) == {"a": "1", "b": "2"}


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
    tree = planted({f"{place}/rpmdb.sqlite": (tmp_path / "db").read_bytes()})
    assert packages(tree) == {"bash": "5.2-1.fc40", "vim": "2:9-2"}


@pytest.mark.parametrize(
    "damaged", [b"", b"no database", b"SQLite format 3\0" + bytes(4096), os.urandom(5000)], ids=len
)
def test_a_damaged_database_says_nothing(damaged):
    assert packages(planted({"var/lib/rpm/rpmdb.sqlite": damaged})) is None


def test_an_older_database_of_rpm_is_not_read():
    assert packages(planted({"var/lib/rpm/Packages": b"\0" * 4096})) is None


@pytest.mark.parametrize("count", [0, 1, 65535, 2**32 - 1])
def test_a_forged_header_is_bounded(tmp_path, count):
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
        entry = struct.pack(">IIiI", 1000, 6, 2**31 - 1, 1)
        database.execute("INSERT INTO Packages (blob) VALUES (?)", [struct.pack(">II", count, 0) + entry])
    database.close()
    assert packages(planted({"var/lib/rpm/rpmdb.sqlite": (tmp_path / "db").read_bytes()})) == {}


@pytest.mark.oracle
def test_dpkg_query_lists_the_same(debian_root):
    source = DirectorySource("debian", str(debian_root), "a real root")
    with source.open(everything, Faults()) as tree:
        found = packages(tree)
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
