"""Download busybox of several releases, to test the client's shell scripts with.

Each is downloaded once, with mmdebstrap from the distribution's archive, to build/busybox/SUITE/busybox. Needs root.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.debian_root import CHECKOUT, apt_settings

SUITES = ("bookworm", "noble", "trixie", "sid")
"""Suites of Debian and Ubuntu, with busybox 1.35, 1.36, 1.37, and the newest, 1.38 or later."""
_UBUNTU = ("noble",)
_DEBIAN_KEYS = "usr/share/keyrings/debian-archive-keyring.gpg"
_UBUNTU_KEYS = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
_PATHS = ("usr/bin/busybox", "bin/busybox")
_SHARED = CHECKOUT / "build" / "busybox"


def busybox_of(suite: str) -> Path:
    """The static busybox of a suite. Downloads all that are missing.

    Raises SystemExit with the reason.
    """
    _SHARED.mkdir(parents=True, exist_ok=True)
    with (_SHARED / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if missing := [each for each in SUITES if not _place(each).exists()]:
            _fetch(missing)
    return _place(suite)


def _place(suite: str) -> Path:
    return _SHARED / suite / "busybox"


def _fetch(suites: list[str]) -> None:
    """Older machines lack the keys of newer releases, and Debian those of Ubuntu: both are in packages."""
    with ExitStack() as stack:
        first = stack.enter_context(_extracted("bookworm", "debian-archive-keyring", Path("/", _DEBIAN_KEYS)))
        debian = first / _DEBIAN_KEYS
        ubuntu = stack.enter_context(_extracted("trixie", "ubuntu-archive-keyring", debian)) / _UBUNTU_KEYS
        for suite in suites:
            with _extracted(suite, "busybox-static", ubuntu if suite in _UBUNTU else debian) as root:
                found = next(path for path in map(root.joinpath, _PATHS) if path.is_file())
                _place(suite).parent.mkdir(exist_ok=True)
                found.rename(_place(suite))


@contextmanager
def _extracted(suite: str, package: str, keyring: Path) -> Iterator[Path]:
    """A temporary directory with the files of a package."""
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
            sys.exit(
                f"{tail}\ncannot download {package} of {suite}: mmdebstrap failed with exit status {done.returncode}"
            )
        yield root


def command(suite: str, package: str, target: Path, settings: list[str], keyring: Path) -> list[str]:
    """The mmdebstrap command; distro-info-data tells it the distribution and archive of a suite."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=extract",
        f"--include={package}",
        *(f"--aptopt={setting}" for setting in settings),
        f"--keyring={keyring}",
        suite,
        str(target),
    ]


def main() -> None:
    for suite in SUITES:
        print(busybox_of(suite).relative_to(CHECKOUT))


if __name__ == "__main__":
    main()
