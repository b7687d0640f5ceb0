from __future__ import annotations

import os

from ltsp.host.files import read_server_file


def relative(path) -> str:
    return str(path).lstrip("/")


def test_files_are_read_through_links(tmp_path):
    (tmp_path / "program").write_bytes(b"\x7fELF")
    (tmp_path / "link").symlink_to("program")
    assert read_server_file(relative(tmp_path / "link")) == b"\x7fELF"


def test_a_file_that_is_not_regular_or_too_large_is_none(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "large").open("wb") as file:
        file.truncate((64 << 20) + 1)
    for name in ("fifo", "large", "absent", ""):
        assert read_server_file(relative(tmp_path / name)) is None
