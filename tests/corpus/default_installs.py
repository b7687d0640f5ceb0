"""Disks as the installers of distributions partition them: their tables, fstabs, file system features and LVM.

The system on them is small. Sizes are not those of an installer, which makes partitions of gigabytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from corpus import disk_layouts, file_systems
from corpus.file_systems import MIB, Shape

ESP = "C0DE-0EF1"
ROOT, BOOT, OTHER = (str(UUID(int=os.getpid() << 64 | number, version=4)) for number in range(3))
"""Of file systems: no two that are mounted at once may have the same, whatever test they are of."""

_DEBIAN_12 = ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "metadata_csum,64bit")
_DEBIAN_13 = (*_DEBIAN_12, "-O", "orphan_file,metadata_csum_seed")
_EXT2 = ("mke2fs", "-q", "-F", "-t", "ext2")
_XFS = ("mkfs.xfs", "-q", "-f", "--unsupported", "-m", "bigtime=1,inobtcount=1,reflink=1")
_BTRFS = ("mkfs.btrfs", "-q", "-f")


@dataclass(frozen=True, slots=True)
class Install:
    release: str
    """Its os-release(5)."""
    make: Callable[[Path, Path], Path]
    """From a system and a directory of its own to the disk; what it lacks of the system is taken out of that."""
    root: str
    """Where `ltsp image` finds the system."""
    parts: Sequence[str]
    """What it takes in besides, by what the fstab says."""
    fstab: str
    empty: Sequence[str] = ("home",)
    """Directories on file systems of their own, which hold no part of the system."""
    whole: bool = False
    """Whether a whole image is built of it in each run of the tests."""


def _release(name: str, identity: str) -> str:
    return f'PRETTY_NAME="{name}"\nID={identity}\n'


def _volume(mkfs: Sequence[str], uuid: str, tree: Path, image: Path, **more: str) -> Path:
    kind = mkfs[0]
    words = {"mke2fs": ("-U", uuid), "mkfs.xfs": ("-m", f"uuid={uuid}"), "mkfs.btrfs": ("-U", uuid)}[kind]
    least = 32 if kind == "mke2fs" else 128
    shape = replace(Shape((*mkfs, *words), least=least), **more)
    return file_systems.made(shape, tree, image, file_systems.room(tree))


def _apart(system: Path, directory: str, at: Path) -> Path:
    """What is in a directory of the system, which is left empty; with the metadata of that directory."""
    target = at / f"apart-{directory.replace('/', '-')}"
    subprocess.run(["cp", "-a", system / directory, target], check=True)
    for entry in (system / directory).iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    return target


def _esp(system: Path, at: Path) -> Path:
    """The EFI system partition: what is in boot/efi, as FAT32, of which the least is some 33 MiB."""
    tree, image = _apart(system, "boot/efi", at), at / "esp"
    words = ["mkfs.vfat", "-C", "-F", "32", "-s", "1", "-i", ESP.replace("-", ""), image, str(36 << 10)]
    subprocess.run(words, check=True, capture_output=True)
    subprocess.run(["mcopy", "-s", "-m", "-i", image, tree / "EFI", "::"], check=True)
    return image


def _disk(at: Path, label: str, parts: Sequence[tuple[str, Path | int]]) -> tuple[Path, list[tuple[int, int]]]:
    """A disk with these partitions, of what sfdisk calls a type, and where each of them lies, in bytes.

    A partition of the type `extended` holds all that follow.
    """
    sizes = [part if isinstance(part, int) else disk_layouts.megabytes(part) for _, part in parts]
    disk = disk_layouts.sparse(at / "disk.raw", (sum(sizes) + 2 * len(sizes) + 4) * MIB)
    lines, places, start = [], [], 1
    for number, ((kind, _), size) in enumerate(zip(parts, sizes, strict=True)):
        if kind == "extended":
            size = sum(sizes[number + 1 :]) + len(sizes[number + 1 :]) + 1  # noqa: PLW2901 - of all that are in it
        lines.append(f"start={start}MiB, size={size}MiB, type={'5' if kind == 'extended' else kind}")
        places.append((start * MIB, size * MIB))
        start += 1 if kind == "extended" else size + 1
    disk_layouts.table(disk, label, lines)
    for (_, part), (place, _size) in zip(parts, places, strict=True):
        if isinstance(part, Path):
            disk_layouts.put(part, disk, place)
    return disk, places


def _grouped(disk: Path, place: tuple[int, int], group: str, volumes: Mapping[str, Path | int]) -> None:
    """Logical volumes on a partition, with what is to be in them."""

    def commands(lvm: disk_layouts.Lvm, _devices: list[str]) -> None:
        for name, part in volumes.items():
            size = part if isinstance(part, int) else disk_layouts.megabytes(part)
            lvm("lvcreate", "-q", "-an", "-Zn", "-Wn", "-n", name, "-L", f"{size}m", group)

    segments = disk_layouts.volume_group(disk, [place], group, commands)
    for name, part in volumes.items():
        if isinstance(part, Path):
            disk_layouts.put_volume(part, disk, segments[name])


def _debian_plain(system: Path, at: Path) -> Path:
    return _disk(at, "dos", [("83", _volume(_DEBIAN_12, ROOT, system, at / "root")), ("extended", 0), ("82", 4)])[0]


def _debian_plain_uefi(system: Path, at: Path) -> Path:
    esp = _esp(system, at)
    root = _volume(_DEBIAN_12, ROOT, system, at / "root")
    return _disk(at, "gpt", [("uefi", esp), ("linux", root), ("swap", 4)])[0]


def _debian_lvm(system: Path, at: Path) -> Path:
    boot = _volume(_EXT2, BOOT, _apart(system, "boot", at), at / "boot")
    root = _volume(_DEBIAN_12, ROOT, system, at / "root")
    disk, places = _disk(at, "dos", [("83", boot), ("extended", 0), ("8e", disk_layouts.megabytes(root) + 16)])
    _grouped(disk, places[2], "debian-vg", {"root": root, "swap_1": 4})
    return disk


def _debian_lvm_uefi(system: Path, at: Path) -> Path:
    esp = _esp(system, at)
    boot = _volume(_DEBIAN_13, BOOT, _apart(system, "boot", at), at / "boot")
    var = _volume(_DEBIAN_13, OTHER, _apart(system, "var", at), at / "var")
    root = _volume(_DEBIAN_13, ROOT, system, at / "root")
    size = disk_layouts.megabytes(root) + disk_layouts.megabytes(var) + 16
    disk, places = _disk(at, "gpt", [("uefi", esp), ("linux", boot), ("lvm", size)])
    _grouped(disk, places[2], "lab-vg", {"root": root, "var": var, "swap_1": 4})
    return disk


def _debian_btrfs(system: Path, at: Path) -> Path:
    esp = _esp(system, at)
    root = _volume(_BTRFS, ROOT, system, at / "root", inside="@rootfs", before='btrfs -q subvolume create "$at"')
    return _disk(at, "gpt", [("uefi", esp), ("linux", root), ("swap", 4)])[0]


_BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"


def _ubuntu_server(mkfs: Sequence[str]) -> Callable[[Path, Path], Path]:
    def make(system: Path, at: Path) -> Path:
        boot = _volume(_DEBIAN_12, BOOT, _apart(system, "boot", at), at / "boot")
        root = _volume(mkfs, ROOT, system, at / "root")
        parts = [(_BIOS_BOOT, 1), ("linux", boot), ("lvm", disk_layouts.megabytes(root) + 16)]
        disk, places = _disk(at, "gpt", parts)
        _grouped(disk, places[2], "ubuntu-vg", {"ubuntu-lv": root})
        return disk

    return make


def _fedora(system: Path, at: Path) -> Path:
    esp = _esp(system, at)
    boot = _volume(_DEBIAN_12, BOOT, _apart(system, "boot", at), at / "boot")
    home = _apart(system, "home", at)
    root = _volume(
        _BTRFS,
        ROOT,
        system,
        at / "root",
        options="compress=zstd:1",
        inside="root",
        before='btrfs -q subvolume create "$2/home"; btrfs -q subvolume create "$at"',
        after=f'cp -a "{home}/." "$2/home"',
    )
    return _disk(at, "gpt", [("uefi", esp), ("linux", boot), ("linux", root)])[0]


def _rhel(system: Path, at: Path) -> Path:
    esp = _esp(system, at)
    boot = _volume(_XFS, BOOT, _apart(system, "boot", at), at / "boot")
    home = _volume(_XFS, OTHER, _apart(system, "home", at), at / "home")
    root = _volume(_XFS, ROOT, system, at / "root")
    size = disk_layouts.megabytes(root) + disk_layouts.megabytes(home) + 16
    disk, places = _disk(at, "gpt", [("uefi", esp), ("linux", boot), ("lvm", size)])
    _grouped(disk, places[2], "rl", {"root": root, "swap": 4, "home": home})
    return disk


_SUSE_PARTS = ("var", "usr/local", "srv", "opt", "root", "home", "boot/grub2/x86_64-efi", "boot/grub2/i386-pc")


def _suse(system: Path, at: Path) -> Path:
    """The root is a snapshot, which can be gone back from; other directories, which then stay, are subvolumes."""
    esp = _esp(system, at)
    before = """
        btrfs -q subvolume create "$2/@"
        mkdir -p "$2/@/usr" "$2/@/boot/grub2"
        for each in $PARTS .snapshots; do btrfs -q subvolume create "$2/@/$each"; done
        mkdir "$2/@/.snapshots/1" "$2/@/.snapshots/2"
        btrfs -q subvolume create "$at"
        btrfs -q subvolume set-default "$at"
    """
    after = """
        for each in $PARTS; do
            cp -a "$at/$each/." "$2/@/$each"
            find "$at/$each" -mindepth 1 -delete
        done
        btrfs -q subvolume snapshot -r "$at" "$2/@/.snapshots/2/snapshot"
    """
    root = _volume(
        _BTRFS,
        ROOT,
        system,
        at / "root",
        inside="@/.snapshots/1/snapshot",
        before=before.replace("$PARTS", " ".join(_SUSE_PARTS)),
        after=after.replace("$PARTS", " ".join(_SUSE_PARTS)),
    )
    return _disk(at, "gpt", [("uefi", esp), ("linux", root), ("swap", 4)])[0]


_EFI_OF_DEBIAN = f"UUID={ESP}  /boot/efi       vfat    umask=0077      0       1\n"
_SWAP = "UUID=99999999-2222-4333-8444-555555555509 none            swap    sw              0       0\n"
_DEBIAN_HEADER = """\
# /etc/fstab: static file system information.
#
# <file system> <mount point>   <type>  <options>       <dump>  <pass>
"""
_DEBIAN_ROOT = f"# / was on /dev/vda1 during installation\nUUID={ROOT} /               ext4    errors=remount-ro 0 1\n"

INSTALLS: dict[str, Install] = {
    "Debian, guided, BIOS": Install(
        _release("Debian GNU/Linux 12 (bookworm)", "debian"),
        _debian_plain,
        "ext4 on partition 1",
        (),
        f"{_DEBIAN_HEADER}{_DEBIAN_ROOT}{_SWAP}/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto 0 0\n",
        empty=(),
    ),
    "Debian, guided, UEFI": Install(
        _release("Debian GNU/Linux 12 (bookworm)", "debian"),
        _debian_plain_uefi,
        "ext4 on partition 2",
        ("boot/efi",),
        _DEBIAN_HEADER + _DEBIAN_ROOT + _EFI_OF_DEBIAN + _SWAP,
        empty=(),
    ),
    "Debian, guided with LVM, BIOS": Install(
        _release("Debian GNU/Linux 12 (bookworm)", "debian"),
        _debian_lvm,
        "ext4 on debian-vg/root",
        ("boot",),
        _DEBIAN_HEADER
        + "/dev/mapper/debian--vg-root /               ext4    errors=remount-ro 0       1\n"
        + f"# /boot was on /dev/sda1 during installation\nUUID={BOOT} /boot           ext2    defaults        0 2\n"
        + "/dev/mapper/debian--vg-swap_1 none            swap    sw              0       0\n",
        empty=(),
        whole=True,
    ),
    "Debian 13, guided with LVM and /var, UEFI": Install(
        _release("Debian GNU/Linux 13 (trixie)", "debian"),
        _debian_lvm_uefi,
        "ext4 on lab-vg/root",
        ("boot", "boot/efi", "var"),
        _DEBIAN_HEADER
        + "/dev/mapper/lab--vg-root /               ext4    errors=remount-ro 0       1\n"
        + f"UUID={BOOT} /boot           ext4    defaults        0       2\n{_EFI_OF_DEBIAN}"
        + "/dev/mapper/lab--vg-var /var            ext4    defaults        0       2\n"
        + "/dev/mapper/lab--vg-swap_1 none            swap    sw              0       0\n",
        empty=(),
    ),
    "Debian 13 with btrfs": Install(
        _release("Debian GNU/Linux 13 (trixie)", "debian"),
        _debian_btrfs,
        "btrfs on partition 2, subvolume @rootfs",
        ("boot/efi",),
        f"{_DEBIAN_HEADER}UUID={ROOT} / btrfs defaults,subvol=@rootfs 0 0\n{_EFI_OF_DEBIAN}{_SWAP}",
        empty=(),
    ),
    "Ubuntu Server": Install(
        _release("Ubuntu 24.04.1 LTS", "ubuntu"),
        _ubuntu_server(_DEBIAN_12),
        "ext4 on ubuntu-vg/ubuntu-lv",
        ("boot",),
        _DEBIAN_HEADER
        + f"/dev/disk/by-id/dm-uuid-LVM-{'x' * 64} / ext4 defaults 0 1\n"
        + f"# /boot was on /dev/vda2 during curtin installation\n/dev/disk/by-uuid/{BOOT} /boot ext4 defaults 0 1\n"
        + "/swap.img\tnone\tswap\tsw\t0\t0\n",
        empty=(),
        whole=True,
    ),
    "Ubuntu Server with xfs": Install(
        _release("Ubuntu 24.04.1 LTS", "ubuntu"),
        _ubuntu_server(_XFS),
        "xfs on ubuntu-vg/ubuntu-lv",
        ("boot",),
        f"/dev/ubuntu-vg/ubuntu-lv / xfs defaults 0 1\n/dev/disk/by-uuid/{BOOT} /boot ext4 defaults 0 1\n",
        empty=(),
    ),
    "Ubuntu Desktop": Install(
        _release("Ubuntu 24.04.1 LTS", "ubuntu"),
        _debian_plain_uefi,
        "ext4 on partition 2",
        ("boot/efi",),
        f"{_DEBIAN_HEADER}/dev/disk/by-uuid/{ROOT} / ext4 defaults 0 1\n"
        f"/dev/disk/by-uuid/{ESP} /boot/efi vfat defaults 0 1\n/swap.img\tnone\tswap\tsw\t0\t0\n",
        empty=(),
    ),
    "Fedora Workstation": Install(
        _release("Fedora Linux 41 (Workstation Edition)", "fedora"),
        _fedora,
        "btrfs on partition 3, subvolume root",
        ("boot", "boot/efi"),
        f"UUID={ROOT} /                       btrfs   subvol=root,compress=zstd:1 0 0\n"
        f"UUID={BOOT} /boot                   ext4    defaults        1 2\n"
        f"UUID={ESP}          /boot/efi               vfat    umask=0077,shortname=winnt 0 2\n"
        f"UUID={ROOT} /home                   btrfs   subvol=home,compress=zstd:1 0 0\n",
        whole=True,
    ),
    "Rocky Linux": Install(
        _release("Rocky Linux 9.5 (Blue Onyx)", "rocky") + 'ID_LIKE="rhel centos fedora"\n',
        _rhel,
        "xfs on rl/root",
        ("boot", "boot/efi"),
        "/dev/mapper/rl-root     /                       xfs     defaults        0 0\n"
        f"UUID={BOOT} /boot                   xfs     defaults        0 0\n"
        f"UUID={ESP}          /boot/efi               vfat    umask=0077,shortname=winnt 0 2\n"
        "/dev/mapper/rl-home     /home                   xfs     defaults        0 0\n"
        "/dev/mapper/rl-swap     none                    swap    defaults        0 0\n",
    ),
    "openSUSE": Install(
        _release("openSUSE Tumbleweed", "opensuse-tumbleweed"),
        _suse,
        "btrfs on partition 2",
        ("boot/efi", "boot/grub2/i386-pc", "boot/grub2/x86_64-efi", "opt", "usr/local", "var"),
        f"UUID={ROOT}  /                       btrfs  defaults                      0  0\n"
        + "".join(
            f"UUID={ROOT}  /{each:<22}  btrfs  subvol=/@/{each:<21}  0  0\n" for each in (*_SUSE_PARTS, ".snapshots")
        )
        + f"UUID={ESP}                             /boot/efi               vfat   utf8                          0  2\n",
        empty=("home", "srv", "root"),
    ),
}
