"""From what was asked for to the applet that does it. Applets are imported when they are called for."""

from __future__ import annotations

from typing import assert_never

from ltsp.apps.report import Report
from ltsp.cli.command_line import ImageApplet, NetworkApplet, Run
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
from ltsp.settings.source_options import VersionedOptions


def run(asked: Run, report: Report) -> int:
    """Call the applet, and return the exit status."""
    match asked.options:
        case ImageOptions() | InfoOptions() | KernelOptions() | VersionsOptions() as options:
            status = _image(options, asked, report)
            if isinstance(options, VersionedOptions) and _may_publish(options):
                from ltsp.apps.after_publishing import follow  # noqa: PLC0415

                follow(asked.ltsp, asked.conf, options, report)
            return status
        case options:
            return _network(options, asked, report)


def _may_publish(options: VersionedOptions) -> bool:
    """Whether clients may boot another version now, or an image less."""
    match options:
        case ImageOptions():
            return not options.dry_run
        case VersionsOptions():
            return options.use is not None or options.removes
        case _:
            return True


def _image(options: ImageApplet, asked: Run, report: Report) -> int:
    match options:
        case ImageOptions():
            from ltsp.apps.image import image  # noqa: PLC0415

            return image(asked.operands, options, asked.ltsp, asked.hooks, asked.conf, report)
        case KernelOptions():
            from ltsp.apps.kernel import kernel  # noqa: PLC0415

            return kernel(asked.operands, options, asked.ltsp, report)
        case InfoOptions():
            from ltsp.apps.info import info  # noqa: PLC0415

            info(options, asked.ltsp, report)
        case VersionsOptions():
            from ltsp.apps.versions import versions  # noqa: PLC0415

            versions(asked.operands, options, asked.ltsp, report)
        case never:
            assert_never(never)
    return 0


def _network(options: NetworkApplet, asked: Run, report: Report) -> int:
    match options:
        case BootTestOptions():
            from ltsp.apps.boottest import boottest  # noqa: PLC0415

            return boottest(asked.operands[0], options, asked.ltsp, report)
        case DhcpSnippetOptions():
            from ltsp.apps.dhcp_snippet import dhcp_snippet  # noqa: PLC0415

            dhcp_snippet(asked.operands[0], options, report)
        case DnsmasqOptions():
            from ltsp.apps.dnsmasq import dnsmasq  # noqa: PLC0415

            dnsmasq(options, asked.ltsp, report)
        case HttpOptions():
            from ltsp.apps.http import http  # noqa: PLC0415

            http(options, asked.ltsp, report)
        case InitrdOptions():
            from ltsp.apps.initrd import initrd  # noqa: PLC0415

            initrd(options, asked.ltsp, asked.conf, report)
        case IpxeOptions():
            from ltsp.apps.ipxe import ipxe  # noqa: PLC0415

            ipxe(options, asked.ltsp, asked.conf, asked.identity, report)
        case NfsOptions():
            from ltsp.apps.nfs import nfs  # noqa: PLC0415

            nfs(options, asked.ltsp, report)
        case never:
            assert_never(never)
    return 0
