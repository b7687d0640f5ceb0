"""Create a small root file system of this machine's release, with a kernel, for the demo, tests and benchmarks.

mmdebstrap creates it from the machine's own apt sources, and only from those that serve the distribution itself.
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
"""The minimum to boot to a login, besides the kernel and an initrd generator."""
INITRDS = ("initramfs-tools", "dracut")
"""Initrd generators; the first one is Debian's default."""
_POCKETS = ("", "-updates", "-security")
_KEYRING = re.compile(r"/usr/share/keyrings/(debian|ubuntu)-archive-keyring\.(gpg|pgp)")
_SETTINGS = re.compile(r"(Acquire::(https?::(Proxy|CAInfo|Verify-Peer)|Retries|Check-Valid-Until)\b.*);")
"""Settings of the machine's apt configuration that the download needs, too."""


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
        """The package with the current kernel for this machine's processor."""
        machine = platform.machine()
        if self.id == "ubuntu":
            return "linux-image-virtual"
        return f"linux-image-{ {'x86_64': 'amd64', 'aarch64': 'arm64', 'i686': '686-pae', 'armv7l': 'armmp'}[machine] }"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of apt's sources. sources.list(5)"""

    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""

    def serves(self, codename: str) -> bool:
        """Whether this is the distribution's own archive of the release, not another one with a similar name."""
        return (
            "deb" in self.types
            and "main" in self.components
            and (not self.signed_by or _KEYRING.fullmatch(self.signed_by) is not None)
            and any(suite in self._wanted(codename) for suite in self.suites)
        )

    def lines(self, codename: str) -> Iterator[str]:
        """The entry in one-line style, only for the wanted suites."""
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
    """The entries of a `.sources` file, without disabled ones."""
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
    """The mmdebstrap command, which reads the sources from its standard input."""
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join([*_PACKAGES, initrd, release.kernel])}",
        *(f"--aptopt={setting}" for setting in settings),
        # An account and a home directory, for the clean-up of an image to remove.
        '--customize-hook=chroot "$1" useradd --create-home --shell=/bin/bash teacher',
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        release.codename,
        os.fspath(target),
        "-",
    ]


def apt_settings() -> list[str]:
    """The settings of the machine's apt configuration that mmdebstrap needs."""
    dump = subprocess.run(["apt-config", "dump"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return [match[1] for line in dump.splitlines() if (match := _SETTINGS.fullmatch(line))]


def make(target: Path, initrd: str = INITRDS[0]) -> bool:
    """Create the root at `target` unless it exists; return whether it was created. `initrd`: one of INITRDS.

    The name appears only when the root is complete. Raises SystemExit with the reason.
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
            sys.exit(f"no entry below /etc/apt serves {release.id} {release.codename} itself: add its own archive")
        if os.geteuid() != 0:
            sys.exit(f"cannot create the root file system {target}: run make as root")
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
    """The release of this machine."""
    release = Release.parse(Path("/etc/os-release").read_text())
    if release.id not in {"debian", "ubuntu"} or not release.codename:
        sys.exit(f"this machine runs {release.id or 'an unknown system'}: a root is made only on Debian or Ubuntu")
    return release


def shared(initrd: str = INITRDS[0]) -> Path:
    """The path of the root for tests and benchmarks, which may not exist yet."""
    codename = this_release().codename
    return CHECKOUT / "build" / "root" / (codename if initrd == INITRDS[0] else f"{codename}-{initrd}")


def main() -> None:
    if os.geteuid() != 0:
        print("root: skipped, since only root can create it; tests that need it are skipped")
        return
    target = shared()
    if not target.is_dir():
        print(f"root: creating {target.relative_to(CHECKOUT)} with mmdebstrap; this takes a minute or two", flush=True)
    make(target)


if __name__ == "__main__":
    main()
