"""ltsp.conf is trusted only if nobody but administrators can write it."""

from __future__ import annotations

import os
import stat

import pytest

from ltsp.errors import ConfError
from ltsp.host import trusted
from ltsp.host.trusted import Owner, find_permission_fault
from ltsp.settings.conf import read_conf

DIRECTORY, FILE = stat.S_IFDIR, stat.S_IFREG
SUDO = 27


def verdict(*owners):
    return find_permission_fault(
        [Owner(f"/{n}", *owner) for n, owner in enumerate(owners)], frozenset({0}), frozenset({0, SUDO})
    )


@pytest.mark.parametrize(
    "owners",
    [
        [(DIRECTORY | 0o755, 0, 0), (FILE | 0o644, 0, 0)],
        [(DIRECTORY | 0o755, 0, 0), (FILE | 0o660, 0, SUDO)],
        [(DIRECTORY | 0o775, 0, SUDO), (FILE | 0o600, 0, 0)],
        [(DIRECTORY | 0o1777, 0, 0), (FILE | 0o600, 0, 0)],
    ],
)
def test_a_file_writable_by_administrators_only_is_trusted(owners):
    assert verdict(*owners) == ""


@pytest.mark.parametrize(
    ("owners", "fault"),
    [
        ([(DIRECTORY | 0o755, 0, 0), (FILE | 0o666, 0, 0)], "/1 is writable by everyone"),
        ([(DIRECTORY | 0o755, 0, 0), (FILE | 0o1666, 0, 0)], "/1 is writable by everyone"),
        ([(DIRECTORY | 0o777, 0, 0), (FILE | 0o600, 0, 0)], "/0 is writable by everyone"),
        ([(DIRECTORY | 0o755, 0, 0), (FILE | 0o600, 1000, 0)], "/1 belongs to user 1000"),
        ([(DIRECTORY | 0o755, 1000, 0), (FILE | 0o600, 0, 0)], "/0 belongs to user 1000"),
        ([(DIRECTORY | 0o755, 0, 0), (FILE | 0o664, 0, 1000)], "/1 is writable by group 1000"),
        ([(DIRECTORY | 0o775, 0, 1000), (FILE | 0o600, 0, 0)], "/0 is writable by group 1000"),
    ],
)
def test_a_file_writable_by_others_is_not_trusted(owners, fault):
    assert verdict(*owners) == fault


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "etc" / "ltsp.conf"
    path.parent.mkdir(mode=0o755)
    path.write_text("BACKUP=0\n")
    path.chmod(0o644)
    return path


def test_a_file_is_read_and_parsed(conf):
    assert [each.key for each in read_conf(str(conf)).sections[0].statements] == ["BACKUP"]


def test_a_missing_file_is_empty_unless_required(tmp_path):
    for path in (tmp_path / "none", tmp_path / "none" / "ltsp.conf"):
        assert read_conf(str(path)).sections == ()
        with pytest.raises(ConfError, match="No such file or directory"):
            read_conf(str(path), required=True)


def test_a_file_that_everyone_can_write_is_refused(conf):
    conf.chmod(0o646)
    with pytest.raises(ConfError, match="is writable by everyone"):
        read_conf(str(conf))


def test_a_directory_that_everyone_can_write_is_refused(conf):
    conf.parent.chmod(0o777)
    with pytest.raises(ConfError, match=r"etc is writable by everyone"):
        read_conf(str(conf))


def test_links_are_followed_and_each_directory_on_the_way_counts(conf, tmp_path):
    (tmp_path / "absolute").symlink_to(conf)
    (tmp_path / "relative").symlink_to("etc/../etc/./ltsp.conf")
    (tmp_path / "directory").symlink_to("etc")
    for path in ("absolute", "relative", "directory/ltsp.conf", "/.." * 40 + str(conf)):
        assert read_conf(os.path.join(tmp_path, path)).sections[0].statements
    open_ = tmp_path / "open"
    open_.mkdir()
    open_.chmod(0o777)
    (open_ / "link").symlink_to(conf)
    with pytest.raises(ConfError, match="open is writable by everyone"):
        read_conf(str(open_ / "link"))


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfError, match="Too many levels of symbolic links"):
        read_conf(str(tmp_path / "a"))


def test_only_regular_files_are_opened_for_reading(conf, tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", conf.parent):
        with pytest.raises(ConfError, match="not a regular file"):
            read_conf(str(path))


def test_a_file_that_is_too_large_is_refused(conf):
    conf.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfError, match="too large: the limit is 1024 KiB"):
        read_conf(str(conf))


def test_no_descriptor_is_left_open(conf):
    before = os.listdir("/proc/self/fd")
    read_conf(str(conf))
    read_conf(str(conf.parent / "none"))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.root
def test_a_file_of_another_user_is_refused(conf):
    os.chown(conf, 1234, 0)
    with pytest.raises(ConfError, match="belongs to user 1234"):
        read_conf(str(conf))


def test_groups_that_a_system_lacks_are_ignored(monkeypatch):
    monkeypatch.setattr(trusted, "_TRUSTED_GROUPS", ("root", "no such group"))
    assert trusted._trusted_gids() == {0}
