"""A server in a temporary directory, and the `ltsp` command as a person types it there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from corpus.system import make_system

SOURCE = Path(__file__).parent.parent.parent / "src"


@dataclass(frozen=True)
class Site:
    base: Path
    tftp: Path
    conf: Path
    home: Path
    """The working directory, and `~`."""
    through: tuple[str, ...] = ()
    """What the command is started by: another user, another mount namespace."""
    seen: str = ""
    """Where that namespace's root is seen from here."""

    @classmethod
    def at(cls, root: Path) -> Site:
        return cls(root / "srv/ltsp", root / "srv/tftp", root / "etc/ltsp/ltsp.conf", root / "root")

    @classmethod
    def make(cls, root: Path) -> Site:
        site = cls.at(root)
        for directory in (site.base, site.tftp, site.conf.parent, site.home):
            directory.mkdir(parents=True)
        site.conf.write_text("")
        return site

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "COVERAGE_PROCESS_START") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": str(SOURCE),
            "HOME": str(self.home),
            "LTSP_CONF": str(self.conf),
            "BASE_DIR": str(self.base),
            "TFTP_DIR": str(self.tftp),
            **more,
        }

    def command(self, *arguments: str) -> list[str]:
        return [*self.through, sys.executable, "-m", "ltsp", *arguments]

    def ltsp(
        self, *arguments: str, status: int | None = 0, stdin: int | IO[bytes] = subprocess.DEVNULL, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it and check its exit status."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(**environment),
            cwd=self.home,
            stdin=stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=300,
        )
        said = f"ltsp {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, said
        assert status is None or done.returncode == status, f"exit status {done.returncode} of {said}"
        return done

    def system(self, name: str, files: dict[str, str] | None = None) -> Path:
        """A chroot of that name below the base directory."""
        return make_system(self.base / name, files)

    def image(self, name: str) -> Path:
        return self.base / "images" / f"{name}.img"

    def kernel(self, name: str) -> Path:
        return self.tftp / "ltsp" / name / "vmlinuz"

    def initrd(self, name: str) -> Path:
        return self.tftp / "ltsp" / name / "initrd.img"

    def everything(self) -> dict[str, tuple[int, int]]:
        """Each path of the server with inode and size: what a failure may not have changed."""
        found = {}
        for directory in (self.base, self.tftp):
            for path in sorted(directory.rglob("*")):
                status = path.lstat()
                found[str(path)] = (status.st_ino, status.st_size if not path.is_dir() else 0)
        return found


def listing(image: Path) -> set[str]:
    """The paths in an image, as unsquashfs lists them."""
    done = subprocess.run(["unsquashfs", "-l", "-d", "", image], capture_output=True, text=True, check=True)
    return {line.lstrip("/") for line in done.stdout.splitlines() if line.startswith("/")}


def content(image: Path, path: str) -> str:
    """A file in an image, as unsquashfs prints it."""
    return subprocess.run(["unsquashfs", "-cat", image, path], capture_output=True, text=True, check=True).stdout


def compressor(image: Path) -> str:
    done = subprocess.run(["unsquashfs", "-s", image], capture_output=True, text=True, check=True)
    return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("Compression "))
