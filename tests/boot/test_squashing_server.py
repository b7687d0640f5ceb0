"""A client of an NFS server that squashes root."""

from __future__ import annotations

import pytest

from corpus.classroom import CONSOLE, HASH, PASSWORD, Classroom
from corpus.client_console import MAC, start_client

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1200)]

CONF = f"[clients]\n{CONSOLE}PASSWORDS_ROOT='root/{HASH}'\n"


def test_root_on_a_client_can_read_the_whole_image_even_if_the_server_squashes_all_users(debian_root, tmp_path):
    """The server reads only one file, which everybody may read; the client checks permissions inside it."""
    room = Classroom.make(tmp_path, debian_root)
    secret = room.edition / "private"
    secret.write_text("of root alone\n")
    secret.chmod(0o600)
    room.publish()
    room.configure(CONF)
    with room.open(squash="All_Squash"), start_client(room.site.tftp) as desk:
        desk.log_in("root", PASSWORD)
        assert desk.run("cat /usr/local/share/private; stat -c '%U %a' /usr/local/share/private") == (
            "of root alone\nroot 600"
        )
        assert desk.run("systemctl is-system-running --wait") == "running"
        assert desk.run("cat /sys/module/nfs/parameters/nfs4_unique_id") == MAC, "what servers of NFS 4 know it by"
