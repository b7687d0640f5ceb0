"""A source that cannot be read, or changes meanwhile: each file is one version of it, or named, or nothing is made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest

from corpus.error_checks import UNPRIVILEGED, left_behind, refused
from corpus.site import Site, listing
from corpus.system import VERSION, configuration

pytestmark = [pytest.mark.oracle, pytest.mark.root]

ENGINES = {"own": ("-m", "-comp gzip"), "mksquashfs": ("-m", "-Xstrategy default -comp gzip")}


@pytest.fixture
def site(tmp_path):
    """Clients boot `lab` already."""
    site = Site.make(tmp_path)
    site.system("lab", {f"boot/config-{VERSION}": configuration("ZLIB")})
    site.ltsp("image", "lab")
    return site


# What cannot be read


@pytest.fixture
def unreadable(site):
    """Seen by somebody who may not read a file and two directories."""
    lab = site.base / "lab"
    (lab / "opt/key").write_text("secret\n")
    for name in ("opt/closed", "opt/half"):
        (lab / name).mkdir()
        (lab / name / "inner").write_text("secret\n")
    (lab / "opt/key").chmod(0)
    (lab / "opt/closed").chmod(0)
    (lab / "opt/half").chmod(0o444)
    return replace(site, through=UNPRIVILEGED)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_unreadable_file_publishes_nothing(unreadable, engine):
    refused(
        unreadable,
        "--ionice=",
        *ENGINES[engine],
        "lab",
        says=["cannot read /opt/", "Permission denied", "--skip-unreadable"],
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_unreadable_is_left_out_on_demand_and_each_named_with_exit_status_3(unreadable, engine):
    words = ("image", "--ionice=", "--quiet", "--skip-unreadable", *ENGINES[engine], "lab")
    said = unreadable.ltsp(*words, status=3).stderr
    left_out = {"opt/key", "opt/closed", "opt/half/inner"}
    for path in left_out:
        assert f"cannot read /{path}, " in said, said
    assert "in the image: /opt/key" not in said
    assert {path for path in listing(unreadable.image("lab")) if path.startswith("opt/")} & left_out <= {"opt/closed"}
    assert "secret" not in said


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("usr/bin/tool", "pread64"),
        ("usr/lib", "getdents64"),
        ("etc/passwd", "pread64"),
        ("var/lib/dpkg/status", "pread64"),
        (f"boot/vmlinuz-{VERSION}", "pread64"),
    ],
)
def test_a_disk_that_fails_publishes_nothing(site, engine, path, call):
    # Only what is done with this file fails, whoever does it: in the private copy of the mount it has another path.
    paths = ("-P", str(site.base / "lab" / path), "-P", f"/{path}")
    failing = ("strace", "-f", "-qq", "-o", "/dev/null", *paths, "-e", f"inject={call}:error=EIO")
    (site.base / "lab/etc/motd").write_text("changed\n")
    refused(replace(site, through=failing), "--ionice=", *ENGINES[engine], "lab", says=[path, "Input/output error"])


# What changes

WRITER = """
import os, random, sys, time
kind, path, seed = sys.argv[1:]
chance = random.Random(seed)
line = b"%08d\\n"
number = 0
while True:
    number += 1
    whole = line % number * chance.randrange(1, 60_000)
    if kind == "replace":
        with open(path + ".new", "wb") as file:
            file.write(whole)
        os.rename(path + ".new", path)
    elif kind == "rewrite":
        with open(path, "r+b", buffering=0) as file:
            file.write(line % number * 40_000)
    elif kind == "grow":
        with open(path, "ab", buffering=0) as file:
            file.write(line % 0 * 5_000)
        if os.stat(path).st_size > 8 << 20:
            os.truncate(path, 9)
    elif kind == "truncate":
        os.truncate(path, 9 * chance.randrange(1, 60_000))
        with open(path, "r+b", buffering=0) as file:
            file.write(line % number * (os.fstat(file.fileno()).st_size // 9))
    elif kind == "remove":
        os.unlink(path)
        time.sleep(chance.choice([0, 0.001, 0.02]))
        with open(path + ".new", "wb") as file:
            file.write(whole)
        os.rename(path + ".new", path)
    time.sleep(chance.choice([0, 0.001, 0.01, 0.1, 0.3]))
"""
"""Changes a file for ever; between two changes all its lines are one line, over and over."""
KINDS = ("replace", "rewrite", "grow", "truncate", "remove")


@contextmanager
def writers(directory, chance, count):
    """So many files of each kind that are written to; their names."""
    directory.mkdir()
    names = [f"{kind}-{number}" for kind in KINDS for number in range(count)]
    running = []
    try:
        for name in names:
            (directory / name).write_bytes(b"00000000\n" * 40_000)
            words = [sys.executable, "-c", WRITER, name.partition("-")[0], str(directory / name), str(chance.random())]
            running.append(subprocess.Popen(words))
        yield names
    finally:
        for each in running:
            each.kill()
        for each in running:
            each.wait()


def mixed(content):
    """Whether a file is none of its versions: one of those has one line, over and over."""
    first = content[:9]
    return content != first * (len(content) // 9)


@pytest.mark.parametrize("runs", [2, pytest.param(50, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
@pytest.mark.parametrize("engine", ENGINES)
def test_each_file_of_a_live_source_is_one_version_or_named(site, tmp_path, engine, runs, chance, record_property):
    named = whole = 0
    with writers(site.base / "lab/opt/live", chance, 3) as names:
        for run in range(runs):
            words = ("image", "--ionice=", "--quiet", *ENGINES[engine], "lab")
            done = site.ltsp(*words, status=None)
            assert done.returncode in {0, 3}, done.stderr
            unpacked = tmp_path / f"unpacked{run}"
            subprocess.run(["unsquashfs", "-q", "-n", "-d", unpacked, site.image("lab"), "opt/live"], check=True)
            for name in names:
                if f"/opt/live/{name} changed" in done.stderr or f"/opt/live/{name} vanished" in done.stderr:
                    assert done.returncode == 3
                    named += 1
                elif name.startswith("remove") and not (unpacked / "opt/live" / name).exists():
                    continue  # it was not there when its directory was listed
                else:
                    assert not mixed((unpacked / "opt/live" / name).read_bytes()), (name, done.stderr)
                    whole += 1
            assert left_behind(site) == []
            subprocess.run(["rm", "-rf", unpacked], check=True)
    record_property("R18", f"{runs} runs of {engine}, {whole} files in one version, {named} named, 0 mixed")


DAMAGING = """#!/bin/sh
{real} "$@" || exit
for word; do case $word in /proc/self/fd/*) image=$word ;; esac; done
case $* in *-Xstrategy*) ;; *) exit 0 ;; esac
count=$(cat {count} 2>/dev/null || echo 0)
echo $((count + 1)) >{count}
case $count in 0) exit 0 ;; esac # whether it knows the parameters
[ "$count" -gt {times} ] || printf damaged | dd of="$image" conv=notrunc status=none
"""


@pytest.mark.parametrize(("times", "status"), [(1, 0), (9, 1)])
def test_an_image_that_mksquashfs_left_damaged_is_rebuilt_or_reported(site, tmp_path, times, status):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/mksquashfs"
    program.write_text(DAMAGING.format(real=shutil.which("mksquashfs"), count=tmp_path / "count", times=times))
    program.chmod(0o755)
    (site.base / "lab/etc/new").write_text("new\n")
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    done = site.ltsp("image", "--quiet", *ENGINES["mksquashfs"], "lab", status=status, PATH=path)
    assert ("etc/new" in listing(site.image("lab"))) is (status == 0)
    assert "damaged" in done.stderr or "superblock" in done.stderr or status == 0
