"""The requirements of a refusal: one line with cause and remedy, the exit status, and an unchanged server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from corpus.site import Site

UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")
"""Root without a capability: like any user where a file is another's, and the tests' own directory is still his."""


def refused(site: Site, *words: str, status: int = 1, says: Sequence[str] = (), **environment: str) -> str:
    """Run `ltsp image --quiet` with these words, which fails as it should; the line that it prints."""
    return command_refused(site, "image", "--quiet", *words, status=status, says=says, **environment)


def command_refused(site: Site, *words: str, status: int, says: Sequence[str] = (), **environment: str) -> str:
    """Run a command that prints nothing but why it fails."""
    with unharmed(site):
        done = site.ltsp(*words, status=status, **environment)
    assert done.stdout == "", done.stdout
    return one_line(done.stderr, says)


def one_line(said: str, says: Sequence[str] = ()) -> str:
    """The line, which holds each of these texts."""
    assert said.count("\n") == 1, said
    assert said.startswith("ltsp: "), said
    line = said.removesuffix("\n")
    assert line.isprintable(), ascii(line)
    for text in says:
        assert text in line, f"{text!r} is not in: {line}"
    return line


@contextmanager
def unharmed(site: Site) -> Iterator[None]:
    """Image, kernel and all else on the server are the same after the block, and nothing is left behind by it."""
    before = site.everything()
    yield
    after = site.everything()
    assert after == before, sorted(set(after.items()) ^ set(before.items()))
    assert left_behind(site) == []


def left_behind(site: Site) -> list[str]:
    """Processes that were started for this site, and mounts and loop devices below it."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    loops = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True).stdout.splitlines()
    there = [line for line in (*mounts, *loops) if str(site.base.parent) in line]
    mark = b"BASE_DIR=" + os.fsencode(site.base)
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                there.append(f"process {pid}: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}")
    return there
