"""One process reads a source, from its plan to its end: how many are started, and that none is left."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from corpus.disks import converted, ext4, partitioned
from corpus.site import Site
from corpus.system import make_system
from ltsp.errors import LockHeld, SourceError
from ltsp.sandbox import client
from ltsp.source.find import find_source
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

pytestmark = pytest.mark.oracle

TOOL = "usr/bin/tool"
_STARTED = re.compile(r'execve\("[^"]*python[^"]*", \[.*ltsp\.sandbox\.worker.*\) = 0')


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A system in files of each kind."""
    place = tmp_path_factory.mktemp("sources")
    system = make_system(place / "system")
    disk = partitioned(place / "lab.raw", "gpt", [("type=linux", ext4(place / "root.ext4", system))])
    compressed = converted(disk, "qcow2")
    (place / "lab.qcow2.gz").write_bytes(gzip.compress(compressed.read_bytes(), 1))
    for name, mode in (("lab.tar", "w"), ("lab.tar.gz", "w:gz"), ("vm.ova", "w")):
        with tarfile.open(place / name, mode) as archive:
            archive.add(compressed if name == "vm.ova" else system, "lab.qcow2" if name == "vm.ova" else ".")
    return place


@pytest.fixture
def starts(monkeypatch):
    """The command lines of the processes that are started."""
    started = []
    serve = client.command.start_in_background

    def counted(arguments, **options):
        started.append(arguments)
        return serve(arguments, **options)

    monkeypatch.setattr(client.command, "start_in_background", counted)
    return started


@pytest.fixture(autouse=True)
def nothing_left():
    """No process and no open file, however a test ends."""
    before = os.listdir("/proc/self/fd")
    yield
    assert children() == []
    assert os.listdir("/proc/self/fd") == before


def children(pid="self"):
    with open(f"/proc/{pid}/task/{os.getpid() if pid == 'self' else pid}/children") as listed:
        return [int(each) for each in listed.read().split()]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lab.raw", 1),
        ("lab.qcow2", 1),
        # The process that finds out that it is not an archive unpacks the disk.
        ("lab.qcow2.gz", 1),
        ("lab.tar", 1),
        ("lab.tar.gz", 1),
        # The archive stays open while the disk in it is read.
        ("vm.ova", 2),
    ],
)
def test_a_source_is_planned_and_opened_in_one_process(sources, starts, name, count):
    with ExitStack() as keep:
        source = find_source(str(sources / name), "/nowhere", keep=keep)
        source.plan()
        with source.open(select_all, Faults()) as tree, tree.get(TOOL).content.open() as stream:
            assert stream.read(1 << 20)
    assert len(starts) == count


@pytest.mark.parametrize("words", ["image --dry-run", "image --kernel-initrd=none", "image --dry-run --reader=kernel"])
@pytest.mark.root
def test_the_command_starts_one_process_for_a_disk(sources, tmp_path, words):
    site = Site.make(tmp_path)
    log = tmp_path / "log"
    through = ("strace", "-f", "-s", "300", "-e", "trace=execve", "-e", "signal=none", "-o", str(log))
    command = [*through, *site.command(*words.split(), str(sources / "lab.qcow2"))]
    done = subprocess.run(command, env=site.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(_STARTED.findall(log.read_text())) == 1


@pytest.mark.parametrize("name", ["lab.qcow2", "lab.qcow2.gz", "lab.tar.gz"])
def test_a_plan_that_is_dropped_ends_its_process(sources, name):
    with ExitStack() as keep:
        find_source(str(sources / name), "/nowhere", keep=keep)
        assert len(children()) == 1
    assert children() == []


def test_an_interrupt_ends_the_process(sources):
    def interrupted(keep):
        find_source(str(sources / "lab.qcow2"), "/nowhere", keep=keep)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ExitStack() as keep:
        interrupted(keep)


def test_without_a_stack_to_keep_it_the_process_ends_with_the_plan(sources):
    for name in ("lab.qcow2", "lab.qcow2.gz", "lab.tar.gz"):
        find_source(str(sources / name), "/nowhere")
        assert children() == []


def test_a_source_can_be_opened_again(sources, starts):
    with ExitStack() as keep:
        source = find_source(str(sources / "lab.qcow2"), "/nowhere", keep=keep)
        for _ in range(3):
            with source.open(select_all, Faults()) as tree:
                assert TOOL in {path for path, _ in tree.walk()}
            assert children() == []
    assert len(starts) == 3


@pytest.mark.parametrize("change", ["written", "replaced", "led elsewhere"])
def test_a_disk_that_changes_between_plan_and_opening_is_read_by_a_new_process(sources, starts, tmp_path, change):
    """As a command before the build may do; the image is what is on the disk by then."""
    disk, other = tmp_path / "lab.raw", tmp_path / "other.raw"
    for each in (disk, other):
        each.write_bytes((sources / "lab.raw").read_bytes())
    link = tmp_path / "link.raw"
    link.symlink_to(disk)
    with ExitStack() as keep:
        source = find_source(str(link), "/nowhere", keep=keep)
        match change:
            case "written":
                os.utime(disk, (0, 0))
            case "replaced":
                other.rename(disk)
            case _:
                link.unlink()
                link.symlink_to(other)
        with source.open(select_all, Faults()) as tree:
            assert TOOL in {path for path, _ in tree.walk()}
    assert len(starts) == 2


def test_a_disk_that_is_in_use_by_the_time_of_its_opening_is_refused(sources, tmp_path):
    disk = tmp_path / "lab.raw"
    disk.write_bytes((sources / "lab.raw").read_bytes())
    with ExitStack() as keep:
        source = find_source(str(disk), "/nowhere", keep=keep)
        with disk.open("r+b") as file, subprocess.Popen(["sleep", "60"], stdin=file) as writer:
            with pytest.raises(LockHeld, match="in use"), source.open(select_all, Faults()):
                pass
            writer.kill()


@pytest.mark.parametrize("name", ["lab.qcow2", "lab.tar.gz"])
def test_a_process_that_was_killed_while_it_waited_is_replaced(sources, starts, name):
    """As by the kernel when memory is short."""
    with ExitStack() as keep:
        source = find_source(str(sources / name), "/nowhere", keep=keep)
        (child,) = children()
        os.kill(child, signal.SIGKILL)
        while is_running(child):
            time.sleep(0.01)
        with source.open(select_all, Faults()) as tree:
            assert TOOL in {path for path, _ in tree.walk()}
    assert len(starts) == 2


def test_a_file_without_a_system_leaves_no_process(tmp_path):
    for name, data in (("text.gz", gzip.compress(b"text" * 999)), ("zeros.raw", bytes(1 << 20))):
        (tmp_path / name).write_bytes(data)
        with ExitStack() as keep:
            with pytest.raises(SourceError):
                find_source(str(tmp_path / name), "/nowhere", keep=keep)
            assert len(children()) <= 1
        assert children() == []


WAITING = """
import sys, time
from contextlib import ExitStack
from ltsp.source.find import find_source
with ExitStack() as keep:
    source = find_source(sys.argv[1], "/nowhere", keep=keep)
    print(flush=True)
    time.sleep(600)
"""


def test_the_process_ends_with_ours_even_if_that_is_killed(sources):
    command = [sys.executable, "-c", WAITING, str(sources / "lab.qcow2")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as waiting:
        waiting.stdout.readline()
        (worker,) = children(waiting.pid)
        waiting.kill()
    end = time.monotonic() + 30
    while is_running(worker):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
