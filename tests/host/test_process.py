from __future__ import annotations

import os
import subprocess
import sys

from ltsp.host.process import Process, find_file_users, parse_nfs_states

STATES = """\
- 0x00000001a1b2: { type: open, access: r-, deny: --, superblock: "fd:10:13649", filename: "images/lab.img" }
- 0x00000001a1b3: { type: deleg, access: r, superblock: "103:05:77", filename: "a \\" b", lock: "x" }
- 0x00000001a1b4: { type: open, deny: -- }
"""


def test_the_files_that_nfs_clients_have_open_are_read_from_their_states():
    assert parse_nfs_states(STATES) == [(os.makedev(0xFD, 0x10), 13649), (os.makedev(0x103, 5), 77)]


def test_a_process_is_known_by_its_command():
    with subprocess.Popen([sys.executable, "-c", "input()", "an\udcffargument"], stdin=subprocess.PIPE) as process:
        while "argument" not in (found := Process.of(process.pid)).command:
            pass  # until it has become that program
        assert found == Process(process.pid, f"{sys.executable} -c input() an\udcffargument")
        process.communicate(b"\n")


def test_an_ended_process_is_reported_as_ended():
    assert Process.of(2**22 + 1).command == "[gone]"


def test_only_files_of_a_likely_name_are_looked_at(tmp_path):
    path = tmp_path / "lab.img"
    path.write_bytes(b"")
    file = (path.stat().st_dev, path.stat().st_ino)
    reader = "import sys; f = open(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", reader, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert find_file_users({file}, lambda name: name.endswith(".img"))[file].pid == process.pid
        assert find_file_users({file}, lambda name: name.endswith(".iso")) == {}
        assert find_file_users(set(), lambda _name: True) == {}
        process.communicate(b"\n")
