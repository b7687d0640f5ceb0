"""A small root file system of this machine's own release, with kernel: what the demo, tests and benchmarks read.

It comes by mmdebstrap from the machine's own apt sources, and only from those that serve the distribution itself.
Debian 12 and later, Ubuntu 24.04 and later. Needs root.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
_PACKAGES = ["systemd-sysv", "udev", "kmod", "login", "passwd", "dbus", "iproute2"]
"""With the kernel and a program that makes initrds: the least that boots to a login."""
INITRDS = ("initramfs-tools", "dracut")
"""Packages that make the initrd; the first one is Debian's own choice."""
_POCKETS = ("", "-updates", "-security")
_KEYRING = re.compile(r"/usr/share/keyrings/(debian|ubuntu)-archive-keyring\.(gpg|pgp)")
_SETTINGS = re.compile(r"(Acquire::(https?::(Proxy|CAInfo|Verify-Peer)|Retries|Check-Valid-Until)\b.*);")
"""What of the machine's apt configuration must hold for the download too."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release of a distribution. os-release(5)"""

    id: str
    codename: str

    @classmethod
    def parse(cls, text: str) -> Release:
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        values = {name: "".join(shlex.split(value)) for name, value in pairs}
        return cls(values.get("ID", ""), values.get("VERSION_CODENAME", ""))

    @property
    def kernel(self) -> str:
        """The package that brings the current kernel of this machine's processor."""
        machine = platform.machine()
        if self.id == "ubuntu":
            return "linux-image-virtual"
        return f"linux-image-{ {'x86_64': 'amd64', 'aarch64': 'arm64', 'i686': '686-pae', 'armv7l': 'armmp'}[machine] }"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of apt's sources. sources.list(5)"""

    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""

    def serves(self, codename: str) -> bool:
        """Whether this is the distribution's own archive of the release, and not another's of a like name."""
        return (
            "deb" in self.types
            and "main" in self.components
            and (not self.signed_by or _KEYRING.fullmatch(self.signed_by) is not None)
            and any(suite in self._wanted(codename) for suite in self.suites)
        )

    def lines(self, codename: str) -> Iterator[str]:
        """The entry in one-line style, of the wanted suites alone."""
        options = f" [signed-by={self.signed_by}]" if self.signed_by else ""
        for uri in self.uris:
            for suite in self.suites:
                if suite in self._wanted(codename):
                    yield f"deb{options} {uri} {suite} {' '.join(self.components)}"

    @staticmethod
    def _wanted(codename: str) -> set[str]:
        return {codename + pocket for pocket in _POCKETS}


def one_line_entries(text: str) -> Iterator[Entry]:
    """The entries of a `.list` file."""
    for line in text.splitlines():
        match = re.match(r"(deb|deb-src)\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if match:
            kind, options, uri, suite, components = match.groups()
            signed_by = re.search(r"signed-by=(\S+)", options or "")
            yield Entry((kind,), (uri,), (suite,), tuple(components.split()), signed_by[1] if signed_by else "")


def deb822_entries(text: str) -> Iterator[Entry]:
    """The entries of a `.sources` file; those that are switched off are left out."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for name, value in re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE):
            fields[name.lower()] = value.strip()
        if "uris" in fields and fields.get("enabled", "yes").lower() not in {"no", "false", "0"}:
            types, uris, suites, components = (
                tuple(fields.get(name, "").split()) for name in ("types", "uris", "suites", "components")
            )
            yield Entry(types, uris, suites, components, fields.get("signed-by", ""))


def sources(release: Release, etc_apt: Path = Path("/etc/apt")) -> list[str]:
    """The lines of a sources.list that serve the release itself."""
    entries: list[Entry] = []
    for path in [etc_apt / "sources.list", *sorted(etc_apt.glob("sources.list.d/*"))]:
        if path.suffix == ".list" and path.exists():
            entries.extend(one_line_entries(path.read_text()))
        elif path.suffix == ".sources":
            entries.extend(deb822_entries(path.read_text()))
    lines = (line for entry in entries if entry.serves(release.codename) for line in entry.lines(release.codename))
    return list(dict.fromkeys(lines))


def command(release: Release, target: Path, settings: Iterable[str], initrd: str = INITRDS[0]) -> list[str]:
    """The call of mmdebstrap, which reads the sources from its standard input."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join([*_PACKAGES, initrd, release.kernel])}",
        *(f"--aptopt={setting}" for setting in settings),
        # An account and a home: something for the clean-up of an image to leave out.
        '--customize-hook=chroot "$1" useradd --create-home --shell=/bin/bash teacher',
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        release.codename,
        os.fspath(target),
        "-",
    ]


def apt_settings() -> list[str]:
    """What of the machine's apt configuration must hold for what mmdebstrap downloads."""
    dump = subprocess.run(["apt-config", "dump"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return [match[1] for line in dump.splitlines() if (match := _SETTINGS.fullmatch(line))]


def make(target: Path, initrd: str = INITRDS[0]) -> bool:
    """Make the root at `target` unless it is there; whether it was made now. `initrd`: one of INITRDS.

    Only a complete root bears the name. Raises SystemExit with what is missing.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return False
        release = this_release()
        lines = sources(release)
        if not lines:
            sys.exit(
                f"no entry below /etc/apt serves {release.id} {release.codename} itself: add the distribution's own"
            )
        if os.geteuid() != 0:
            sys.exit(f"only root can make the root file system {target}: run make as root")
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        log = target.with_name(f".{target.name}.log")
        with log.open("w") as output:
            done = subprocess.run(
                command(release, partial, apt_settings(), initrd),
                input="\n".join(lines) + "\n",
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            tail = "\n".join(log.read_text().splitlines()[-15:])
            sys.exit(f"{tail}\nmmdebstrap failed with status {done.returncode}; its output is in {log}")
        partial.rename(target)
        return True


def this_release() -> Release:
    """The release that this machine runs."""
    release = Release.parse(Path("/etc/os-release").read_text())
    if release.id not in {"debian", "ubuntu"} or not release.codename:
        sys.exit(f"this machine runs {release.id or 'an unknown system'}: a root is made only on Debian or Ubuntu")
    return release


def shared(initrd: str = INITRDS[0]) -> Path:
    """Where the root that tests and benchmarks read is, or is to be."""
    codename = this_release().codename
    return CHECKOUT / "build" / "root" / (codename if initrd == INITRDS[0] else f"{codename}-{initrd}")


def main() -> None:
    if os.geteuid() != 0:
        print("root: not root, so no root file system is made; tests that read one are left out")
        return
    target = shared()
    if not target.is_dir():
        print(f"root: making {target.relative_to(CHECKOUT)} with mmdebstrap; this takes a minute or two", flush=True)
    make(target)


if __name__ == "__main__":
    main()
