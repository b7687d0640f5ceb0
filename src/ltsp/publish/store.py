"""The images of a server: their names and states, which anyone may read, and the way to change one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from os.path import join
from typing import TYPE_CHECKING

from ltsp.host import files
from ltsp.publish import state as states
from ltsp.publish.paths import ImagePaths
from ltsp.publish.state import ImageState
from ltsp.publish.version import Version
from ltsp.settings import naming

if TYPE_CHECKING:
    from ltsp.publish.locked_image import LockedImage


@dataclass(frozen=True, slots=True)
class Store:
    base_dir: str
    tftp_dir: str

    def paths(self, name: str) -> ImagePaths:
        """Raises UsageError if the name is not a valid image name."""
        return ImagePaths(naming.check_name(name), self.base_dir, self.tftp_dir)

    def names(self) -> list[str]:
        """Every name that has a published image, a version, or a kernel of its own."""
        exported = files.list_names(join(self.base_dir, "images"))
        found = {name.removesuffix(".old").removesuffix(".img") for name in exported if name.endswith((".img", ".old"))}
        found.update(files.list_names(join(self.base_dir, "images", ".versions")))
        found.update(files.list_names(join(self.tftp_dir, "ltsp")))
        return sorted(name for name in found if not naming.find_fault(name) and self.state(name).exists)

    def state(self, name: str) -> ImageState:
        """The state of an image, read without its lock."""
        return states.read_state(self.paths(name))

    def versions(self, name: str) -> tuple[Version, ...]:
        """The complete ones, oldest first."""
        return self.state(name).versions

    def current(self, name: str) -> Version | None:
        """The version that the menu boots."""
        return self.state(name).current

    def locked(self, name: str, wait: float = 0) -> AbstractContextManager[LockedImage]:
        """Lock an image, which is the only way to change it, as `lock_image` does.

        Raises UsageError if the name is not a valid image name, and what `lock_image` raises.
        """
        from ltsp.publish.locked_image import lock_image  # noqa: PLC0415 -- most of this part; readers do without

        return lock_image(self.paths(name), wait)
