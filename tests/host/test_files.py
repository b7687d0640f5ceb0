from __future__ import annotations

import errno
import os
import stat

import pytest

from ltsp.host import files


@pytest.fixture(params=["nameless", "named"])
def kind(request, monkeypatch):
    """With O_TMPFILE and as on a file system without, where opening a directory for writing fails like this too."""
    if request.param == "named":
        monkeypatch.setattr(os, "O_TMPFILE", 0)


@pytest.mark.usefixtures("kind")
class TestNameless:
    def test_it_has_no_name_until_it_is_linked(self, tmp_path):
        with files.create_unnamed_file(str(tmp_path)) as new:
            new.file.write(b"whole")
            assert not [name for name in os.listdir(tmp_path) if not files.is_leftover(name)]
            new.link(str(tmp_path / "file"), 0o640)
        assert (tmp_path / "file").read_bytes() == b"whole"
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
        assert os.listdir(tmp_path) == ["file"]

    def test_without_a_link_nothing_stays(self, tmp_path):
        with files.create_unnamed_file(str(tmp_path)) as new:
            new.file.write(b"half")
        assert os.listdir(tmp_path) == []

    def test_it_takes_no_name_that_is_there(self, tmp_path):
        (tmp_path / "file").write_bytes(b"old")
        with pytest.raises(FileExistsError), files.create_unnamed_file(str(tmp_path)) as new:
            new.link(str(tmp_path / "file"), 0o644)
        assert (tmp_path / "file").read_bytes() == b"old"

    def test_only_its_owner_may_read_it_while_it_is_written(self, tmp_path):
        with files.create_unnamed_file(str(tmp_path)) as new:
            assert stat.S_IMODE(os.fstat(new.file.fileno()).st_mode) == 0o600

    def test_a_missing_directory_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError), files.create_unnamed_file(str(tmp_path / "missing")):
            pass


class TestReplacing:
    def test_a_file(self, tmp_path):
        path = str(tmp_path / "file")
        for data in (b"one", b"two"):
            files.replace_file(path, data, 0o644)
        assert (tmp_path / "file").read_bytes() == b"two"
        assert os.listdir(tmp_path) == ["file"]

    def test_leftovers_of_a_killed_run_are_not_in_the_way(self, tmp_path):
        (tmp_path / ".file.new").write_bytes(b"half")
        files.replace_file(str(tmp_path / "file"), b"whole", 0o644)
        assert os.listdir(tmp_path) == ["file"]

    def test_by_a_symbolic_link(self, tmp_path):
        path = str(tmp_path / "link")
        for target in ("one", "two", "two"):
            files.replace_by_symlink(path, target)
            assert os.readlink(path) == target
        assert os.listdir(tmp_path) == ["link"]

    def test_by_another_name_of_a_file(self, tmp_path):
        (tmp_path / "file").write_bytes(b"new")
        (tmp_path / "name").write_bytes(b"old")
        replacement = files.prepare_hard_link(str(tmp_path / "name"), str(tmp_path / "file"))
        assert (tmp_path / "name").read_bytes() == b"old"
        replacement.commit()
        assert files.prepare_hard_link(str(tmp_path / "name"), str(tmp_path / "file")) is None
        assert files.is_same_file(str(tmp_path / "name"), str(tmp_path / "file"))
        assert sorted(os.listdir(tmp_path)) == ["file", "name"]

    def test_by_another_name_of_a_symbolic_link(self, tmp_path):
        os.symlink("nowhere", tmp_path / "link")
        files.prepare_hard_link(str(tmp_path / "name"), str(tmp_path / "link")).commit()
        assert os.readlink(tmp_path / "name") == "nowhere"


def test_two_names_are_exchanged_in_one_step(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    files.exchange(str(tmp_path / "one"), str(tmp_path / "two"))
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["two", "one"]


def test_an_exchange_with_nothing_is_an_error_that_names_it(tmp_path):
    (tmp_path / "one").write_text("one")
    with pytest.raises(OSError, match="missing") as error:
        files.exchange(str(tmp_path / "one"), str(tmp_path / "missing"))
    assert error.value.errno == errno.ENOENT


def test_directories_have_the_mode_asked_for_whatever_the_umask(tmp_path):
    umask = os.umask(0o077)
    try:
        files.make_directories(str(tmp_path / "a" / "b"), 0o711)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o711
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o711


def test_a_directory_that_is_there_keeps_its_mode(tmp_path):
    (tmp_path / "a").mkdir(0o700)
    files.make_directories(str(tmp_path / "a"), 0o711)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_file_that_is_not_a_directory_has_no_names(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert files.list_names(str(tmp_path / "missing")) == []
    assert files.list_names(str(tmp_path / "file")) == []
    assert files.file_id(str(tmp_path / "missing")) is None
    assert files.file_id(str(tmp_path / "file" / "below")) is None
