"""`ltsp nfs`: export the images to clients, and on request the sources and home directories."""

from __future__ import annotations

import os
from os.path import join

from ltsp.build.server_files import write_config
from ltsp.host import command, files
from ltsp.host.interfaces import list_interfaces
from ltsp.report.report import Report
from ltsp.services.nfs import NfsExports
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import NfsOptions
from ltsp.tree.name import printable

_EXPORTS_PATH = "/etc/exports.d/ltsp-nfs.exports"
_MAX_MENU_SIZE = 1 << 20


def nfs(options: NfsOptions, ltsp: LtspOptions, report: Report, path: str = _EXPORTS_PATH) -> None:
    """Raises LtspError if the server has no network, the file cannot be written or the NFS server rejects it."""
    exports = NfsExports(
        tuple(each.address.network for each in list_interfaces()),
        ltsp.base_dir,
        export_base=options.export == "base",
        tftp_dir=ltsp.tftp_dir if options.nfs_tftp else "",
        home_dir=ltsp.home_dir if options.nfs_home else "",
    )
    changed = write_config(path, exports.text(), report, overwrite=ltsp.overwrite, dry_run=options.dry_run)
    if options.export == "base":
        report.warn(f"every PC on the clients' networks can read every chroot in {printable(ltsp.base_dir)}")
    else:
        for menu in find_old_menus(ltsp.tftp_dir):
            report.warn(
                f"clients of the old menu {printable(menu)} mount {printable(ltsp.base_dir)}, which is not exported: "
                "delete that menu, or run ltsp nfs --export=base"
            )
    if not changed:
        return
    if command.find_program("exportfs") is None:
        report.warn("no NFS server found: install the package nfs-kernel-server (nfs-utils on other distributions)")
    else:
        command.run(["exportfs", "-ra"])


def find_old_menus(tftp_dir: str) -> list[str]:
    """Menus made by hand or by earlier releases that mount BASE_DIR itself."""
    directory = join(tftp_dir, "ltsp")
    found: list[str] = []
    for name in files.list_names(directory):
        path = join(directory, name)
        if name.endswith((".ipxe", ".cfg", ".conf")) and os.path.isfile(path):
            with open(path, "rb") as file:
                if b"nfsroot=" in file.read(_MAX_MENU_SIZE):
                    found.append(path)
    return found
