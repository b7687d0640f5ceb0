"""Calls the applet of an invocation. Applets are imported only when they are called."""

from __future__ import annotations

from typing import assert_never

from ltsp.cli.command_line import ImageApplet, Invocation, NetworkApplet
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


def run(invocation: Invocation, report: Report) -> int:
    """Call the applet, and return the exit status."""
    match invocation.options:
        case ImageOptions() | InfoOptions() | KernelOptions() | VersionsOptions() as options:
            return _run_image_applet(options, invocation, report)
        case options:
            return _run_network_applet(options, invocation, report)


def _run_image_applet(options: ImageApplet, invocation: Invocation, report: Report) -> int:
    match options:
        case ImageOptions(revert=True):
            from ltsp.commands.revert import revert  # noqa: PLC0415

            return revert(invocation.operands, options, invocation.ltsp, invocation.conf, report)
        case ImageOptions():
            from ltsp.commands.image import image  # noqa: PLC0415

            return image(invocation.operands, options, invocation.ltsp, invocation.hooks, invocation.conf, report)
        case KernelOptions():
            from ltsp.commands.kernel import kernel  # noqa: PLC0415

            return kernel(invocation.operands, options, invocation.ltsp, invocation.conf, report)
        case InfoOptions():
            from ltsp.commands.info import info  # noqa: PLC0415

            info(options, invocation.ltsp, report)
        case VersionsOptions():
            from ltsp.commands.versions import versions  # noqa: PLC0415

            versions(invocation.operands, options, invocation.ltsp, invocation.conf, report)
        case never:
            assert_never(never)
    return 0


def _run_network_applet(options: NetworkApplet, invocation: Invocation, report: Report) -> int:
    match options:
        case BootTestOptions():
            from ltsp.commands.boottest import boottest  # noqa: PLC0415

            return boottest(invocation.operands[0], options, invocation.ltsp, report)
        case DhcpSnippetOptions():
            from ltsp.commands.dhcp_snippet import dhcp_snippet  # noqa: PLC0415

            dhcp_snippet(invocation.operands[0], options, report)
        case DnsmasqOptions():
            from ltsp.commands.dnsmasq import dnsmasq  # noqa: PLC0415

            dnsmasq(options, invocation.ltsp, report)
        case HttpOptions():
            from ltsp.commands.http import http  # noqa: PLC0415

            http(options, invocation.ltsp, report)
        case InitrdOptions():
            from ltsp.commands.initrd import initrd  # noqa: PLC0415

            initrd(options, invocation.ltsp, invocation.conf, report)
        case IpxeOptions():
            from ltsp.commands.ipxe import ipxe  # noqa: PLC0415

            ipxe(options, invocation.ltsp, invocation.conf, invocation.identity, report)
        case NfsOptions():
            from ltsp.commands.nfs import nfs  # noqa: PLC0415

            nfs(options, invocation.ltsp, report)
        case never:
            assert_never(never)
    return 0
