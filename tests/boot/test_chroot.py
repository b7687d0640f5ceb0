"""A chroot of the server as the root of clients, without any image."""

from __future__ import annotations

import subprocess

import pytest

from corpus.classroom import CONSOLE, HASH, PASSWORD, Classroom
from corpus.client_console import start_client

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1200)]

CONF = f"[clients]\n{CONSOLE}DEFAULT_IMAGE=r_dev\nPASSWORDS_A='alice/{HASH}'\n"
PEOPLE = "alice:x:5001:5001:Alice:/tmp:/bin/bash\n"
GROUPS = "audio:x:29:alice\nalice:x:5001:\n"


def test_a_chroot_boots_by_nfs_with_the_people_of_the_server_and_stays_as_it_is(debian_root, tmp_path):
    room = Classroom.make(tmp_path, debian_root)
    chroot = room.site.base / "dev"
    subprocess.run(["cp", "-a", debian_root, chroot], check=True)
    room.site.ltsp("kernel", "dev")
    room.configure(CONF, PEOPLE, GROUPS)
    with room.open(below=""), start_client(room.site.tftp) as desk:
        desk.log_in("alice", PASSWORD)
        assert desk.run("id") == "uid=5001(alice) gid=5001(alice) groups=5001(alice),29(audio)"
        assert desk.run("findmnt -n -o FSTYPE /; findmnt -n -o FSTYPE /run/ltsp/root/image") == "overlay\nnfs"
        assert desk.run("systemctl is-system-running --wait") == "running"
    assert (chroot / "etc/passwd").read_bytes() == (debian_root / "etc/passwd").read_bytes()
