"""A server with clients, set up as a person does it: ltsp.conf, `ltsp image`, `ltsp initrd`, `ltsp ipxe`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from corpus.diskless import one_at_a_time
from corpus.site import Site
from ltsp.boottest import nfs_server
from ltsp.boottest.servers import enter_private_network

NAME = "lab"
PASSWORD = "chalkboard"
HASH = "$6$diskless$rYoSUEDQRGw3qDp.zJ7fCqwMpnHrgbVTmfwZtFd0Ia0ax2gda5F07xojd3O83bCFg5y9HRqfE5EhjdVdGJsZ81"
"""Of the password, by `openssl passwd -6`."""
CONSOLE = """\
DEFAULT_IMAGE=lab
MENU_TIMEOUT=500
KERNEL_PARAMETERS="console=tty0 console=ttyS0 quiet"
"""
"""Settings for clients that are typed at from here."""
_EDITION = "usr/local/share"
"""The path in an image that distinguishes its editions."""
LARGE = f"/{_EDITION}/large"
_LARGE_SIZE = 16 << 20


@dataclass(frozen=True)
class Classroom:
    site: Site
    root: Path
    """The root of the system that is installed on clients; never changed."""

    @classmethod
    def make(cls, directory: Path, root: Path) -> Classroom:
        room = cls(Site.make(directory), root)
        room.edition.mkdir()
        return room

    @property
    def edition(self) -> Path:
        """Laid over the root when an image is made."""
        return self.site.home / "edition"

    def new_edition(self) -> bytes:
        """Another large file for the next image."""
        data = secrets.token_bytes(_LARGE_SIZE)
        (self.edition / "large").write_bytes(data)
        return data

    def publish(self, **environment: str) -> None:
        source = f"{self.root},,{self.edition},subdir={_EDITION}"
        fast = ("-m", "-comp zstd -Xcompression-level 1", "--ionice=")
        self.site.ltsp("image", f"--name={NAME}", *fast, source, **environment)

    def configure(self, conf: str, passwd: str = "", group: str = "", **environment: str) -> None:
        """Settings, and the people of the server."""
        self.site.conf.write_text(conf)
        (self.site.conf.parent / "passwd").write_text(passwd)
        (self.site.conf.parent / "group").write_text(group)
        self.site.ltsp("initrd")
        self.site.ltsp("ipxe", **environment)

    @contextmanager
    def open(self, squash: str = "No_Root_Squash", below: str = "images") -> Iterator[None]:
        """Enter the network in which the server exports this directory by NFS and machines can boot."""
        with ExitStack() as started:
            started.enter_context(one_at_a_time())
            started.enter_context(enter_private_network())
            state = self.site.home / "nfs"
            state.mkdir(exist_ok=True)
            started.enter_context(nfs_server.serve_directory(str(self.site.base / below), str(state), squash))
            yield
