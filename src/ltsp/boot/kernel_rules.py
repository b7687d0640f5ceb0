"""Where systems store their kernels and initrds: a table, and the rule of `--kernel-initrd`, which has precedence.

In paths, `<version>` matches the name of a file or directory, or a part of it; if the text begins with a digit, it is
the version. Other wildcards are the shell's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import Final

from ltsp.boot.kernel_header import is_kernel_version
from ltsp.boot.substitution import Substitution, parse_substitutions
from ltsp.errors import UsageError
from ltsp.tree.node import Directory
from ltsp.tree.tree import Tree

VERSION_PLACEHOLDER: Final = "<version>"


class KernelRank(IntEnum):
    """The order in which kernels are considered. Within a rank, the newest version comes first, whatever its rule."""

    CHOSEN = 0
    """Chosen by the user."""
    LIVE = 1
    """Kernels of live media, or copied from one."""
    DEFAULT = 2
    """The system's default kernel, without a version: a link maintained by packages or an administrator."""
    NAMED = 3
    """Kernels with the version in their path."""
    OTHER = 4
    """Kernels of boards, and formats that few loaders can boot."""


@dataclass(frozen=True, slots=True)
class KernelRule:
    """Where a kind of system stores its kernel, and the name of the initrd next to it."""

    system: str
    kernel: str
    """A glob, relative to each of `directories`."""
    initrds: tuple[str, ...] = ()
    """Names in the kernel's directory, with the same `<version>`; the first that resolves to a file is used."""
    directories: tuple[str, ...] = ("", "boot/")
    rank: KernelRank = KernelRank.NAMED
    live: bool = False
    """On a medium whose system, including the modules, may be in a file of its own."""
    unified: bool = False
    """An EFI program that contains kernel and initrd, on FAT, which ignores the case of letters."""
    substitutions: tuple[Substitution, ...] = ()
    """The user's, applied one after another to turn the kernel's path into the initrd's."""

    @classmethod
    def parse(cls, text: str) -> KernelRule:
        """The rule of `--kernel-initrd='GLOB s|OLD|NEW|'`.

        Raises UsageError.
        """
        glob, _, expressions = text.strip().partition(" ")
        if not glob.strip("/"):
            raise UsageError(
                "--kernel-initrd has no pattern for the kernel",
                "for example: --kernel-initrd='live/vmlinuz-* s|vmlinuz|initrd.img|'",
            )
        return cls(
            "--kernel-initrd",
            glob.lstrip("/"),
            directories=("",),
            rank=KernelRank.CHOSEN,
            substitutions=parse_substitutions(expressions),
        )

    @property
    def is_user_rule(self) -> bool:
        return self.rank is KernelRank.CHOSEN

    @property
    def top_directories(self) -> set[str]:
        """First components of the paths to search, possibly globs of the user; empty for the root itself."""
        return {(place + self.kernel).partition("/")[0] for place in self.directories if "/" in place + self.kernel}

    def match(self, component: str, name: str) -> str | None:
        """The text of a name that the `<version>` of a path component matches; empty if the component has none.

        None if the name does not match.
        """
        before, placeholder, after = component.partition(VERSION_PLACEHOLDER)
        glob = f"{before}?*{after}" if placeholder else component
        if not (fnmatchcase(name.lower(), glob.lower()) if self.unified else fnmatchcase(name, glob)):
            return None
        return name[len(before) : len(name) - len(after)] if placeholder else ""

    def initrd_paths(self, path: str, version: str) -> list[str]:
        """Where the initrd of a kernel may be; `version` is the text that `<version>` matched."""
        if self.substitutions:
            initrd = path
            for substitution in self.substitutions:
                initrd = substitution.apply(initrd)
            return [initrd] if initrd != path else []
        directory, slash, _ = path.rpartition("/")
        names = (
            name.replace(VERSION_PLACEHOLDER, version)
            for name in self.initrds
            if version or VERSION_PLACEHOLDER not in name
        )
        return [f"{directory}{slash}{name}" for name in names]


_ESP: Final = ("boot/", "efi/", "boot/efi/")
"""Where the EFI system partition, or XBOOTLDR, is mounted. kernel-install(8), BOOT_ROOT; bootctl(1)"""

KERNEL_RULES: Final = (
    # casper, scripts/casper: the live session of Ubuntu and Mint; lz was its compression until 18.10, gz before that.
    KernelRule("Ubuntu live", "casper/vmlinuz", ("initrd", "initrd.lz", "initrd.gz"), rank=KernelRank.LIVE, live=True),
    # live-build(7), scripts/build/binary_linux-image: with a version if the medium has several kernels.
    KernelRule(
        "Debian live",
        f"live/vmlinuz-{VERSION_PLACEHOLDER}",
        (f"initrd.img-{VERSION_PLACEHOLDER}",),
        rank=KernelRank.LIVE,
        live=True,
    ),
    # The same with one kernel: Clonezilla, GParted live, Kali, Tails.
    KernelRule("Debian live, one kernel", "live/vmlinuz", ("initrd.img", "initrd"), rank=KernelRank.LIVE, live=True),
    # lorax, share/templates.d: media for BIOS, and for all.
    KernelRule("Fedora live", "isolinux/vmlinuz", ("initrd.img",), rank=KernelRank.LIVE, live=True),
    KernelRule("Fedora live and installer", "images/pxeboot/vmlinuz", ("initrd.img",), rank=KernelRank.LIVE, live=True),
    # kiwi-ng, kiwi/bootloader/config/grub2.py: openSUSE, and Fedora since 42.
    KernelRule("openSUSE live", "boot/*/loader/linux", ("initrd",), directories=("",), rank=KernelRank.LIVE, live=True),
    # debian-installer, build/boot/x86: this boots the installer, so it comes last.
    KernelRule("Debian installer", "install.amd/vmlinuz", ("initrd.gz",), rank=KernelRank.LIVE, live=True),
    # linux-update-symlinks(1) of Debian and Ubuntu, the default kernel; openSUSE has such links in /boot.
    KernelRule("the default kernel", "vmlinuz", ("initrd.img", "initrd"), rank=KernelRank.DEFAULT),
    # tinycorelinux.net, corebook.pdf: the system is in core.gz.
    KernelRule("Tiny Core", "vmlinuz", ("core.gz",), rank=KernelRank.DEFAULT, live=True),
    # initramfs-tools(7) of Debian and Ubuntu; dracut(8) of Fedora; mkinitcpio(8) of Arch, whose kernels are named by
    # their package; mkinitfs(1) of Alpine; mkinitrd of openSUSE, and dracut there.
    KernelRule(
        "Debian, Fedora, Arch, Alpine, openSUSE",
        f"vmlinuz-{VERSION_PLACEHOLDER}",
        (
            f"initrd.img-{VERSION_PLACEHOLDER}",
            f"initramfs-{VERSION_PLACEHOLDER}.img",
            f"initramfs-{VERSION_PLACEHOLDER}",
            f"initrd-{VERSION_PLACEHOLDER}",
        ),
    ),
    # installkernel-gentoo, hooks/systemd/90-compat.install
    KernelRule(
        "Gentoo",
        f"kernel-{VERSION_PLACEHOLDER}",
        (f"initramfs-{VERSION_PLACEHOLDER}.img", f"initrd-{VERSION_PLACEHOLDER}"),
    ),
    # kernel-source, rpm/kernel-binary.spec.in: on arm64 and riscv64, and on 32-bit ARM.
    KernelRule("openSUSE on arm64", f"Image-{VERSION_PLACEHOLDER}", (f"initrd-{VERSION_PLACEHOLDER}",)),
    KernelRule("openSUSE on ARM", f"zImage-{VERSION_PLACEHOLDER}", (f"initrd-{VERSION_PLACEHOLDER}",)),
    # redhat/kernel.spec.template of Fedora, mkosi, bootc and ostree (initramfs.img), openSUSE with a merged /usr
    # (initrd), PKGBUILD of Arch's linux: the package has it here, and a hook may copy it to /boot.
    KernelRule(
        "kernel-install", f"lib/modules/{VERSION_PLACEHOLDER}/vmlinuz", ("initramfs.img", "initrd"), directories=("",)
    ),
    KernelRule("openSUSE on arm64", f"lib/modules/{VERSION_PLACEHOLDER}/Image", ("initrd",), directories=("",)),
    KernelRule("openSUSE on ARM", f"lib/modules/{VERSION_PLACEHOLDER}/zImage", ("initrd",), directories=("",)),
    # kernel-install(8), 90-loaderentry.install: the first name is the entry token, by default the machine's ID.
    KernelRule(
        "kernel-install",
        f"*/{VERSION_PLACEHOLDER}/linux",
        ("initrd", f"initrd.img-{VERSION_PLACEHOLDER}", "initramfs.img"),
        directories=_ESP,
    ),
    # installkernel-gentoo, installkernel: INSTALLKERNEL_LAYOUT=efistub.
    KernelRule(
        "Gentoo, EFI stub",
        f"EFI/*/vmlinuz-{VERSION_PLACEHOLDER}.efi",
        (f"initramfs-{VERSION_PLACEHOLDER}.img",),
        directories=_ESP,
    ),
    # uapi-group.org, unified_kernel_image.md and boot_loader_specification.md, type 2.
    KernelRule("unified kernel", "EFI/Linux/*.efi", directories=_ESP, unified=True),
    # kernel-uki-virt of Fedora; uki.efi of Gentoo's gentoo-kernel-bin.
    KernelRule("unified kernel", f"lib/modules/{VERSION_PLACEHOLDER}/*.efi", directories=("",), unified=True),
    # raspi-firmware and flash-kernel(8): Ubuntu for the Raspberry Pi.
    KernelRule(
        "Ubuntu on the Raspberry Pi", "vmlinuz", ("initrd.img",), directories=("boot/firmware/",), rank=KernelRank.OTHER
    ),
    # raspberrypi.com, config.txt, `kernel` and `auto_initramfs`: the only kernels of Raspberry Pi OS before 2023.
    *(
        KernelRule("Raspberry Pi", kernel, (initrd,), directories=("boot/firmware/", "boot/"), rank=KernelRank.OTHER)
        for kernel, initrd in (
            ("kernel8.img", "initramfs8"),
            ("kernel_2712.img", "initramfs_2712"),
            ("kernel7l.img", "initramfs7l"),
            ("kernel7.img", "initramfs7"),
            ("kernel.img", "initramfs"),
        )
    ),
    # Documentation/arch/arm64/booting.rst, arm/booting.rst, x86/boot.rst of Linux; Armbian, Odroid and Buildroot.
    *(
        KernelRule("boards", kernel, ("initrd.img", "initrd", "initrd.gz"), rank=KernelRank.OTHER)
        for kernel in ("Image", "zImage", "Image.gz", "bzImage", "uImage", "kernel", "vmlinux")
    ),
    # Debian on ppc64el and mips; elsewhere this is the file for debuggers, next to the one that boots.
    KernelRule(
        "Debian on ppc64el",
        f"vmlinux-{VERSION_PLACEHOLDER}",
        (f"initrd.img-{VERSION_PLACEHOLDER}",),
        rank=KernelRank.OTHER,
    ),
)
"""Within a rank, earlier rules are preferred among kernels of one version."""

INITRD_PATHS: Final = (
    "boot/initrd.img-<version>",
    "boot/initramfs-<version>.img",
    "boot/initramfs-<version>",
    "boot/initrd-<version>",
    "boot/initrd-<version>.img",
    "initrd.img-<version>",
    "lib/modules/<version>/initramfs.img",
    "lib/modules/<version>/initrd",
)
"""Where the initrd of a version may be if none is next to its kernel: other packages than the kernel's create it.
The sources are those of the rules with these names; `initrd-VERSION.img` is dracut's in RHEL 5."""

INITRD_NAME: Final = re.compile(r"init(?:rd|ramfs)(?:\.img)?-(\d[^/]*?)(?:\.img)?")
"""The name of an initrd with its version."""


def list_kernel_paths(tree: Tree, rule: KernelRule) -> list[str]:
    """All paths that match the rule, in no order."""
    return [path for place in rule.directories for path, _ in expand_rule(tree, rule, place)]


def expand_rule(tree: Tree, rule: KernelRule, place: str) -> list[tuple[str, str]]:
    """The paths below a place that match a rule, each with the text that `<version>` matches, or nothing.

    As in a shell, a wildcard does not match a leading dot.
    """
    found = [("", "")]
    components = [component for component in (place + rule.kernel).split("/") if component]
    for number, component in enumerate(components):
        of_directory = VERSION_PLACEHOLDER in component and number < len(components) - 1
        found = [
            (f"{parent}/{name}".lstrip("/"), matched or version)
            for parent, version in found
            if isinstance(directory := tree.follow(parent), Directory)
            for name in directory.entries
            if component.startswith(".") or not name.startswith(".")
            if (matched := rule.match(component, name)) is not None and (not of_directory or is_kernel_version(matched))
        ]
    return found
