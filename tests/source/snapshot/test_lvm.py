"""Logical volumes: decisions and commands, against programs that answer as the manual pages say."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ltsp.errors import LtspError, SourceError
from ltsp.host import locks
from ltsp.host.mounts import Mount
from ltsp.host.root import RootDirectory
from ltsp.source.snapshot import frozen, snapshot
from ltsp.source.snapshot import lvm as lvm_snapshot
from ltsp.source.snapshot.frozen import SnapshotBase
from ltsp.source.snapshot.lvm import LvsVolume
from ltsp.tree.selection import Inclusion

GIB = 1 << 30
ROOT = b"29 1 253:1 / / rw,relatime shared:1 - %s /dev/mapper/vg--0-root rw,errors=remount-ro"

PROGRAM = """#!/bin/sh
echo "${0##*/} $*" >>%(log)s
case ${0##*/} in
    lvs) for last; do :; done; cat "%(answers)s/$(echo "$last" | tr / _)" ;;
    lvcreate) [ ! -e %(answers)s/full ] || { echo "  Insufficient free space" >&2; exit 5; } ;;
esac
"""


def row(**fields):
    told = {
        "vg_name": "vg-0",
        "lv_name": "root",
        "lv_attr": "-wi-ao----",
        "lv_size": str(20 * GIB),
        "vg_free": str(10 * GIB),
        "vg_extent_size": str(4 << 20),
        "snap_percent": "",
    }
    return {**told, **fields}


def report(*rows):
    """What `lvs --reportformat json` prints."""
    return json.dumps({"report": [{"lv": list(rows)}]}, indent=4)


class Lvm:
    """Programs in a directory of their own, a /sys with one volume, and what was run."""

    def __init__(self, place):
        self.answers = place / "answers"
        self.log = place / "log"
        self.answers.mkdir()
        self.log.touch()
        (place / "bin").mkdir()
        for name in ("lvs", "lvcreate", "lvremove"):
            program = place / "bin" / name
            program.write_text(PROGRAM % {"log": self.log, "answers": self.answers})
            program.chmod(0o755)
        device = place / "sys/dev/block/253:1/dm"
        device.mkdir(parents=True)
        (device / "uuid").write_text("LVM-abc\n")
        (device / "name").write_text("vg--0-root\n")
        self.devices = place / "mapper"
        self.tell("@ltsp")

    def tell(self, what, *rows):
        (self.answers / what.replace("/", "_")).write_text(report(*rows))

    def calls(self, program):
        return [line.split()[1:] for line in self.log.read_text().splitlines() if line.split()[0] == program]


@pytest.fixture
def lvm(tmp_path, monkeypatch):
    made = Lvm(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(lvm_snapshot, "SYSFS", str(tmp_path / "sys"))
    monkeypatch.setattr(lvm_snapshot, "MAPPER_DIRECTORY", str(made.devices))
    monkeypatch.setattr(frozen, "LOCK_DIRECTORY", str(tmp_path / "locks"))
    made.tell(f"{made.devices}/vg--0-root", row())
    return made


def mount(kind=b"ext4"):
    return Mount.parse(ROOT % kind)


@contextmanager
def live(path, kind=b"ext4"):
    with RootDirectory.open(os.fsencode(path)) as root:
        yield SnapshotBase("", mount(kind), root, b"")


def test_a_volume_is_what_lvs_tells_of_it():
    thin = row(lv_attr="Vwi-aotz--", snap_percent="")
    (volume,) = LvsVolume.parse(report(thin).encode())
    assert volume == LvsVolume("vg-0", "root", "Vwi-aotz--", 20 * GIB, 10 * GIB, 4 << 20, 0.0)
    assert volume.is_thin
    assert not volume.is_invalid


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"report":[]}', b'{"report":[{"lv":[{"vg_name":"a"}]}]}', b"[1]", b"null"]
)
def test_an_invalid_report_is_an_error(text):
    with pytest.raises(LtspError, match="cannot parse the output of lvs"):
        LvsVolume.parse(text)


@pytest.mark.parametrize(
    ("attributes", "used", "lost"),
    [
        ("swi-aos---", "12.50", False),
        ("swi-aos---", "100.00", True),
        ("swi-Ios---", "100.00", True),
        ("swi-I-s---", "", True),
        ("swi-Sos---", "", True),
        ("Vwi-aotz-k", "", False),
    ],
)
def test_a_snapshot_is_lost_when_it_is_invalid_or_full(attributes, used, lost):
    (volume,) = LvsVolume.parse(report(row(lv_attr=attributes, snap_percent=used)).encode())
    assert volume.is_invalid is lost


@pytest.mark.parametrize(
    ("size", "free", "extents"),
    [(20 * GIB, 10 * GIB, 1024), (20 * GIB, 2 * GIB, 512), (40 << 20, GIB, 2), (20 * GIB, 412 << 20, 103)],
)
def test_a_thick_snapshot_gets_a_fifth_of_its_origin_or_what_is_free(size, free, extents):
    (volume,) = LvsVolume.parse(report(row(lv_size=str(size), vg_free=str(free))).encode())
    words = volume.snapshot_command("ltsp-1")
    assert words == [
        *("lvcreate", "--yes", "--snapshot", "--name", "ltsp-1", "--addtag", "ltsp", "--permission", "rw"),
        *("--extents", str(extents), "vg-0/root"),
    ]


@pytest.mark.parametrize("free", [0, 3 << 20, 400 << 20])
def test_too_little_space_is_reported_with_the_group(free):
    (volume,) = LvsVolume.parse(report(row(vg_free=str(free))).encode())
    with pytest.raises(
        SourceError, match=rf"group vg-0 has {free >> 20} MiB free, .* vg-0/root needs at least 409 MiB"
    ):
        volume.snapshot_command("ltsp-1")


def test_a_thin_snapshot_needs_no_size_and_is_activated():
    (volume,) = LvsVolume.parse(report(row(lv_attr="Vwi-aotz--", vg_free="0")).encode())
    words = volume.snapshot_command("ltsp-1")
    assert "--extents" not in words
    assert words[-3:] == ["--setactivationskip", "n", "vg-0/root"]


@pytest.mark.usefixtures("lvm")
@pytest.mark.parametrize(
    ("kind", "fits"), [(b"ext4", True), (b"xfs", True), (b"btrfs", False), (b"vfat", False), (b"fuse.x", False)]
)
def test_file_systems_that_can_be_mounted_a_second_time_fit(kind, fits):
    assert lvm_snapshot.can_snapshot(mount(kind)) is fits


@pytest.mark.usefixtures("lvm")
def test_a_disk_that_is_not_a_volume_does_not_match(tmp_path):
    (tmp_path / "sys/dev/block/253:1/dm/uuid").write_text("CRYPT-LUKS2-abc\n")
    assert not lvm_snapshot.can_snapshot(mount())
    (tmp_path / "sys/dev/block/253:1/dm/uuid").unlink()
    assert not lvm_snapshot.can_snapshot(mount())


def test_auto_takes_thin_ones_alone(lvm):
    assert not lvm_snapshot.has_thin_volume(mount())
    lvm.tell(f"{lvm.devices}/vg--0-root", row(lv_attr="Vwi-aotz--"))
    assert lvm_snapshot.has_thin_volume(mount())
    lvm.tell(f"{lvm.devices}/vg--0-root")
    assert not lvm_snapshot.has_thin_volume(mount())


@pytest.mark.parametrize("kind", [b"ext4", b"xfs"])
def test_it_is_made_mounted_read_checked_and_removed(lvm, tmp_path, monkeypatch, kind):
    """In this order; the mount is the directory itself, since there is no device-mapper to ask."""
    mounts = []

    def mounted(*arguments):
        mounts.append(arguments)
        made = lvm.calls("lvcreate")[0][3]
        lvm.tell("@ltsp", row(lv_name=made, lv_attr="swi-aos---"))
        lvm.tell(f"vg-0/{made}", row(lv_name=made, lv_attr="swi-aos---", snap_percent="3.00"))
        return os.open(tmp_path, os.O_PATH)

    monkeypatch.setattr(lvm_snapshot, "create_mount", mounted)
    with live(tmp_path, kind) as one, lvm_snapshot.take_snapshot(one, lambda *_: Inclusion.ALL) as stills:
        (still,) = stills
        (created,) = lvm.calls("lvcreate")
        name = created[created.index("--name") + 1]
        assert (still.kind, still.origin, still.invalid_reason()) == ("lvm", "vg-0/root", "")
        assert mounts[0][:2] == (kind, os.fsencode(f"{lvm.devices}/vg--0-{name.replace('-', '--')}"))
        assert mounts[0][2] == {b"ro": None, **({b"nouuid": None} if kind == b"xfs" else {})}
        assert not lvm.calls("lvremove")
        lvm.tell(f"vg-0/{name}", row(lv_name=name, lv_attr="swi-Ios---", snap_percent="100.00"))
        assert (
            still.invalid_reason() == "the snapshot of vg-0/root overflowed: too much changed while it was being read"
        )
    assert lvm.calls("lvremove")[0] == ["--yes", f"vg-0/{name}"]
    assert os.listdir(frozen.LOCK_DIRECTORY) == []


def test_where_it_cannot_be_mounted_it_is_removed_all_the_same(lvm, tmp_path):
    """As on a machine without device-mapper: there is no such device."""

    def names():
        return [line[line.index("--name") + 1] for line in lvm.calls("lvcreate")]

    (Path(tmp_path) / "bin/lvcreate").write_text(
        (PROGRAM % {"log": lvm.log, "answers": lvm.answers})
        + f"cat >{lvm.answers}/@ltsp <<EOF\n{report(row(lv_name='$4'))}\nEOF\n"
    )
    with (
        live(tmp_path) as one,
        pytest.raises(FileNotFoundError),
        lvm_snapshot.take_snapshot(one, lambda *_: Inclusion.ALL),
    ):
        pass
    assert lvm.calls("lvremove")[0] == ["--yes", f"vg-0/{names()[0]}"]


def test_what_killed_runs_have_left_is_removed_and_nothing_else(lvm, tmp_path, monkeypatch):
    monkeypatch.setattr(lvm_snapshot, "create_mount", lambda *_: os.open(tmp_path, os.O_PATH))
    forgotten, living = "ltsp-0123456789abcdef", "ltsp-fedcba9876543210"
    lvm.tell("@ltsp", row(lv_name=forgotten), row(lv_name=living), row(lv_name="swap"), row(lv_name="ltsp-mine"))
    os.makedirs(frozen.LOCK_DIRECTORY)
    with (
        locks.hold_exclusive(f"{frozen.LOCK_DIRECTORY}/{living}"),
        live(tmp_path) as one,
        lvm_snapshot.take_snapshot(one, lambda *_: Inclusion.ALL),
    ):
        assert lvm.calls("lvremove") == [["--yes", f"vg-0/{forgotten}"]]


def test_a_full_volume_group_is_an_error_if_lvm_was_requested(lvm, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot.os, "geteuid", lambda: 0)
    (lvm.answers / "full").touch()
    with (
        live(tmp_path) as one,
        ExitStack() as opened,
        pytest.raises(SourceError, match=r"cannot snapshot the source with lvm.* Insufficient free space: .*none"),
    ):
        snapshot.take_snapshots([one], "lvm", lambda *_: Inclusion.ALL, opened)
    assert lvm.calls("lvremove") == []


@pytest.mark.usefixtures("lvm")
@pytest.mark.parametrize("missing", ["lvs", "lvcreate"])
def test_a_missing_program_is_named_with_its_package(monkeypatch, missing):
    true = lvm_snapshot.command.find_program
    monkeypatch.setattr(lvm_snapshot.command, "find_program", lambda name: None if name == missing else true(name))
    with pytest.raises(LtspError, match=f"{missing} not found, which an LVM snapshot needs: install lvm2"):
        lvm_snapshot.check_programs()
