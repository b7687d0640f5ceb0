"""`ltsp http`: serve boot files and images over HTTP."""

from __future__ import annotations

import sys
import threading

from ltsp import errors
from ltsp.build.server_files import write_config
from ltsp.errors import UsageError
from ltsp.host import systemd
from ltsp.report.report import Report
from ltsp.services import http_config
from ltsp.services.http_files import open_http_files
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import HttpOptions
from ltsp.tree.name import printable

_UNIT_PATH = f"/etc/systemd/system/{http_config.UNIT_NAME}"


def http(options: HttpOptions, ltsp: LtspOptions, report: Report, path: str = _UNIT_PATH) -> None:
    """Serve until the process is stopped, or install a systemd service that does.

    Raises UsageError for a dry run without --service, and LtspError if it cannot serve.
    """
    if options.dry_run and not options.service:
        raise UsageError("option --dry-run requires --service", "ltsp http --service --dry-run")
    if options.nginx:
        for line in http_config.format_nginx_configuration(
            ltsp.base_dir, ltsp.tftp_dir, options.http_port
        ).splitlines():
            report.say(line)
        return
    with errors.require_library("ltsp http", "aiohttp", "http", "or use nginx: ltsp http --nginx"):
        from ltsp.services import http_server  # noqa: PLC0415 -- it imports an extra
    if options.service:
        _install_service(options, ltsp, report, path)
        return
    with (
        open_http_files(ltsp.base_dir, ltsp.tftp_dir) as files,
        http_server.open_listener(options.http_address, options.http_port) as listener,
        http_server.serve_files(listener, files.open, report.say),
    ):
        shown = f"[{options.http_address}]" if ":" in options.http_address else options.http_address
        report.note(f"serving on http://{printable(shown)}:{options.http_port}/ltsp/ and /images/")
        threading.Event().wait()


def _install_service(options: HttpOptions, ltsp: LtspOptions, report: Report, path: str) -> None:
    command = [
        *(sys.executable, "-P", "-m", "ltsp"),
        *(f"--base-dir={ltsp.base_dir}", f"--tftp-dir={ltsp.tftp_dir}", "http"),
        *(f"--http-address={options.http_address}", f"--http-port={options.http_port}"),
    ]
    text = http_config.format_http_unit(command)
    changed = write_config(path, text, report, overwrite=ltsp.overwrite, dry_run=options.dry_run)
    if options.dry_run:
        return
    if not systemd.is_running():
        report.warn("systemd is not running, so the service was not started")
        return
    systemd.enable_and_start(http_config.UNIT_NAME, restart=changed)
    report.say(f"started {http_config.UNIT_NAME}; to check it: systemctl status {http_config.UNIT_NAME}")
