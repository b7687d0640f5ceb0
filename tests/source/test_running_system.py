"""`/` itself, as a process sees it whose root is a copy-on-write view with file systems of their own in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.system import make_system

TESTS = Path(__file__).parent.parent
SOURCE = TESTS.parent / "src"

VIEW = """
import json, os, subprocess, sys
from ltsp.host.mounts import mount_overlay, isolate_mounts, mount_tmpfs
from ltsp.source.find import find_source
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File
from ltsp.tree.selection import select_all

lower, place, *disks = sys.argv[1:]
raw = place.encode()
isolate_mounts()
mount_tmpfs(raw)
for name in ("upper", "work", "view"):
    os.mkdir(f"{place}/{name}")
mount_overlay([lower.encode()], raw + b"/upper", raw + b"/work", raw + b"/view")
for disk in disks:
    name = os.path.basename(disk).partition(".")[0]
    subprocess.run(["mount", "-o", "loop", disk, f"{place}/view/{name}"], check=True)
subprocess.run(["mount", "-t", "proc", "none", f"{place}/view/proc"], check=True)
os.chroot(f"{place}/view")
os.chdir("/")
os.makedirs("/srv/ltsp/images")

source = find_source("/", "/srv/ltsp", excluded_directories=("/srv/ltsp",))
plan = source.plan()
faults = Faults()
with source.open(select_all, faults) as tree:
    listed = sorted(path for path, _ in tree.walk())
    with tree.get("boot/kernel").content.open() as stream:
        kernel = stream.read(100).decode()
there = []
for directory, names, files in os.walk("/"):
    there += [os.path.join(directory, name)[1:] for name in names + files]
    names[:] = [name for name in names if os.path.join(directory, name) not in ("/home", "/proc", "/srv/ltsp")]
print(json.dumps({
    "name": source.name,
    "description": source.description,
    "taken": {part.path: part.description for part in plan.included},
    "left_out": {part.path: part.reason for part in plan.left_out},
    "missing": sorted(set(there) - set(listed)),
    "more": sorted(set(listed) - set(there)),
    "kernel": kernel,
    "faults": bool(faults),
}))
"""


@pytest.fixture
def lower(tmp_path):
    root = make_system(tmp_path / "root")
    subprocess.run(["rm", "-r", root / "boot", root / "usr", root / "home"], check=True)
    for name, file in (("boot", "kernel"), ("usr", "tool"), ("home", "secret")):
        (root / name).mkdir(0o711)
        content = tmp_path / f"{name}.files"
        content.mkdir()
        (content / file).write_text(f"of {name}")
        subprocess.run(["mkfs.ext4", "-q", "-d", content, tmp_path / f"{name}.ext4", "4M"], check=True)
    return root


@pytest.mark.root
def test_what_is_missing_is_what_the_plan_leaves_out(lower, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    disks = [tmp_path / f"{name}.ext4" for name in ("boot", "usr", "home")]
    run = subprocess.run(
        [sys.executable, "-c", VIEW, lower, place, *disks],
        env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    shown = json.loads(run.stdout)
    assert shown["name"] == os.uname().machine
    assert shown["description"] == "the running system"
    assert list(shown["taken"]) == ["", "boot", "usr"]
    assert shown["taken"]["boot"].startswith("ext4 on /dev/loop")
    assert shown["left_out"] == {
        "home": "home directories",
        "proc": "exists only while this machine is running",
        "srv/ltsp": "an image does not include itself",
    }
    assert shown["missing"] == ["srv/ltsp"]
    assert shown["more"] == []
    assert shown["kernel"] == "of boot"
    assert not shown["faults"]
    assert list(place.iterdir()) == []
