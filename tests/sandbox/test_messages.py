"""The codec of messages: what comes back is what was sent, and what is no message is refused."""

from __future__ import annotations

import json

import pytest

from ltsp.errors import ReaderFailed
from ltsp.inspection.found_system import SystemChoice
from ltsp.inspection.live_medium import LiveMedium
from ltsp.sandbox import disk_messages, messages
from ltsp.sandbox.messages import decode, encode

LIVE = LiveMedium(("casper/a.squashfs", "casper/b.squashfs"), "")
PART = disk_messages.PartReport("boot", "ext4 on partition 1", "its fstab says so")
REPORT = disk_messages.SystemReport("Debian\x1b", "ext4 on partition 2", (PART,), (), LIVE, ("raw",), ())


@pytest.mark.parametrize(
    "message",
    [
        messages.Done(),
        messages.Failure("SourceError", "no \udcff", "hint"),
        messages.EnterReply((True, False)),
        messages.VolumeKey(b"\0\xff"),
        messages.OpenArchive("/var/tmp", "any", "", is_layout=True),
        disk_messages.FindSystem(SystemChoice("2:1", "@", ""), whole=True),
        disk_messages.ReadVolume(3, None),
        disk_messages.ReadVolume(3, ""),
        disk_messages.FileSystemReport("btrfs", "", "", ("", "@")),
        disk_messages.VolumeLocation(disk_messages.FileIdentity(1, (1 << 63) - 1), 0),
        REPORT,
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_back_as_it_was(message):
    sent = encode(message)
    assert decode(sent, messages.Hole, type(message)) == message
    with pytest.raises(ReaderFailed, match="the sandbox worker returned an invalid reply"):
        decode(sent, messages.Hole)


@pytest.mark.parametrize(
    ("kind", "forged"),
    [
        (messages.Done, None),
        (messages.Done, []),
        (messages.Done, {}),
        (messages.Done, "Done"),
        (messages.Done, ["Failure"]),
        (messages.Done, ["Done", 1]),
        (messages.Done, [["Done"]]),
        (messages.Hole, ["Hole"]),
        (messages.Hole, ["Hole", 0]),
        (messages.Hole, ["Hole", -1]),
        (messages.Hole, ["Hole", 1 << 63]),
        (messages.Hole, ["Hole", 1.0]),
        (messages.Hole, ["Hole", True]),
        (messages.Hole, ["Hole", "1"]),
        (messages.Hole, ["Hole", None]),
        (messages.ArchiveCheck, ["ArchiveCheck", 1]),
        (messages.ArchiveCheck, ["ArchiveCheck", None]),
        (messages.FileRequest, ["FileRequest", 3]),
        (messages.FileRequest, ["FileRequest", ["a"]]),
        (messages.EnterRequest, ["EnterRequest", "ab"]),
        (messages.EnterRequest, ["EnterRequest", {"a": "b"}]),
        (messages.EnterRequest, ["EnterRequest", ["a", 1]]),
        (messages.VolumeKey, ["VolumeKey", "xy"]),
        (messages.VolumeKey, ["VolumeKey", 12]),
        (disk_messages.FileSystemReport, ["FileSystemReport", "ext4", "", "", [None]]),
        (disk_messages.VolumeLocation, ["VolumeLocation", ["VolumeLocation", None, 0], 0]),
        (disk_messages.VolumeLocation, ["VolumeLocation", ["FileIdentity", 1], 0]),
        (disk_messages.VolumeLocation, ["VolumeLocation", 1, 0]),
    ],
)
def test_an_unexpected_message_is_refused(kind, forged):
    with pytest.raises(ReaderFailed, match="the sandbox worker returned an invalid reply"):
        decode(json.dumps(forged).encode(), kind)


@pytest.mark.parametrize("payload", [b"", b"[", b"\xff", b"[" * 100_000])
def test_invalid_json_is_refused(payload):
    with pytest.raises(ReaderFailed, match="the sandbox worker returned an invalid reply"):
        decode(payload, messages.Done)
