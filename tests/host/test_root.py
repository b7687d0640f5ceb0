"""Root: R11, whatever lies in a source, nothing outside of it is read and nothing acts."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import time

import pytest

from corpus.hostile_root import CANARY, TOUCHED, is_free_of_traps, make_hostile, plant_canaries
from ltsp.host import root as root_module
from ltsp.host import system_call
from ltsp.host.root import NotRegularFile, RootDirectory


@pytest.fixture(params=["openat2", "stepwise"])
def way(request, monkeypatch):
    """Both ways to resolve a path: the kernel's, and ours where that is missing."""
    if request.param == "stepwise":

        def missing(*_arguments):
            raise OSError(errno.ENOSYS, "no such call")

        monkeypatch.setattr(system_call, "openat2", missing)
    return request.param


@pytest.fixture
def chroot(tmp_path, way):  # noqa: ARG001, every test with a chroot runs both ways
    (tmp_path / "chroot").mkdir()
    return tmp_path / "chroot"


def read(root, path):
    descriptor = root.open_file_following_links(path)
    with open(descriptor, "rb") as file:
        return file.read()


def failure(call, *arguments):
    """The number of the error that the call ends in; 0 if it succeeds."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return 0


def test_an_absolute_link_begins_at_the_root_of_the_source(chroot):
    (chroot / "etc").mkdir()
    (chroot / "etc/target").write_text("inside")
    (chroot / "link").symlink_to("/etc/target")
    with RootDirectory.open(os.fsencode(chroot)) as root:
        assert read(root, b"link") == b"inside"
        assert read(root, b"/link") == b"inside"


def test_dots_above_the_root_stay_at_the_root(chroot):
    (chroot / "file").write_text("inside")
    (chroot / "sub").mkdir()
    (chroot / "sub/link").symlink_to("../../../../file")
    with RootDirectory.open(os.fsencode(chroot)) as root:
        assert read(root, b"sub/link") == b"inside"
        assert read(root, b"../../sub/../file") == b"inside"


def test_a_loop_of_links_ends_in_an_error(chroot):
    (chroot / "a").symlink_to("b")
    (chroot / "b").symlink_to("a")
    with RootDirectory.open(os.fsencode(chroot)) as root:
        assert failure(root.open_handle, b"a") == errno.ELOOP


def test_directories_are_opened_through_no_link(chroot):
    (chroot / "real/below").mkdir(parents=True)
    (chroot / "link").symlink_to("real")
    with RootDirectory.open(os.fsencode(chroot)) as root:
        for path in (b"link", b"link/below"):
            assert failure(root.open_directory, path) in {errno.ELOOP, errno.ENOTDIR}
        assert os.listdir(root.open_directory(b"real").number) == ["below"]
        assert os.listdir(root.open_directory(b"").number) is not None


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFLNK, stat.S_IFDIR])
@pytest.mark.root
def test_only_regular_files_are_opened_for_reading(chroot, kind):
    match kind:
        case stat.S_IFLNK:
            (chroot / "x").symlink_to("/etc/passwd")
        case stat.S_IFDIR:
            (chroot / "x").mkdir()
        case _:
            os.mknod(chroot / "x", kind | 0o666, os.makedev(1, 5))
    with RootDirectory.open(os.fsencode(chroot)) as root:
        with pytest.raises(NotRegularFile):
            root.open_file(b"", b"x")
        if kind != stat.S_IFLNK:
            with pytest.raises(NotRegularFile):
                root.open_file_following_links(b"x")


def test_paths_longer_than_the_kernel_takes_are_opened_in_pieces(chroot):
    here = os.open(chroot, os.O_RDONLY)
    names = [str(level) + "d" * 200 for level in range(60)]
    for name in names:
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with open(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w") as file:
        file.write("deep")
    os.close(here)
    path = "/".join(names).encode()
    assert len(path) > 3 * 4096 - 300
    with RootDirectory.open(os.fsencode(chroot)) as root:
        assert os.listdir(root.open_directory(path).number) == ["file"]
        descriptor, status = root.open_file(path, b"file")
        os.close(descriptor)
        assert status.st_size == 4
        assert read(root, path + b"/file") == b"deep"


def test_a_few_directories_stay_open_not_all(chroot):
    for number in range(200):
        (chroot / str(number)).mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with RootDirectory.open(os.fsencode(chroot)) as root:
        for number in range(200):
            root.open_directory(b"%d" % number)
        assert len(os.listdir("/proc/self/fd")) - before < 50
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_may_leave_the_cache_while_it_is_in_use(chroot):
    for number in range(100):
        (chroot / str(number)).mkdir()
    (chroot / "0/file").touch()
    with RootDirectory.open(os.fsencode(chroot)) as root:
        held = root.open_directory(b"0")
        for number in range(100):
            root.open_directory(b"%d" % number)
        assert os.listdir(held.number) == ["file"]


@pytest.mark.root
def test_reading_leaves_no_access_time(chroot):
    (chroot / "sub").mkdir()
    (chroot / "sub/file").write_text("x")
    past = time.time() - 10 * 86400
    for path in ("sub/file", "sub"):
        os.utime(chroot / path, (past, past))
    with RootDirectory.open(os.fsencode(chroot)) as root:
        os.listdir(root.open_directory(b"sub").number)
        assert read(root, b"sub/file") == b"x"
        descriptor, _ = root.open_file(b"sub", "file")
        assert os.read(descriptor, 1) == b"x"
        os.close(descriptor)
    assert (chroot / "sub/file").stat().st_atime == pytest.approx(past)
    assert (chroot / "sub").stat().st_atime == pytest.approx(past)


def test_a_rename_elsewhere_only_delays(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    true, calls = system_call.openat2, []

    def busy(*arguments):
        calls.append(arguments)
        if len(calls) % 3:
            raise BlockingIOError(errno.EAGAIN, "try again")
        return true(*arguments)

    with RootDirectory.open(os.fsencode(tmp_path)) as root:
        monkeypatch.setattr(system_call, "openat2", busy)
        assert read(root, b"file") == b"x"
        monkeypatch.setattr(root_module, "_MAX_TRIES", 2)
        with pytest.raises(BlockingIOError):
            root.open_handle(b"file")


@pytest.mark.root
def test_what_is_mounted_below_is_not_entered(chroot):
    (chroot / "mounted").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", chroot / "mounted"], check=True)
    try:
        (chroot / "mounted/sub").mkdir()
        with RootDirectory.open(os.fsencode(chroot)) as root:
            for path in (b"mounted", b"mounted/sub"):
                assert failure(root.open_directory, path) == errno.EXDEV
            inside = root.open_mount_point(b"mounted")
            with RootDirectory(inside) as other:
                assert os.listdir(other.open_directory(b"").number) == ["sub"]
    finally:
        subprocess.run(["umount", chroot / "mounted"], check=True)


@pytest.mark.root
def test_without_mount_ids_file_systems_tell_mounts_apart(tmp_path, monkeypatch):
    def no_such_call(*_arguments):
        raise OSError(errno.ENOSYS, "no such call")

    for name in ("openat2", "statx"):
        monkeypatch.setattr(system_call, name, no_such_call)
    (tmp_path / "mounted").mkdir()
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "mounted"], check=True)
    try:
        with RootDirectory.open(os.fsencode(tmp_path)) as root:
            assert failure(root.open_directory, b"mounted") == errno.EXDEV
            assert os.listdir(root.open_directory(b"sub").number) == []
    finally:
        subprocess.run(["umount", tmp_path / "mounted"], check=True)


def test_a_filter_that_forbids_the_call_is_as_good_as_its_absence():
    assert system_call.is_unavailable(PermissionError(errno.EPERM, "seccomp"))
    assert not system_call.is_unavailable(PermissionError(errno.EACCES, "mode"))


def test_a_broken_mount_id_is_an_error(monkeypatch):
    def broken(*_arguments):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(system_call, "statx", broken)
    with pytest.raises(OSError, match="broken"):
        system_call.mount_id(0)


def attack(root):
    """Do to each touched path all that a build may do to a path; gives whatever could be read."""
    for name in TOUCHED:
        path = name.encode()
        directory, _, last = path.rpartition(b"/")
        for attempt in (
            lambda path=path: root.open_file_following_links(path),
            lambda directory=directory, last=last: root.open_file(directory, last)[0],
        ):
            try:
                descriptor = attempt()
            except OSError:
                continue
            with open(descriptor, "rb") as file:
                yield file.read()
        try:
            yield " ".join(os.listdir(root.open_directory(path).number)).encode()
        except OSError:
            continue


def survive(base, chance, count):
    host = plant_canaries(base / "host")
    for number in range(count):
        chroot = make_hostile(base / f"chroot{number}", host, chance)
        with RootDirectory.open(os.fsencode(chroot)) as root:
            for text in attack(root):
                assert CANARY.encode() not in text


@pytest.mark.root
@pytest.mark.usefixtures("way")
def test_30_hostile_chroots_lead_nowhere(tmp_path, chance):
    survive(tmp_path, chance, 30)


@pytest.mark.root
@pytest.mark.torture
def test_200_hostile_chroots_lead_nowhere(tmp_path, way, chance, record_property):
    survive(tmp_path, chance, 200)
    record_property("R11", f"200 hostile chroots by {way}, 0 escapes")


def test_both_ways_come_to_the_same(tmp_path, monkeypatch, chance):
    names = "abc"
    for _ in range(60):
        path = tmp_path.joinpath(*chance.choices(names, k=chance.randrange(1, 4)))
        if os.path.lexists(path) or not is_free_of_traps(path.parent, tmp_path):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        match chance.randrange(3):
            case 0:
                path.mkdir()
            case 1:
                path.touch()
            case _:
                target = "/".join(chance.choices([*names, "..", "."], k=chance.randrange(1, 5)))
                path.symlink_to(chance.choice(["/", ""]) + target)

    def outcome(root, path):
        try:
            handle = root.open_handle(path)
        except OSError as error:
            return error.errno
        try:
            return os.fstat(handle).st_ino
        finally:
            os.close(handle)

    paths = ["/".join(chance.choices([*names, "..", "."], k=chance.randrange(1, 6))).encode() for _ in range(400)]
    with RootDirectory.open(os.fsencode(tmp_path)) as root:
        by_kernel = [outcome(root, path) for path in paths]
    monkeypatch.setattr(root_module, "_has_openat2", lambda _directory: False)
    with RootDirectory.open(os.fsencode(tmp_path)) as root:
        assert [outcome(root, path) for path in paths] == by_kernel
