"""Options that several applets take: those that change the versions of an image, and those that read sources."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.settings.option import Argument, Choice, FilePath, Integer, OptionGroup, Reach, Words, option, switch


def help_switch() -> bool:
    declared: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)
    return declared


@dataclass(frozen=True, slots=True)
class VersionedOptions:
    """What every applet that changes the versions of an image takes."""

    keep_versions: int = option(
        Integer(least=1),
        "how many versions of an image to keep",
        default=2,
        group=OptionGroup.PUBLISHING,
        details="The current one and the one before count. Pinned versions, those in use and the newest one that is "
        "staged stay besides.",
    )
    keep_days: int = option(
        Integer("DAYS"),
        "for how many days to keep each version",
        default=3,
        group=OptionGroup.PUBLISHING,
        details="Clients that booted from a version go on reading it; this is how long they may run on.",
    )
    keep_share: int = option(
        Integer("PERCENT", most=100),
        "how much of the disk versions may take that only KEEP_DAYS keeps",
        default=25,
        group=OptionGroup.PUBLISHING,
        details="Of the file system that holds the images. The oldest go first; what was let go is said. The current "
        "version, the one before, those of KEEP_VERSIONS, pinned ones and those in use do not count.",
    )
    wait: int = option(
        Integer("SECONDS"),
        "how long to wait for another build of the same image",
        default=0,
        group=OptionGroup.PUBLISHING,
        details="Then the exit status is 75, and the holder of the lock is named.",
    )
    help: bool = help_switch()


@dataclass(frozen=True, slots=True)
class SourceOptions(VersionedOptions):
    """What every applet that reads sources takes."""

    allow_backing: tuple[str, ...] = option(
        Words("DIRECTORIES"),
        "where disks may have their backing files and extents, besides their own directory",
        default=(),
        group=OptionGroup.CONTENT,
    )
    key_file: str | None = option(
        FilePath(),
        "a key to the encrypted volumes (LUKS) of disks",
        default=None,
        group=OptionGroup.CONTENT,
        details="Its whole content is the key, as with cryptsetup(8), which has to be installed: a passphrase in it "
        "must not end with a line feed (`printf %s PASSPHRASE`).",
    )
    force: bool = switch(
        "take a disk that another program writes to",
        reach=Reach.ONCE,
        group=OptionGroup.CONTENT,
        details="What is read of it may make no sense. Otherwise that program is named: a virtual machine that runs.",
    )
    reader: str = option(
        Choice(("auto", "user", "kernel")),
        "who reads the file systems of a disk",
        default="auto",
        group=OptionGroup.CONTENT,
        details="user is our own code, in a process without rights, which mounts nothing. kernel mounts them, where "
        "nobody else sees it, and takes root. auto is user, and kernel for what that cannot read: erofs, f2fs, a log "
        "of xfs or btrfs that has to be replayed, unknown features. What is no plain part of a raw disk, or has a log "
        "to be replayed, is copied for the kernel, to TMPDIR or /var/tmp.",
    )
    snapshot: str = option(
        Choice(("auto", "btrfs", "lvm", "zfs", "none")),
        "read a directory from a snapshot of its file system",
        default="auto",
        group=OptionGroup.CONTENT,
        details="What changes meanwhile is packed as it was, and packages may be installed once the tree is read. "
        "auto takes one where it costs nothing (btrfs, thin volumes of LVM, ZFS) and root asks; lvm takes one of thick "
        "volumes too. It is removed at the end; that of a run that was killed, by the next one.",
    )
    lock_timeout: int = option(
        Integer("SECONDS"),
        "how long to wait for the source's package manager",
        default=120,
        group=OptionGroup.CONTENT,
        details="A source whose packages are being installed is not in a state to be copied.",
    )
