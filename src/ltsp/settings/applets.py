"""The applets of `ltsp`, and the options before them. Flags, keys, defaults and help texts are declared only here and
in the modules that the applets name.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from ltsp.settings.option import AppletOptions, Argument, DirectoryPath, Flag, Reach, Text, option, switch


@dataclass(frozen=True, slots=True)
class LtspOptions:
    """Options before the applet, common to all applets. ltsp(8)"""

    base_dir: str = option(
        DirectoryPath(),
        "directory of chroots, virtual machine disks and images",
        default="/srv/ltsp",
        short="b",
        details="DIR/NAME is a chroot, DIR/NAME.img a virtual machine disk, DIR/images/NAME.img a published image.",
    )
    help: str | None = option(
        Text("APPLET"),
        "print the help of ltsp, or of one applet, and exit",
        default=None,
        short="h",
        argument=Argument.OPTIONAL,
        implied_value="",
        reach=Reach.ONCE,
    )
    home_dir: str = option(
        DirectoryPath(),
        "directory that contains the users' home directories",
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
class Applet:
    name: str
    declared_in: str
    """Module and class of the options; imported when they are asked for, since most runs need those of one applet."""
    summary: str
    operands: str = ""
    """As the synopsis shows them."""

    @property
    def options(self) -> type[AppletOptions]:
        module, _, name = self.declared_in.partition(".")
        found: type[AppletOptions] = getattr(import_module(f"ltsp.settings.{module}"), name)
        return found


APPLETS = {
    applet.name: applet
    for applet in (
        Applet(
            "boottest",
            "network_options.BootTestOptions",
            "boot an image in a virtual machine and report the result",
            "IMAGE",
        ),
        Applet(
            "dhcp-snippet", "network_options.DhcpSnippetOptions", "print settings for an existing DHCP server", "KIND"
        ),
        Applet("dnsmasq", "network_options.DnsmasqOptions", "configure dnsmasq to boot clients from this server"),
        Applet("http", "network_options.HttpOptions", "serve kernels, initrds and images over HTTP"),
        Applet("image", "image_options.ImageOptions", "generate a squashfs image from an image source", "[IMAGE]..."),
        Applet("info", "version_options.InfoOptions", "show sources, images and what clients boot"),
        Applet("initrd", "network_options.InitrdOptions", "generate the add-on initrd with the clients' settings"),
        Applet("ipxe", "network_options.IpxeOptions", "generate the boot menu of clients"),
        Applet(
            "kernel",
            "image_options.KernelOptions",
            "publish the kernel and initrd of an image or chroot",
            "[IMAGE]...",
        ),
        Applet("nfs", "network_options.NfsOptions", "export images to clients"),
        Applet(
            "versions",
            "version_options.VersionsOptions",
            "list, select, pin and remove versions of images",
            "[IMAGE]...",
        ),
    )
}
