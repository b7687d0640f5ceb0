"""The iPXE script with which the client of a boot test starts: it makes the choices of a person, then continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltsp.boot.ipxe import check_word, check_words
from ltsp.boottest.machine import HOST_ADDRESS

CONSOLE = "console=tty0 console=ttyS0"
"""The last one is /dev/console, to which init and the report write."""


@dataclass(frozen=True, slots=True)
class BootScript:
    name: str
    """Of the image."""
    transport: str
    base_url: str
    """URL with a trailing slash, below which `ltsp/` is served."""
    http_url: str
    """URL of the HTTP server, without a slash; empty if there is none."""
    report_url: str
    """URL of the initrd that makes the booted system report."""
    extra: str = ""
    """More words for the kernel."""

    def through_menu(self) -> str:
        """Chain to the site's own menu, with the choice made."""
        # If an HTTP server is given, the menu does not look for another one.
        http = [f"set ltsp-http {check_word(self.http_url)}"] if self.http_url else []
        return _join_lines(
            "#!ipxe",
            f"set ltsp-server {HOST_ADDRESS}",
            *http,
            f"set ltsp-transport {check_word(self.transport)}",
            f"set ltsp-choice {check_word(self.name)}",
            f"set ltsp-extra {self._kernel_words()} initrd=report.img",
            f"initrd --name report.img {check_word(self.report_url)}",
            f"chain {check_word(self.base_url)}ltsp/ltsp.ipxe",
        )

    def boot_version(self, version: str, image: str, root: str, sha256: str, initrds: Sequence[str]) -> str:
        """Boot a version, whether or not it is the current one.

        `image` is its path below BASE_DIR and `root` its URL for the client's initrd; `initrds` are names in the
        version's directory, or `ltsp.img` above it. A checksum that is not empty is verified.
        """
        home = f"{check_word(self.base_url)}ltsp/"
        names = [*initrds, "report.img"]
        arguments = [
            "rdinit=/ltsp/init",
            *(f"initrd={check_word(name)}" for name in names),
            f"ltsp.image={check_word(image)}",
            f"ltsp.root={check_word(root)}",
            *([f"ltsp.sha256={check_word(sha256)}"] if sha256 else []),
            f"ltsp.server={HOST_ADDRESS}",
            "BOOTIF=01-${netX/mac:hexhyp}",
            self._kernel_words(),
        ]
        return _join_lines(
            "#!ipxe",
            f"kernel {home}{check_word(self.name)}/{check_word(version)}/vmlinuz {' '.join(arguments)}",
            *(
                f"initrd {home}{'' if name == 'ltsp.img' else f'{self.name}/{version}/'}{check_word(name)}"
                for name in initrds
            ),
            f"initrd --name report.img {check_word(self.report_url)}",
            # Given a path, iPXE adds what it loads to the initramfs as a file.
            *(
                [f"initrd {check_word(self.http_url)}/{check_word(image)} /image.img"]
                if self.transport == "file"
                else []
            ),
            "boot",
        )

    def _kernel_words(self) -> str:
        return check_words(f"{CONSOLE} {self.extra}".strip())


def _join_lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
