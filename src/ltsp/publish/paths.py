"""Where the parts of one image lie, as paths; nothing here looks at the disk."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import dirname, join

KERNEL = "vmlinuz"
INITRD = "initrd.img"
"""The image's own."""
CLIENT = "client.img"
"""The initrd that we made of the image's modules."""
NBD = "nbd.img"
"""What clients that boot by NBD need besides."""

DIRECTORY_MODE = 0o711
"""Names can be used but not listed by servers that run as other users."""
PUBLIC_MODE = 0o644


def is_initrd(name: str) -> bool:
    """Whether a file of a version, by its name there, is an initrd. What has a slash is of Raspberry Pis' firmware."""
    return name != KERNEL and "/" not in name


@dataclass(frozen=True, slots=True)
class ImagePaths:
    name: str
    """Checked by `ltsp.settings.image_name`: safe as a file name and as a word of an iPXE script."""
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
        """NAME.img, the current image under the name that older menus know."""
        return join(self.images, f"{self.name}.img")

    @property
    def old(self) -> str:
        """NAME.img.old, the one before."""
        return join(self.images, f"{self.name}.img.old")

    @property
    def shared(self) -> tuple[str, ...]:
        """The directories that all images share, each after the one that holds it."""
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
        """A mark: the version waits to become current, and never was."""
        return join(self.versions, version, "staged")

    @property
    def boot(self) -> str:
        """What the image's clients fetch by TFTP."""
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
        """Kernel and initrd of the current version, under the names that older menus know."""
        return join(self.boot, KERNEL), join(self.boot, INITRD)
