"""The applets of `ltsp` and their options: the one place that names flags, keys, defaults and what they mean."""

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
from ltsp.settings.source_options import SourceOptions, VersionedOptions, help_switch


@dataclass(frozen=True, slots=True)
class LtspOptions:
    """What stands before the applet and holds for all of them. ltsp(8)"""

    base_dir: str = option(
        DirectoryPath(),
        "where chroots, virtual machine disks and images lie",
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
        "where the homes of users lie",
        default="/home",
        short="m",
        details="What is in that directory of a source stays out of the image, unless the site has its own list.",
    )
    overwrite: bool = option(
        Flag(),
        "replace existing files, those of the administrator too",
        default=True,
        short="o",
        argument=Argument.OPTIONAL,
        details="Images and kernels are replaced in any case; this is about generated configuration.",
    )
    tftp_dir: str = option(
        DirectoryPath(),
        "where kernels and initrds for the clients go",
        default="/srv/tftp",
        short="t",
        details="Each image has its directory DIR/ltsp/NAME.",
    )
    version: bool = switch("print the version and exit", short="V", argument=Argument.NONE, reach=Reach.ONCE)


@dataclass(frozen=True, slots=True)
class _PublishingOptions(SourceOptions):
    """What every applet that publishes a generation takes."""

    kernel_initrd: str = option(
        Text("GLOB-REGEX"),
        "how to find the kernel in the image and name its initrd",
        default="",
        default_text="the built-in rules",
        short="k",
        details="A glob for the kernel, a space, and a substitution that makes the initrd's path of the kernel's, as "
        "in `live/vmlinuz-* s|vmlinuz|initrd.img|`. It comes before the built-in rules. `none` publishes an image "
        "without a kernel.",
    )
    name: str | None = option(
        ImageName(),
        "publish under this name",
        default=None,
        default_text="the source's own name",
        reach=Reach.ONCE,
        details="Only with a single source. Letters, digits and . _ + -, at most 64, a letter or digit first; not the "
        "name of a file in TFTP_DIR/ltsp, and not .img, .ipxe, .old, .lock or .new at the end.",
    )
    all_images: bool = switch(
        "take all images when none is named, even more than three",
        group=OptionGroup.CONTENT,
        details="Exported images count as sources too.",
    )
    rpi_image: str = option(
        Text("NAME"),
        "the image whose boot directory Raspberry Pis are served",
        default="",
        group=OptionGroup.PUBLISHING,
        details="What their firmware fetches is linked into the TFTP directory when that image's kernel is published: "
        "the files of NAME/boot/firmware or NAME/boot of a chroot, else those of the image's current version.",
    )
    boot_test: str = option(
        Choice(("0", "1", "nfs", "http", "nbd", "file")),
        "publish a version only after a virtual machine has booted it",
        default="0",
        argument=Argument.OPTIONAL,
        group=OptionGroup.PUBLISHING,
        details="1 is nfs; the others are what ltsp-boottest(8) knows. Until it has booted, and where it does not, the "
        "version is staged: clients go on booting the one before, and `ltsp versions NAME --use=VERSION` publishes it "
        "all the same.",
    )
    no_preflight: bool = switch(
        "publish what no client could boot, too",
        group=OptionGroup.PUBLISHING,
        details="Otherwise what its kernel lacks is named, with the package that brings it, before anything is built.",
    )
    client_drivers: tuple[str, ...] = option(
        Words("NAMES"),
        "network drivers for the initrd of clients",
        default=(),
        default_text="all of cards with a wire",
        group=OptionGroup.PUBLISHING,
        details="Names of modules, as in `r8169 e1000e`, also of those that were added to the kernel (DKMS, `extra/`). "
        "Fewer make a smaller initrd. What the image's modprobe.d keeps from being loaded, clients do not load.",
    )
    busybox: str | None = option(
        FilePath(),
        "a static busybox for the initrd of clients",
        default=None,
        default_text="that of the image, else of this server",
        group=OptionGroup.PUBLISHING,
    )
    progress: str = option(
        Choice(("auto", "bar", "plain", "json", "none")),
        "how to tell of progress",
        default="auto",
        group=OptionGroup.OUTPUT,
        details="auto is a bar on a terminal and plain lines elsewhere; json is one object a line.",
    )
    quiet: bool = switch("print warnings and errors only", short="q", group=OptionGroup.OUTPUT)

    @property
    def boot_transport(self) -> str:
        """How a version has to boot first; empty where it need not. NFS asks least of a client's memory."""
        return {"0": "", "1": "nfs"}.get(self.boot_test, self.boot_test)


@dataclass(frozen=True, slots=True)
class ImageOptions(_PublishingOptions):
    """ltsp-image(8)"""

    backup: bool = option(
        Flag(),
        "keep the image that is replaced as NAME.img.old",
        default=True,
        short="b",
        details="With 0, an existing NAME.img.old stays as it is.",
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
        default_text="a systemd scope of low weight, else nice ionice -c3",
        short="i",
        details="Split as a shell splits words. An empty value keeps the priority as it is. Where the command ends "
        "otherwise than the build, as timeout(1) may, it is named with its status, which is ours then.",
    )
    mksquashfs_params: tuple[str, ...] = option(
        Words("PARAMS"),
        "parameters of mksquashfs(1), such as -comp xz",
        default=(),
        short="m",
        details="Split as a shell splits words. Parameters that the built-in engine does not know make the real "
        "mksquashfs write the image, unless --engine=own.",
    )
    revert: bool = switch(
        "exchange the current image and NAME.img.old, kernel included",
        short="r",
        details="No source is needed, and doing it twice is doing nothing. If there is no current image, the old one "
        "is brought back.",
    )
    add_image_excludes: str = option(
        Text("LINES"),
        "more paths to leave out",
        default="",
        group=OptionGroup.CONTENT,
        details="An absolute path names a file of patterns; anything else is patterns itself, one a line.",
    )
    omit_image_excludes: str = option(
        Text("LINES"),
        "lines of the list of excluded paths that do not hold",
        default="",
        group=OptionGroup.CONTENT,
        details="Written as for --add-image-excludes.",
    )
    add_image_secrets: str = option(
        Text("LINES"), "more rows for the table of secrets", default="", group=OptionGroup.CONTENT
    )
    omit_image_secrets: str = option(
        Text("LINES"),
        "rows of the table of secrets that do not hold",
        default="",
        group=OptionGroup.CONTENT,
    )
    recompress: bool = switch(
        "take an exported image as its own source",
        group=OptionGroup.CONTENT,
        details="Otherwise the source that its manifest records is read again.",
    )
    skip_unreadable: bool | None = option(
        Flag(),
        "leave out files that cannot be read, name them, and exit 3",
        default=None,
        default_text="0 for root, 1 for others",
        argument=Argument.OPTIONAL,
        group=OptionGroup.CONTENT,
        details="With 0, such a file ends the build and nothing is published.",
    )
    all_root: bool = switch(
        "give all files in the image to root",
        group=OptionGroup.CONTENT,
        details="As -all-root of mksquashfs(1): for a tree that was made without privileges, whose files belong to who "
        "made it. Disks and archives say themselves whom their files belong to.",
    )
    xattrs: bool = option(Flag(), "keep extended attributes, capabilities too", default=True, group=OptionGroup.CONTENT)
    compression: str = option(
        Choice(("auto", "gzip", "zstd", "xz", "lz4", "none")),
        "how to compress",
        default="auto",
        group=OptionGroup.COMPRESSION,
        details="auto is zstd where the image's own kernel reads it, and gzip elsewhere.",
    )
    preset: str = option(
        Choice(("fast", "balanced", "small")),
        "what the compressor aims for",
        default="balanced",
        group=OptionGroup.COMPRESSION,
    )
    engine: str = option(
        Choice(("auto", "own", "mksquashfs")),
        "who writes the squashfs file",
        default="auto",
        group=OptionGroup.COMPRESSION,
        details="auto is the built-in engine, unless --mksquashfs-params names something that only mksquashfs does.",
    )
    threads: int = option(
        Integer(most=4096),
        "how many processors to use",
        default=0,
        default_text="0, which is all",
        group=OptionGroup.COMPRESSION,
    )
    sort_file: str | None = option(
        FilePath(),
        "files to put first, with their priorities",
        default=None,
        group=OptionGroup.COMPRESSION,
        details="The format is that of mksquashfs -sort.",
    )
    verify: bool = switch("read the whole image back before it is published", group=OptionGroup.COMPRESSION)
    image_mode: int | None = option(
        Mode(),
        "permissions of published images",
        default=None,
        default_text="0644, and 0600 with --cleanup=0",
        group=OptionGroup.PUBLISHING,
    )
    image_group: str = option(
        Text("GROUP"),
        "group of published images",
        default="",
        default_text="that of the builder",
        group=OptionGroup.PUBLISHING,
    )
    dry_run: bool = switch(
        "build nothing; list what would be left out, with sizes, and what clients will not run",
        reach=Reach.ONCE,
        group=OptionGroup.OUTPUT,
    )
    json: bool = switch("print the summary as JSON", reach=Reach.ONCE, group=OptionGroup.OUTPUT)


@dataclass(frozen=True, slots=True)
class KernelOptions(_PublishingOptions):
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

    use: str | None = _version_option("make this version the current one")
    pin: tuple[str, ...] = _versions_option("keep this version until it is unpinned; may be given several times")
    unpin: tuple[str, ...] = _versions_option("let this version be collected again; may be given several times")
    remove: tuple[str, ...] = _versions_option(
        "remove this version; may be given several times", "The current version and pinned ones are not removed."
    )
    prune: bool = switch("remove all versions that need not be kept", reach=Reach.ONCE)
    remove_all: bool = switch(
        "remove the images named: all versions, kernels and entries of the menu",
        reach=Reach.ONCE,
        details="Refused where a version is pinned, in use or not made here; the message says which.",
    )
    force: bool = switch("with --remove-all: remove what is pinned, in use or not made here too", reach=Reach.ONCE)
    keep: int | None = option(
        Integer(least=1),
        "how many versions --prune leaves",
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
        """Whether anything is changed before the versions are listed."""
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
        Applet("boottest", BootTestOptions, "boot an image in a virtual machine and tell what happened", "IMAGE"),
        Applet("dhcp-snippet", DhcpSnippetOptions, "print settings for a DHCP server of your own", "KIND"),
        Applet("dnsmasq", DnsmasqOptions, "set up dnsmasq to lead clients here", ""),
        Applet("http", HttpOptions, "serve kernels, initrds and images by HTTP", ""),
        Applet("image", ImageOptions, "generate a squashfs image from an image source", "[IMAGE]..."),
        Applet("info", InfoOptions, "show the installation: sources, images and what clients would boot", ""),
        Applet("initrd", InitrdOptions, "make the add-on that brings the settings of clients", ""),
        Applet("ipxe", IpxeOptions, "make the menu that clients boot from", ""),
        Applet("kernel", KernelOptions, "publish kernel and initrd of an image or chroot", "[IMAGE]..."),
        Applet("nfs", NfsOptions, "export images to clients", ""),
        Applet("versions", VersionsOptions, "list, choose, pin and remove versions of an image", "[IMAGE]..."),
    )
}
