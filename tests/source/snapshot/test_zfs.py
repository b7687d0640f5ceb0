"""Datasets of ZFS: commands, against a program that answers as the manual pages say."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest

from ltsp.errors import LtspError
from ltsp.host import locks
from ltsp.host.mounts import Mount
from ltsp.host.root import RootDirectory
from ltsp.source.snapshot import frozen
from ltsp.source.snapshot import zfs as zfs_snapshot
from ltsp.source.snapshot.frozen import READ_ONLY_MOUNT_FLAGS, SnapshotBase
from ltsp.tree.selection import Inclusion

ROOT = b"29 1 0:24 / / rw,relatime shared:1 - zfs rpool/ROOT/debian rw,xattr,posixacl"

PROGRAM = """#!/bin/sh
echo "$*" >>%(place)s/log
for last; do :; done
case $1 in
    list) case $last in
            *@*) grep -qxF "$last" %(place)s/snapshots && echo "$last" || exit 1 ;;
            *) cat %(place)s/snapshots ;;
        esac ;;
    snapshot) echo "$last" >>%(place)s/snapshots ;;
    destroy) grep -vxF "$last" %(place)s/snapshots >%(place)s/rest; mv %(place)s/rest %(place)s/snapshots ;;
esac
"""


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """The directory of its list of snapshots and its log."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/zfs").write_text(PROGRAM % {"place": tmp_path})
    (tmp_path / "bin/zfs").chmod(0o755)
    for name in ("log", "snapshots"):
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(frozen, "LOCK_DIRECTORY", str(tmp_path / "locks"))
    return tmp_path


@contextmanager
def taken(path):
    with RootDirectory.open(os.fsencode(path)) as root:
        live = SnapshotBase("", Mount.parse(ROOT), root, b"")
        with zfs_snapshot.take_snapshot(live, lambda *_: Inclusion.ALL) as stills:
            yield stills


def test_it_is_made_mounted_and_destroyed(pool, monkeypatch):
    mounts = []

    def mounted(*arguments):
        mounts.append(arguments)
        return os.open(pool, os.O_PATH)

    monkeypatch.setattr(zfs_snapshot, "create_mount", mounted)
    with taken(pool) as stills:
        (name,) = (pool / "snapshots").read_text().split()
        assert name.startswith("rpool/ROOT/debian@ltsp-")
        assert mounts == [(b"zfs", name.encode(), {b"ro": None}, READ_ONLY_MOUNT_FLAGS)]
        assert [(still.kind, still.origin) for still in stills] == [("zfs", "rpool/ROOT/debian")]
    assert (pool / "snapshots").read_text() == ""
    assert (pool / "log").read_text().splitlines().count(f"destroy {name}") == 1


def test_where_it_cannot_be_mounted_it_is_destroyed_all_the_same(pool):
    """As by a kernel without ZFS."""
    with pytest.raises(OSError, match="No such device"), taken(pool):
        pass
    assert "snapshot rpool/ROOT/debian@ltsp-" in (pool / "log").read_text()
    assert (pool / "snapshots").read_text() == ""


def test_what_killed_runs_have_left_is_destroyed_and_nothing_else(pool, monkeypatch):
    monkeypatch.setattr(zfs_snapshot, "create_mount", lambda *_: os.open(pool, os.O_PATH))
    forgotten, living = "rpool/ROOT/debian@ltsp-0123456789abcdef", "rpool/ROOT/debian@ltsp-fedcba9876543210"
    others = ["rpool/ROOT/debian@daily", "rpool/ROOT/debian@ltsp-mine"]
    (pool / "snapshots").write_text("\n".join([forgotten, living, *others]) + "\n")
    os.makedirs(frozen.LOCK_DIRECTORY)
    with locks.hold_exclusive(f"{frozen.LOCK_DIRECTORY}/{living.partition('@')[2]}"), taken(pool):
        pass
    assert (pool / "snapshots").read_text().split() == [living, *others]
    assert os.listdir(frozen.LOCK_DIRECTORY) == [living.partition("@")[2]]


def test_a_missing_program_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(zfs_snapshot.command, "find_program", lambda _name: None)
    assert not zfs_snapshot.is_installed()
    with pytest.raises(LtspError, match="zfs not found, which a ZFS snapshot needs: install zfsutils-linux"):
        zfs_snapshot.check_programs()
