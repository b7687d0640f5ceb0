"""Busyboxes of several releases of distributions: what the tests try the client's shell on.

Each is fetched once, by mmdebstrap from the distribution's archive, to build/busybox/SUITE/busybox. Needs root, as that
does.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.debian_root import CHECKOUT, apt_settings

SUITES = ("bookworm", "noble", "trixie", "sid")
"""Of Debian and Ubuntu. They bring busybox 1.35, 1.36, 1.37, and the newest there is, 1.38 or later."""
UBUNTU = ("noble",)
_UBUNTU_KEYS = Path("usr/share/keyrings/ubuntu-archive-keyring.gpg")
_PATHS = ("usr/bin/busybox", "bin/busybox")
_SHARED = CHECKOUT / "build" / "busybox"


def busybox_of(suite: str) -> Path:
    """The static busybox of a suite, which is fetched where it is not here yet.

    Raises SystemExit with what went wrong.
    """
    target = _SHARED / suite / "busybox"
    _SHARED.mkdir(parents=True, exist_ok=True)
    with (_SHARED / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with _ubuntu_keys(suite) as keyring, _extracted(suite, "busybox-static", keyring) as root:
                found = next(path for path in map(root.joinpath, _PATHS) if path.is_file())
                target.parent.mkdir(exist_ok=True)
                found.rename(target)
    return target


@contextmanager
def _ubuntu_keys(suite: str) -> Iterator[Path | None]:
    """A keyring that mmdebstrap needs besides: Debian has Ubuntu's keys as a package."""
    here = Path("/") / _UBUNTU_KEYS
    if suite not in UBUNTU or here.exists():
        yield None
        return
    with _extracted("trixie", "ubuntu-archive-keyring") as root:
        yield root / _UBUNTU_KEYS


@contextmanager
def _extracted(suite: str, package: str, keyring: Path | None = None) -> Iterator[Path]:
    """A directory with the files of a package."""
    with TemporaryDirectory(prefix=".fetch-", dir=_SHARED) as directory:
        root = Path(directory, "root")
        done = subprocess.run(
            command(suite, package, root, apt_settings(), keyring),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            tail = "\n".join(done.stderr.splitlines()[-15:])
            sys.exit(f"{tail}\ncannot fetch {package} of {suite}: mmdebstrap failed with status {done.returncode}")
        yield root


def command(suite: str, package: str, target: Path, settings: list[str], keyring: Path | None = None) -> list[str]:
    """The call of mmdebstrap, which knows from distro-info-data whose suite it is, and where that has its archive."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=extract",
        f"--include={package}",
        *(f"--aptopt={setting}" for setting in settings),
        *([f"--keyring={keyring}"] if keyring else []),
        suite,
        str(target),
    ]


def main() -> None:
    for suite in SUITES:
        print(busybox_of(suite).relative_to(CHECKOUT))


if __name__ == "__main__":
    main()
