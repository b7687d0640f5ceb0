"""The applets of `ltsp` and their options: flags, keys, defaults and help texts are declared only here."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.settings.network_options import (
    BootTestOptions,
    DhcpSnippetOptions,
    DnsmasqOptions,
    HttpOptions,
    InitrdOptions,
    IpxeOptions,
    NfsOptions,
)
from ltsp.settings.option import (
    Argument,
    Choice,
    DirectoryPath,
    FilePath,
    Flag,
    Integer,
    Mode,
    OptionGroup,
    Reach,
    Text,
    Words,
    option,
    switch,
)
from ltsp.settings.source_options import PublishingOptions, VersionedOptions, help_switch


@dataclass(frozen=True, slots=True)
class LtspOptions:
    """Options before the applet, common to all applets. ltsp(8)"""

    base_dir: str = option(
        DirectoryPath(),
        "directory of chroots, virtual machine disks and images",
        default="/srv/ltsp",
        short="b",
        details="DIR/NAME is a chroot, DIR/NAME.img a virtual machine disk, DIR/images/NAME.img an exported image.",
    )
    help: str | None = option(
        Text("APPLET"),
        "print the help of ltsp, or of one applet, and exit",
        default=None,
        short="h",
        argument=Argument.OPTIONAL,
        implied="",
        reach=Reach.ONCE,
    )
    home_dir: str = option(
        DirectoryPath(),
        "directory of users' homes",
        default="/home",
        short="m",
        details="The contents of this directory in a source are left out of the image, unless the site has its own "
        "list.",
    )
    overwrite: bool = option(
        Flag(),
        "overwrite existing configuration files, even manually edited ones",
        default=True,
        short="o",
        argument=Argument.OPTIONAL,
        details="Images and kernels are always replaced; this is about generated configuration files.",
    )
    tftp_dir: str = option(
        DirectoryPath(),
        "directory for the kernels and initrds of clients",
        default="/srv/tftp",
        short="t",
        details="Each image has a directory DIR/ltsp/NAME.",
    )
    version: bool = switch("print the version and exit", short="V", argument=Argument.NONE, reach=Reach.ONCE)


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
        details="Split as a shell splits words. An empty value keeps the current priority. If the command ends with "
        "another status than the build, as timeout(1) may, this is reported, and is the exit status of ltsp.",
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
        "use an exported image itself as the source",
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
        Integer(most=4096),
        "how many processors to use",
        default=0,
        default_text="0, meaning all",
        group=OptionGroup.COMPRESSION,
    )
    sort_file: str | None = option(
        FilePath(),
        "files to put first, with their priorities",
        default=None,
        group=OptionGroup.COMPRESSION,
        details="In the format of mksquashfs -sort.",
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


@dataclass(frozen=True, slots=True)
class KernelOptions(PublishingOptions):
    """ltsp-kernel(8)"""

    json: bool = switch("print the summary as JSON", reach=Reach.ONCE, group=OptionGroup.OUTPUT)


@dataclass(frozen=True, slots=True)
class InfoOptions:
    """ltsp-info(8)"""

    json: bool = switch("print JSON", reach=Reach.ONCE)
    help: bool = help_switch()


def _version_option(summary: str, details: str = "") -> str | None:
    declared: str | None = option(Text("VERSION"), summary, default=None, details=details, reach=Reach.ONCE)
    return declared


def _versions_option(summary: str, details: str = "") -> tuple[str, ...]:
    declared: tuple[str, ...] = option(
        Text("VERSION"), summary, default=(), details=details, reach=Reach.ONCE, repeated=True
    )
    return declared


@dataclass(frozen=True, slots=True)
class VersionsOptions(VersionedOptions):
    """ltsp-versions(8)"""

    use: str | None = _version_option("make this version current")
    pin: tuple[str, ...] = _versions_option("keep this version until it is unpinned; may be given several times")
    unpin: tuple[str, ...] = _versions_option("allow this version to be removed again; may be given several times")
    remove: tuple[str, ...] = _versions_option(
        "remove this version; may be given several times", "The current version and pinned ones cannot be removed."
    )
    prune: bool = switch("remove all versions that do not have to be kept", reach=Reach.ONCE)
    remove_all: bool = switch(
        "remove the named images: all versions, kernels and menu entries",
        reach=Reach.ONCE,
        details="Fails if a version is pinned, in use or not made here; the message says which.",
    )
    force: bool = switch(
        "with --remove-all: also remove versions that are pinned, in use or not made here", reach=Reach.ONCE
    )
    keep: int | None = option(
        Integer(least=1),
        "how many versions --prune keeps",
        default=None,
        default_text="KEEP_VERSIONS",
        reach=Reach.ONCE,
    )
    json: bool = switch("print JSON", reach=Reach.ONCE)

    @property
    def removes(self) -> bool:
        return bool(self.remove) or self.prune or self.remove_all

    @property
    def has_actions(self) -> bool:
        """Whether anything changes before the versions are listed."""
        return bool(self.use or self.pin or self.unpin) or self.removes


@dataclass(frozen=True, slots=True)
class Applet:
    name: str
    options: type
    summary: str
    operands: str
    """As the synopsis shows them."""


APPLETS = {
    applet.name: applet
    for applet in (
        Applet("boottest", BootTestOptions, "boot an image in a virtual machine and report the result", "IMAGE"),
        Applet("dhcp-snippet", DhcpSnippetOptions, "print settings for an existing DHCP server", "KIND"),
        Applet("dnsmasq", DnsmasqOptions, "configure dnsmasq to boot clients from this server", ""),
        Applet("http", HttpOptions, "serve kernels, initrds and images over HTTP", ""),
        Applet("image", ImageOptions, "generate a squashfs image from an image source", "[IMAGE]..."),
        Applet("info", InfoOptions, "show sources, images and what clients boot", ""),
        Applet("initrd", InitrdOptions, "generate the add-on initrd with the clients' settings", ""),
        Applet("ipxe", IpxeOptions, "generate the boot menu of clients", ""),
        Applet("kernel", KernelOptions, "publish the kernel and initrd of an image or chroot", "[IMAGE]..."),
        Applet("nfs", NfsOptions, "export images to clients", ""),
        Applet("versions", VersionsOptions, "list, select, pin and remove versions of images", "[IMAGE]..."),
    )
}
