"""Disks that are small or give errors, mounted where only the program under test sees them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from corpus.site import Site


@contextmanager
def mounted(site: Site, script: str) -> Iterator[Site]:
    """The site in a mount namespace of its own, which a shell script with `$base` and `$tftp` has prepared.

    It is removed at the end of the block, and if the test is killed: its holder waits for the end of its input.
    """
    holding = ["unshare", "--mount", "--propagation=private", "sh", "-ec", f"{script}\necho ready\nexec cat"]
    with subprocess.Popen(
        holding,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "base": str(site.base), "tftp": str(site.tftp)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        seen = f"/proc/{holder.pid}/root"
        yield replace(
            site,
            base=Path(seen + str(site.base)),
            tftp=Path(seen + str(site.tftp)),
            seen=seen,
            through=("nsenter", "--mount", f"--target={holder.pid}", "--"),
        )
        assert holder.stdin is not None
        holder.stdin.close()
