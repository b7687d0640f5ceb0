"""`ltsp http`: serve boot files and images by HTTP."""

from __future__ import annotations

import threading

from ltsp.apps.report import Report
from ltsp.errors import LtspError
from ltsp.services import nginx
from ltsp.services.http_files import http_files
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import HttpOptions
from ltsp.tree.name import printable


def http(options: HttpOptions, places: LtspOptions, report: Report) -> None:
    """Serve until the process is ended.

    Raises LtspError where it cannot.
    """
    if options.nginx:
        for line in nginx.configuration(places.base_dir, places.tftp_dir, options.http_port).splitlines():
            report.say(line)
        return
    try:
        from ltsp.services import http_server  # noqa: PLC0415 -- an extra, which not every installation has
    except ImportError as error:
        raise LtspError(
            "the Python package aiohttp is not there",
            "install the package python3-aiohttp, or pip install 'ltsp[http]'; or see ltsp http --nginx",
        ) from error
    with (
        http_files(places.base_dir, places.tftp_dir) as files,
        http_server.listening(options.http_address, options.http_port) as listener,
        http_server.serving(listener, files.open, report.say),
    ):
        shown = f"[{options.http_address}]" if ":" in options.http_address else options.http_address
        report.note(f"serving on http://{printable(shown)}:{options.http_port}/ltsp/ and /images/")
        threading.Event().wait()
