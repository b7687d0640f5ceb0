"""The options of applets that read sources and publish images: `ltsp image` and `ltsp kernel`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ltsp.settings.option import (
    Argument,
    Choice,
    FilePath,
    Flag,
    ImageName,
    Integer,
    Mode,
    OptionGroup,
    Reach,
    Text,
    Words,
    option,
    switch,
)
from ltsp.settings.version_options import VersionedOptions


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
        details="user: the built-in reader, an unprivileged process that mounts nothing. kernel: the kernel mounts "
        "the file systems where no other process sees them; needs root. auto: user first, and as root kernel for what "
        "user cannot read: erofs, f2fs, an xfs or btrfs with a log to replay, unknown features. For the kernel, "
        "volumes that are not contiguous in a raw disk or have a log to replay are copied to TMPDIR or /var/tmp.",
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
        "how long to wait for the source's package manager to finish",
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
        details="Published images are also sources.",
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

    def contradictions(self, operands: int) -> Iterator[str]:
        if self.name and operands != 1:
            yield f"option --name requires exactly one source, but {operands} are given"

    @property
    def boot_transport(self) -> str:
        """The transport of the boot test; empty for no test. NFS needs the least memory."""
        return {"0": "", "1": "nfs"}.get(self.boot_test, self.boot_test)


@dataclass(frozen=True, slots=True)
class ImageOptions(PublishingOptions):
    """ltsp-image(8)"""

    backup: bool = option(
        Flag(),
        "keep the previous image as NAME.img.old",
        default=True,
        short="b",
        details="With 0, an existing NAME.img.old is left alone.",
    )
    cleanup: bool = option(
        Flag(),
        "leave user accounts, identities and secrets out of the image",
        default=True,
        short="c",
        details="The source itself is never changed.",
    )
    ionice: tuple[str, ...] | None = option(
        Words("CMDLINE"),
        "prefix command that gives the build a lower priority",
        default=None,
        default_text="a low-weight systemd scope, else nice ionice -c3",
        short="i",
        details="Split as a shell splits words. An empty value keeps the current priority. If the status of "
        "the command differs from that of the build, as with timeout(1), it is reported and becomes that of ltsp.",
    )
    mksquashfs_params: tuple[str, ...] = option(
        Words("PARAMS"),
        "parameters of mksquashfs(1), such as -comp xz",
        default=(),
        short="m",
        details="Split as a shell splits words. The built-in engine supports -comp, -b, -Xcompression-level, -Xhc, "
        "-Xdict-size as large as the block, -e, -ef, -wildcards, -sort, -all-root, -force-uid, -force-gid, -xattrs, "
        "-no-xattrs, -noappend, -no-recovery, -exit-on-error, -reproducible, -processors, -mem, -quiet, -progress, "
        "-no-progress, -percentage, -info and -info-file. With any other, such as -regex, -noD or -all-time, the real "
        "mksquashfs writes the image, which is slower, unless --engine=own is given.",
    )
    revert: bool = switch(
        "swap the current image and NAME.img.old, including their kernels",
        short="r",
        details="No source is needed; doing it twice restores the initial state. If there is no current image, the old "
        "one is restored.",
    )
    add_image_excludes: str = option(
        Text("LINES"),
        "additional paths to leave out",
        default="",
        group=OptionGroup.CONTENT,
        details="A file of patterns, given as an absolute path, or the patterns themselves, one per line.",
    )
    omit_image_excludes: str = option(
        Text("LINES"),
        "default exclude patterns to disable",
        default="",
        group=OptionGroup.CONTENT,
        details="In the form of --add-image-excludes.",
    )
    add_image_secrets: str = option(
        Text("LINES"), "additional rows for the table of secrets", default="", group=OptionGroup.CONTENT
    )
    omit_image_secrets: str = option(
        Text("LINES"),
        "rows of the table of secrets to disable",
        default="",
        group=OptionGroup.CONTENT,
    )
    recompress: bool = switch(
        "use a published image itself as the source",
        group=OptionGroup.CONTENT,
        details="By default, the source that its manifest records is read again.",
    )
    skip_unreadable: bool | None = option(
        Flag(),
        "skip files that cannot be read, report them, and exit with status 3",
        default=None,
        default_text="0 for root, 1 for others",
        argument=Argument.OPTIONAL,
        group=OptionGroup.CONTENT,
        details="With 0, such a file is an error and nothing is published.",
    )
    all_root: bool = switch(
        "make root the owner of all files in the image",
        group=OptionGroup.CONTENT,
        details="Like -all-root of mksquashfs(1): for a directory that was created without root privileges. Disks and "
        "archives record the owners of their files.",
    )
    xattrs: bool = option(
        Flag(), "keep extended attributes, including capabilities", default=True, group=OptionGroup.CONTENT
    )
    compression: str = option(
        Choice(("auto", "gzip", "zstd", "xz", "lz4", "none")),
        "compression of the image",
        default="auto",
        group=OptionGroup.COMPRESSION,
        details="auto is zstd if the image's kernel supports it, else gzip.",
    )
    preset: str = option(
        Choice(("fast", "balanced", "small")),
        "trade-off between speed and size",
        default="balanced",
        group=OptionGroup.COMPRESSION,
    )
    engine: str = option(
        Choice(("auto", "own", "mksquashfs")),
        "which program writes the squashfs file",
        default="auto",
        group=OptionGroup.COMPRESSION,
        details="auto is the built-in engine, unless --mksquashfs-params needs the real mksquashfs.",
    )
    threads: int = option(
        Integer(maximum=4096),
        "how many processors to use",
        default=0,
        default_text="0, meaning all",
        group=OptionGroup.COMPRESSION,
    )
    sort_file: str | None = option(
        FilePath(),
        "file with sort priorities, one path per line",
        default=None,
        group=OptionGroup.COMPRESSION,
        details="In the format of mksquashfs -sort: files with a higher priority are written first.",
    )
    verify: bool = switch("read back the whole image before publishing it", group=OptionGroup.COMPRESSION)
    image_mode: int | None = option(
        Mode(),
        "permissions of published images",
        default=None,
        default_text="0644, or 0600 with --cleanup=0",
        group=OptionGroup.PUBLISHING,
    )
    image_group: str = option(
        Text("GROUP"),
        "group of published images",
        default="",
        default_text="the group of the user who builds",
        group=OptionGroup.PUBLISHING,
    )
    dry_run: bool = switch(
        "build nothing; list excluded files with sizes, and services that clients will not run",
        reach=Reach.ONCE,
        group=OptionGroup.OUTPUT,
    )
    json: bool = switch("print the summary as JSON", reach=Reach.ONCE, group=OptionGroup.OUTPUT)

    def contradictions(self, operands: int) -> Iterator[str]:
        if self.name and (operands > 1 or not (operands or self.revert)):
            yield f"option --name requires exactly one {'image' if self.revert else 'source'}, but {operands} are given"

    @property
    def builds(self) -> bool:
        """Whether an image is built, which takes long."""
        return not (self.revert or self.dry_run)


@dataclass(frozen=True, slots=True)
class KernelOptions(PublishingOptions):
    """ltsp-kernel(8)"""

    json: bool = switch("print the summary as JSON", reach=Reach.ONCE, group=OptionGroup.OUTPUT)
