"""A site with a published image that clients can boot from its menu, made once for all workers of a test run."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path

from corpus.site import Site
from ltsp.publish.store import Store
from ltsp.publish.version import Version
from ltsp.settings.applets import LtspOptions

NAME = "lab"


@dataclass(frozen=True)
class Bootable:
    site: Site

    @property
    def places(self) -> LtspOptions:
        return LtspOptions(
            base_dir=str(self.site.base), tftp_dir=str(self.site.tftp), home_dir=str(self.site.home / "home")
        )

    @property
    def store(self) -> Store:
        return Store(str(self.site.base), str(self.site.tftp))

    @property
    def current(self) -> Version:
        version = self.store.current(NAME)
        assert version is not None
        return version


def published(root: Path, shared: Path) -> Bootable:
    """The site with an image of the root; `shared` is a directory of all workers."""
    directory = shared / "bootable"
    with (shared / "bootable.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            site = Site.make(directory)
            (site.conf.parent / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
            (site.conf.parent / "group").write_text("root:x:0:\n")
            fast = ("-m", "-comp zstd -Xcompression-level 1", "--ionice=")
            site.ltsp("image", f"--name={NAME}", *fast, str(root))
            site.ltsp("initrd")
            site.ltsp("ipxe")
    return Bootable(Site.at(directory))
