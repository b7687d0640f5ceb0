"""A disk that remembers every write and flush, so that a power cut can be acted out afterwards.

One file in a FUSE file system of our own is the disk; a loop device over it carries a real file system. What had been
flushed when the power went is there; of what was written since, any part may be. (The protocol: linux/fuse.h.)

Run as a program it serves the disk: mounts on a directory, answers `mark NAME` lines with `ok`, and at the end of its
input writes the log.
"""

from __future__ import annotations

import os
import pickle
import random
import select
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

SIZE = 24 << 20
_SECTOR = 4096
"""Bytes that a disk writes atomically; ext4 itself needs its superblock of 1024 bytes not to be torn."""

_ROOT, _DISK = 1, 2
_DISK_NAME = b"disk"
_MOST = 128 << 10
"""Bytes in a write."""
_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
_IO = struct.Struct("=QQIIQII")
_DIRECT_IO = 1
_ENOENT, _ENOSYS = 2, 38


class _Operation(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    RELEASEDIR = 29
    DESTROY = 38
    BATCH_FORGET = 42


@dataclass
class Log:
    base: bytes
    events: list[tuple[int, bytes] | str] = field(default_factory=list)
    """Writes (offset and data), the word `flush`, and marks."""

    def marks(self) -> list[tuple[int, str]]:
        """Position and name."""
        return [(at, event) for at, event in enumerate(self.events) if isinstance(event, str) and event != "flush"]

    def after_cut(self, at: int, chance: random.Random) -> bytes:
        """The disk after a power cut before event `at`: all that was flushed, and some sectors of what was not."""
        flushed = max((number for number in range(at) if self.events[number] == "flush"), default=0)
        disk = bytearray(self.base)
        for number, event in enumerate(self.events[:at]):
            if isinstance(event, str):
                continue
            offset, data = event
            if number < flushed:
                disk[offset : offset + len(data)] = data
                continue
            lost = chance.choice((0.0, 0.5, 1.0))
            for start in range(0, len(data), _SECTOR):
                if chance.random() >= lost:
                    piece = data[start : start + _SECTOR]
                    disk[offset + start : offset + start + len(piece)] = piece
        return bytes(disk)


class LoggedDisk:
    """The disk, with a file system mounted on `mount`; created only by `logged_disk`."""

    def __init__(self, server: subprocess.Popen[str], mount: Path, log: Path) -> None:
        self.server = server
        self.mount = mount
        self._log = log

    def mark(self, name: str) -> None:
        """Note in the log that everything up to here is done."""
        assert self.server.stdin
        assert self.server.stdout
        self.server.stdin.write(name + "\n")
        self.server.stdin.flush()
        assert self.server.stdout.readline() == "ok\n"

    def log(self) -> Log:
        """After the block's end."""
        return Log(*pickle.loads(self._log.read_bytes()))


@contextmanager
def logged_disk(directory: Path, *mkfs: str) -> Iterator[LoggedDisk]:
    """A new file system, made by the command with the disk's path after it, mounted on `directory`/mount."""
    image, fuse, mount, log = (directory / name for name in ("image", "fuse", "mount", "log"))
    fuse.mkdir()
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([*mkfs, str(image)], check=True, capture_output=True)
    command = [sys.executable, "-B", __file__, str(fuse), str(image), str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        disk = LoggedDisk(server, mount, log)
        try:
            assert server.stdout
            assert server.stdout.readline() == "ready\n"
            subprocess.run(["mount", "-o", "loop", str(fuse / "disk"), str(mount)], check=True)
            try:
                yield disk
            finally:
                subprocess.run(["umount", str(mount)], check=True)
        finally:
            _unmount(fuse)
            server.communicate()


def _unmount(point: Path) -> None:
    """Wait for what others have of it: a mount namespace that began meanwhile keeps the loop device, which has a file.

    Raises CalledProcessError after two minutes.
    """
    until = time.monotonic() + 120
    while subprocess.run(["umount", str(point)], check=False, capture_output=True).returncode:
        if time.monotonic() > until:
            subprocess.run(["umount", str(point)], check=True)
        time.sleep(0.2)


@contextmanager
def mounted(directory: Path, disk: bytes) -> Iterator[Path]:
    """The file system as a machine sees it that boots with this disk: with its journal replayed."""
    # A separate file for each: mount(8) would reuse a loop device that is being detached, with its cached data.
    descriptor, image = tempfile.mkstemp(".img", "cut-", directory)
    mount = directory / "cut"
    mount.mkdir(exist_ok=True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(disk)
    subprocess.run(["mount", "-o", "loop", image, str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)
        os.unlink(image)


class _Server:
    def __init__(self, base: bytes) -> None:
        self.disk = bytearray(base)
        self.log = Log(base)

    def answer(self, request: bytes) -> bytes | None:
        _, operation, unique, node, *_ = _IN.unpack_from(request)
        if operation in {_Operation.FORGET, _Operation.BATCH_FORGET}:
            return None
        result = self._result(operation, node, request[_IN.size :])
        error, data = (-result, b"") if isinstance(result, int) else (0, result)
        return _OUT.pack(_OUT.size + len(data), error, unique) + data

    def _result(self, operation: int, node: int, body: bytes) -> bytes | int:
        """An errno, or the data of the answer."""
        match operation:
            case _Operation.INIT:
                major, _, ahead, _ = struct.unpack_from("=IIII", body)
                return struct.pack("=IIIIHHIIHHI28x", major, 31, ahead, 1 << 5, 16, 12, _MOST, 1, 0, 0, 0)
            case _Operation.LOOKUP:
                if body.rstrip(b"\0") != _DISK_NAME:
                    return _ENOENT
                return struct.pack("=QQQQII", _DISK, 0, 3600, 3600, 0, 0) + self._attributes(_DISK)
            case _Operation.GETATTR | _Operation.SETATTR:
                return struct.pack("=QII", 3600, 0, 0) + self._attributes(node)
            case _Operation.OPEN | _Operation.OPENDIR:
                return struct.pack("=QII", 0, _DIRECT_IO if operation == _Operation.OPEN else 0, 0)
            case _Operation.READ:
                _, offset, size, *_ = _IO.unpack_from(body)
                return bytes(self.disk[offset : offset + size])
            case _Operation.WRITE:
                _, offset, size, *_ = _IO.unpack_from(body)
                data = body[_IO.size : _IO.size + size]
                self.disk[offset : offset + size] = data
                self.log.events.append((offset, data))
                return struct.pack("=II", size, 0)
            case _Operation.FSYNC:
                self.log.events.append("flush")
                return b""
            case _Operation.STATFS:
                return struct.pack("=QQQQQIIII24x", 1 << 20, 1 << 20, 1 << 20, 99, 99, 4096, 255, 4096, 0)
            case _Operation.RELEASE | _Operation.FLUSH | _Operation.RELEASEDIR | _Operation.DESTROY:
                return b""
        return _ENOSYS

    def _attributes(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o600
        size = 0 if node == _ROOT else len(self.disk)
        return _ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def _serve(fuse: str, image: str, log: str) -> None:
    server = _Server(Path(image).read_bytes())
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40755,user_id=0,group_id=0"
    command = ["mount", "-i", "-t", "fuse", "-o", options, "logged-disk", fuse]
    # Mounting already needs answers.
    with subprocess.Popen(command, pass_fds=(device,)) as mounting:
        pid = os.pidfd_open(mounting.pid)
        waited_for = [device, pid, 0]
        while True:
            ready, _, _ = select.select(waited_for, [], [])
            if pid in ready:
                waited_for.remove(pid)
                os.write(1, b"ready\n")
            elif device in ready:
                try:
                    request = os.read(device, _MOST + 4096)
                except PermissionError:
                    continue  # not yet mounted
                except OSError:
                    break  # no longer mounted
                answer = server.answer(request)
                if answer is not None:
                    os.write(device, answer)
            elif name := os.read(0, 200):
                server.log.events.append(name.decode().strip())
                os.write(1, b"ok\n")
            else:
                break
    Path(log).write_bytes(pickle.dumps((server.log.base, server.log.events)))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
