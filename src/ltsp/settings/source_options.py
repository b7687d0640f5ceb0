"""Options shared by several applets: by those that change versions of an image, read sources, and publish versions."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.settings.option import (
    Argument,
    Choice,
    FilePath,
    ImageName,
    Integer,
    OptionGroup,
    Reach,
    Text,
    Words,
    option,
    switch,
)


def help_switch() -> bool:
    declared: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)
    return declared


@dataclass(frozen=True, slots=True)
class VersionedOptions:
    """Options of every applet that changes the versions of an image."""

    keep_versions: int = option(
        Integer(least=1),
        "how many versions of an image to keep",
        default=2,
        group=OptionGroup.PUBLISHING,
        details="Including the current version and the one before. Pinned versions, those in use and the newest staged "
        "one are kept in addition.",
    )
    keep_days: int = option(
        Integer("DAYS"),
        "how many days to keep each version",
        default=3,
        group=OptionGroup.PUBLISHING,
        details="Clients that booted a version keep reading it; this is how long they may stay on.",
    )
    keep_share: int = option(
        Integer("PERCENT", most=100),
        "how much of the disk the versions kept only by KEEP_DAYS may use",
        default=25,
        group=OptionGroup.PUBLISHING,
        details="Percentage of the file system of the images. The oldest versions are removed first, and reported. The "
        "current version, the one before, those of KEEP_VERSIONS, pinned ones and those in use do not count.",
    )
    wait: int = option(
        Integer("SECONDS"),
        "how long to wait for another build of the same image",
        default=0,
        group=OptionGroup.PUBLISHING,
        details="After that, the exit status is 75, and the message names the process that holds the lock.",
    )
    help: bool = help_switch()


@dataclass(frozen=True, slots=True)
class SourceOptions(VersionedOptions):
    """Options of every applet that reads sources."""

    allow_backing: tuple[str, ...] = option(
        Words("DIRECTORIES"),
        "directories that may hold backing files and extents of disks, besides the disk's own",
        default=(),
        group=OptionGroup.CONTENT,
    )
    key_file: str | None = option(
        FilePath(),
        "the key to encrypted volumes (LUKS) of disks",
        default=None,
        group=OptionGroup.CONTENT,
        details="The whole file is the key, as with cryptsetup(8), which must be installed: a passphrase in it must "
        "not end with a newline (`printf %s PASSPHRASE`).",
    )
    force: bool = switch(
        "read a disk even if another program has it open for writing",
        reach=Reach.ONCE,
        group=OptionGroup.CONTENT,
        details="The result may be corrupt. Without this option it is an error that names the program, such as a "
        "running virtual machine.",
    )
    reader: str = option(
        Choice(("auto", "user", "kernel")),
        "how to read the file systems of a disk",
        default="auto",
        group=OptionGroup.CONTENT,
        details="user is the built-in reader, an unprivileged process that mounts nothing. kernel mounts them "
        "privately, and needs root. auto is user, and kernel for what that cannot read: erofs, f2fs, a log of xfs or "
        "btrfs to be replayed, unknown features. A volume that is not one piece of a raw disk, or has a log to be "
        "replayed, is copied to TMPDIR or /var/tmp for the kernel.",
    )
    snapshot: str = option(
        Choice(("auto", "btrfs", "lvm", "zfs", "none")),
        "read a directory from a snapshot of its file system",
        default="auto",
        group=OptionGroup.CONTENT,
        details="Later changes do not get into the image, and packages may be installed as soon as the tree is read. "
        "auto takes a snapshot if that costs nothing (btrfs, thin LVM volumes, ZFS) and root runs it; lvm also takes "
        "one of thick volumes. It is removed at the end, or by the next run if this one is killed. "
        "Snapshots of LVM and ZFS are experimental: they have not been tested on real volumes and pools yet.",
    )
    lock_timeout: int = option(
        Integer("SECONDS"),
        "how long to wait for the source's package manager",
        default=120,
        group=OptionGroup.CONTENT,
        details="While packages are being installed, the source is in an inconsistent state.",
    )


@dataclass(frozen=True, slots=True)
class PublishingOptions(SourceOptions):
    """Options of every applet that publishes versions made from sources."""

    kernel_initrd: str = option(
        Text("GLOB-REGEX"),
        "how to find the kernel in the image, and its initrd",
        default="",
        default_text="the built-in rules",
        short="k",
        details="A glob for the kernel, a space, and a substitution that turns the kernel's path into the initrd's, as "
        "in `live/vmlinuz-* s|vmlinuz|initrd.img|`. It is tried before the built-in rules. `none` publishes an image "
        "without a kernel.",
    )
    name: str | None = option(
        ImageName(),
        "publish under this name",
        default=None,
        default_text="the source's own name",
        reach=Reach.ONCE,
        details="Only with a single source. Up to 64 letters, digits and . _ + -, with a letter or digit first; not "
        "the name of a file in TFTP_DIR/ltsp, and not ending with .img, .ipxe, .old, .lock or .new.",
    )
    all_images: bool = switch(
        "process all images if none is named, even more than three",
        group=OptionGroup.CONTENT,
        details="Exported images are also sources.",
    )
    rpi_image: str = option(
        Text("NAME"),
        "the image that Raspberry Pis boot",
        default="",
        group=OptionGroup.PUBLISHING,
        details="When the kernel of this image is published, the files that their firmware fetches are linked into the "
        "TFTP directory: from NAME/boot/firmware or NAME/boot of a chroot, else from the current version.",
    )
    boot_test: str = option(
        Choice(("0", "1", "nfs", "http", "nbd", "file")),
        "publish a version only after a virtual machine has booted it",
        default="0",
        argument=Argument.OPTIONAL,
        group=OptionGroup.PUBLISHING,
        details="1 is nfs; the others are the transports of ltsp-boottest(8). Until it has booted, and if it fails, "
        "the version is staged: clients still boot the previous one, and `ltsp versions NAME --use=VERSION` publishes "
        "it anyway.",
    )
    no_preflight: bool = switch(
        "publish even if the preflight check fails",
        group=OptionGroup.PUBLISHING,
        details="The check lists features that clients need to boot and the image lacks, with the packages that "
        "provide them, before anything is built.",
    )
    client_drivers: tuple[str, ...] = option(
        Words("NAMES"),
        "network drivers for the clients' initrd",
        default=(),
        default_text="all wired ones",
        group=OptionGroup.PUBLISHING,
        details="Names of modules, as in `r8169 e1000e`, including out-of-tree ones (DKMS, `extra/`). Fewer make a "
        "smaller initrd. Clients do not load modules that the image's modprobe.d blacklists.",
    )
    busybox: str | None = option(
        FilePath(),
        "a static busybox for the clients' initrd",
        default=None,
        default_text="from the image, else from this server",
        group=OptionGroup.PUBLISHING,
    )
    progress: str = option(
        Choice(("auto", "bar", "plain", "json", "none")),
        "how to show progress",
        default="auto",
        group=OptionGroup.OUTPUT,
        details="auto is a bar on a terminal and plain lines elsewhere; json prints one object per line.",
    )
    quiet: bool = switch("print only warnings and errors", short="q", group=OptionGroup.OUTPUT)

    @property
    def boot_transport(self) -> str:
        """The transport of the boot test; empty for no test. NFS needs the least memory."""
        return {"0": "", "1": "nfs"}.get(self.boot_test, self.boot_test)
