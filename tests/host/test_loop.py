"""Loop devices that go by themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ltsp.host.block_device import attach_loop_device
from ltsp.host.privilege import can_mount

pytestmark = pytest.mark.root


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"".join(bytes([number]) * 512 for number in range(8)))
    with path.open("r+b", buffering=0) as opened:
        yield opened


def test_a_device_shows_a_range_of_the_file_and_is_gone_after_the_block(file):
    with attach_loop_device(file.fileno(), 1024, 1536) as device:
        assert Path(device).read_bytes() == b"\2" * 512 + b"\3" * 512 + b"\4" * 512
        backing = Path(f"/sys/block/{Path(device).name}/loop/backing_file")
        assert backing.read_text().strip() == file.name
    assert not backing.exists() or backing.read_text().strip() != file.name


def test_what_is_not_to_be_written_to_is_not(file):
    with attach_loop_device(file.fileno(), 0, 4096) as device:
        opened = os.open(device, os.O_WRONLY | os.O_SYNC)
        with pytest.raises(PermissionError):
            os.write(opened, b"x" * 512)
        os.close(opened)
    with attach_loop_device(file.fileno(), 512, 512, writable=True) as device:
        opened = os.open(device, os.O_WRONLY)
        os.write(opened, b"x" * 512)
        os.fsync(opened)
        os.close(opened)
    assert os.pread(file.fileno(), 1536, 0) == bytes(512) + b"x" * 512 + b"\2" * 512


def test_several_at_once_are_different_ones(file):
    with (
        attach_loop_device(file.fileno(), 0, 512) as one,
        attach_loop_device(file.fileno(), 512, 512) as other,
    ):
        assert one != other
        assert [Path(each).read_bytes()[:1] for each in (one, other)] == [b"\0", b"\1"]


def test_root_may_mount():
    assert can_mount()
