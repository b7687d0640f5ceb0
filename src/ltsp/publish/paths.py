"""The paths of one image's files and directories; nothing here reads the disk."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import dirname, join

KERNEL = "vmlinuz"
DISTRO_INITRD = "initrd.img"
"""The initrd that the image's distribution built."""
CLIENT_INITRD = "client.img"
"""The client's initrd, built by ltsp from the image's kernel modules."""
NBD_INITRD = "nbd.img"
"""An additional initrd for clients that boot by NBD."""

DIRECTORY_MODE = 0o711
"""Servers that run as other users can open names, but not list them."""
PUBLIC_MODE = 0o644


def is_initrd(name: str) -> bool:
    """Whether a file of a version is an initrd; a name with a slash is Raspberry Pi firmware."""
    return name != KERNEL and "/" not in name


@dataclass(frozen=True, slots=True)
class ImagePaths:
    name: str
    """Checked by `ltsp.settings.naming`: safe as a file name and as a word of an iPXE script."""
    base_dir: str
    tftp_dir: str

    @property
    def images(self) -> str:
        return join(self.base_dir, "images")

    @property
    def lock(self) -> str:
        return join(self.images, f".{self.name}.lock")

    @property
    def image(self) -> str:
        """NAME.img, the current image under the name that older menus use."""
        return join(self.images, f"{self.name}.img")

    @property
    def old(self) -> str:
        """NAME.img.old, the previous image."""
        return join(self.images, f"{self.name}.img.old")

    @property
    def shared_directories(self) -> tuple[str, ...]:
        """The directories that all images share, each after its parent."""
        versions, boot = dirname(self.versions), dirname(self.boot)
        return self.base_dir.rstrip("/"), self.images, versions, self.tftp_dir.rstrip("/"), boot

    @property
    def versions(self) -> str:
        return join(self.images, ".versions", self.name)

    def version(self, version: str) -> str:
        return join(self.versions, version)

    def version_image(self, version: str) -> str:
        return join(self.versions, version, "image.img")

    def manifest(self, version: str) -> str:
        return join(self.versions, version, "manifest.json")

    def pin(self, version: str) -> str:
        return join(self.versions, version, "pinned")

    def staged(self, version: str) -> str:
        """A marker file: the version is waiting to become current, and never was."""
        return join(self.versions, version, "staged")

    @property
    def boot(self) -> str:
        """The directory that the image's clients fetch from by TFTP."""
        return join(self.tftp_dir, "ltsp", self.name)

    def boot_version(self, version: str) -> str:
        return join(self.boot, version)

    @property
    def pointer(self) -> str:
        return join(self.boot, "boot.ipxe")

    @property
    def current(self) -> str:
        return join(self.boot, "current")

    @property
    def links(self) -> tuple[str, str]:
        """Kernel and initrd of the current version, under the names that older menus use."""
        return join(self.boot, KERNEL), join(self.boot, DISTRO_INITRD)
