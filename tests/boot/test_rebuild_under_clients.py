"""What running clients read, and what later clients boot, while an image is replaced and reverted."""

from __future__ import annotations

import hashlib
import re

import pytest

from corpus.classroom import CONSOLE, HASH, LARGE, PASSWORD, Classroom
from corpus.client_console import ClientConsole, start_client

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1800)]

CONF = f"[clients]\n{CONSOLE}PASSWORDS_ROOT='root/{HASH}'\n"


def read(desk: ClientConsole) -> str:
    """What a client reads from the image itself, not from its memory."""
    return desk.run(f"sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum <{LARGE} | cut -d ' ' -f 1")


def booted(room: Classroom) -> str:
    with start_client(room.site.tftp) as desk:
        desk.log_in("root", PASSWORD)
        return read(desk)


def test_a_client_keeps_reading_its_image_while_others_are_published(debian_root, tmp_path):
    """The first version stays only because it is read: neither the number of versions nor their age keeps it."""
    room = Classroom.make(tmp_path, debian_root)

    def publish() -> str:
        edition = hashlib.sha256(room.new_edition()).hexdigest()
        room.publish(KEEP_VERSIONS="1", KEEP_DAYS="0")
        return edition

    editions = [publish()]
    room.configure(CONF)
    with room.open():
        with start_client(room.site.tftp) as desk:
            desk.log_in("root", PASSWORD)
            running = desk.run("sed -n 's/.* ltsp.image=\\([^ ]*\\).*/\\1/p' /proc/cmdline")
            for _ in range(3):
                editions.append(publish())
                assert read(desk) == editions[0]
            kept = sorted(path.name for path in (room.site.base / "images/.versions/lab").iterdir())
            assert len(kept) == 3, kept
            version = running.split("/")[-2]
            assert version == kept[0]
            refused = room.site.ltsp("versions", "lab", f"--remove={version}", status=1)
            assert re.search(rf"version {version} of lab is in use by .*ganesha\.nfsd", refused.stderr)
        assert booted(room) == editions[-1]
        room.site.ltsp("image", "--revert", "lab")
        assert booted(room) == editions[-2]
