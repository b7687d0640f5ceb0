"""Calls the applet of an invocation. An applet and its options are imported only when it is called."""
# ruff: noqa: PLC0415

from __future__ import annotations

from ltsp.cli.invocation import Invocation
from ltsp.report.report import Report


def run(invocation: Invocation, report: Report) -> int:
    """Call the applet, and return the exit status."""
    match invocation.applet:
        case "image" | "info" | "kernel" | "versions":
            return _run_image_applet(invocation, report)
        case _:
            return _run_network_applet(invocation, report)


def _run_image_applet(run: Invocation, report: Report) -> int:
    match run.applet:
        case "image":
            from ltsp.settings.image_options import ImageOptions

            image_options = run.options_as(ImageOptions)
            if image_options.revert:
                from ltsp.commands.revert import revert

                return revert(run.operands, image_options, run.ltsp, run.conf, report)
            from ltsp.commands.image import image

            return image(run.operands, image_options, run.ltsp, run.hooks, run.conf, report)
        case "info":
            from ltsp.commands.info import info
            from ltsp.settings.version_options import InfoOptions

            info(run.options_as(InfoOptions), run.ltsp, report)
        case "kernel":
            from ltsp.commands.kernel import kernel
            from ltsp.settings.image_options import KernelOptions

            return kernel(run.operands, run.options_as(KernelOptions), run.ltsp, run.conf, report)
        case "versions":
            from ltsp.commands.versions import versions
            from ltsp.settings.version_options import VersionsOptions

            versions(run.operands, run.options_as(VersionsOptions), run.ltsp, run.conf, report)
        case applet:
            raise AssertionError(applet)
    return 0


def _run_network_applet(run: Invocation, report: Report) -> int:
    from ltsp.settings import network_options as declared

    match run.applet:
        case "boottest":
            from ltsp.commands.boottest import boottest

            return boottest(run.operands[0], run.options_as(declared.BootTestOptions), run.ltsp, report)
        case "dhcp-snippet":
            from ltsp.commands.dhcp_snippet import dhcp_snippet

            dhcp_snippet(run.operands[0], run.options_as(declared.DhcpSnippetOptions), report)
        case "dnsmasq":
            from ltsp.commands.dnsmasq import dnsmasq

            dnsmasq(run.options_as(declared.DnsmasqOptions), run.ltsp, report)
        case "http":
            from ltsp.commands.http import http

            http(run.options_as(declared.HttpOptions), run.ltsp, report)
        case "initrd":
            from ltsp.commands.initrd import initrd

            initrd(run.options_as(declared.InitrdOptions), run.ltsp, run.conf, report)
        case "ipxe":
            from ltsp.commands.ipxe import ipxe

            ipxe(run.options_as(declared.IpxeOptions), run.ltsp, run.conf, run.identity(), report)
        case "nfs":
            from ltsp.commands.nfs import nfs

            nfs(run.options_as(declared.NfsOptions), run.ltsp, report)
        case applet:
            raise AssertionError(applet)
    return 0
