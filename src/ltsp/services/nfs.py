"""Exports of the kernel's NFS server. exports(5)"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from os.path import join

from ltsp.errors import LtspError
from ltsp.services import quoting

_READ = "ro,no_root_squash,no_subtree_check,insecure"
"""Clients read as root, which images with private files need. iPXE and QEMU's network use high ports: insecure."""
_HOMES = "rw,root_squash,no_subtree_check,insecure"
"""Who they are is what clients say they are: root at least is not believed."""


@dataclass(frozen=True, slots=True)
class NfsExports:
    networks: tuple[IPv4Network, ...]
    """Who may mount."""
    base_dir: str
    base: bool = False
    """All of BASE_DIR, sources too: for chroots that clients boot from, and menus from before."""
    tftp_dir: str = ""
    """Empty if it is not exported."""
    home_dir: str = ""

    def text(self) -> str:
        """Raises LtspError if a directory cannot be written there, and if there is nobody to export to: an
        export that names no client is everybody's.
        """
        if not self.networks:
            raise LtspError(
                "this server has no IPv4 network to export to", "connect it, or give its interface an address"
            )
        lines = [
            "# Made by ltsp nfs: what is changed here gets lost. Settings belong in /etc/ltsp/ltsp.conf, and other",
            "# exports in another file of this directory.",
            *self._lines(),
        ]
        return "\n".join(lines) + "\n"

    def _lines(self) -> Iterator[str]:
        if self.base:
            yield self._export(quoting.check_path(self.base_dir, "the base directory"), f"{_READ},crossmnt")
        else:
            yield self._export(quoting.check_path(join(self.base_dir, "images"), "the directory"), _READ)
        if self.tftp_dir:
            yield self._export(quoting.check_path(join(self.tftp_dir, "ltsp"), "the directory"), _READ)
        if self.home_dir:
            yield self._export(quoting.check_path(self.home_dir, "the home directory"), _HOMES)

    def _export(self, path: str, options: str) -> str:
        return " ".join([path, *(f"{network}({options})" for network in sorted(set(self.networks)))])
