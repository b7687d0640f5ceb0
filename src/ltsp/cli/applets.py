"""From what was asked for to the applet that does it. Applets are imported when they are called for."""

from __future__ import annotations

from typing import assert_never

from ltsp.cli.command_line import ImageApplet, NetworkApplet, Run
from ltsp.report.report import Report
from ltsp.settings.applets import ImageOptions, InfoOptions, KernelOptions, VersionsOptions
from ltsp.settings.network_options import (
    BootTestOptions,
    DhcpSnippetOptions,
    DnsmasqOptions,
    HttpOptions,
    InitrdOptions,
    IpxeOptions,
    NfsOptions,
)


def run(asked: Run, report: Report) -> int:
    """Call the applet, and return the exit status."""
    match asked.options:
        case ImageOptions() | InfoOptions() | KernelOptions() | VersionsOptions() as options:
            return _image(options, asked, report)
        case options:
            return _network(options, asked, report)


def _image(options: ImageApplet, asked: Run, report: Report) -> int:
    match options:
        case ImageOptions(revert=True):
            from ltsp.commands.revert import revert  # noqa: PLC0415

            return revert(asked.operands, options, asked.ltsp, asked.conf, report)
        case ImageOptions():
            from ltsp.commands.image import image  # noqa: PLC0415

            return image(asked.operands, options, asked.ltsp, asked.hooks, asked.conf, report)
        case KernelOptions():
            from ltsp.commands.kernel import kernel  # noqa: PLC0415

            return kernel(asked.operands, options, asked.ltsp, asked.conf, report)
        case InfoOptions():
            from ltsp.commands.info import info  # noqa: PLC0415

            info(options, asked.ltsp, report)
        case VersionsOptions():
            from ltsp.commands.versions import versions  # noqa: PLC0415

            versions(asked.operands, options, asked.ltsp, asked.conf, report)
        case never:
            assert_never(never)
    return 0


def _network(options: NetworkApplet, asked: Run, report: Report) -> int:
    match options:
        case BootTestOptions():
            from ltsp.commands.boottest import boottest  # noqa: PLC0415

            return boottest(asked.operands[0], options, asked.ltsp, report)
        case DhcpSnippetOptions():
            from ltsp.commands.dhcp_snippet import dhcp_snippet  # noqa: PLC0415

            dhcp_snippet(asked.operands[0], options, report)
        case DnsmasqOptions():
            from ltsp.commands.dnsmasq import dnsmasq  # noqa: PLC0415

            dnsmasq(options, asked.ltsp, report)
        case HttpOptions():
            from ltsp.commands.http import http  # noqa: PLC0415

            http(options, asked.ltsp, report)
        case InitrdOptions():
            from ltsp.commands.initrd import initrd  # noqa: PLC0415

            initrd(options, asked.ltsp, asked.conf, report)
        case IpxeOptions():
            from ltsp.commands.ipxe import ipxe  # noqa: PLC0415

            ipxe(options, asked.ltsp, asked.conf, asked.identity, report)
        case NfsOptions():
            from ltsp.commands.nfs import nfs  # noqa: PLC0415

            nfs(options, asked.ltsp, report)
        case never:
            assert_never(never)
    return 0
