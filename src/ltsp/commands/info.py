"""`ltsp info`: the server, the sources of images, and what clients boot now."""

from __future__ import annotations

import os
import platform
import shutil
from os.path import join

from ltsp.build.version_facts import deleted_image_warning, state_to_json
from ltsp.host.root import is_chroot
from ltsp.publish.state import ForeignImage, ImageState
from ltsp.publish.store import Store
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.settings import naming
from ltsp.settings.applets import LtspOptions
from ltsp.settings.version_options import InfoOptions
from ltsp.tree.name import encode, from_os, printable, sort_names
from ltsp.version import VERSION

_NOT_SOURCES = {"images"}


def info(options: InfoOptions, ltsp: LtspOptions, report: Report) -> None:
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    server = _server_facts()
    directories = {
        "base_dir": ltsp.base_dir,
        "images": join(ltsp.base_dir, "images"),
        "tftp_dir": ltsp.tftp_dir,
        "home_dir": ltsp.home_dir,
    }
    space = {name: _measure_space(path) for name, path in directories.items()}
    sources = _list_sources(ltsp.base_dir)
    states = [store.state(name) for name in store.names()]
    if options.json:
        report.result(
            {
                "server": server,
                "directories": {name: {"path": path, "space": space[name]} for name, path in directories.items()},
                "sources": sources,
                "images": {state.paths.name: state_to_json(state) for state in states},
            }
        )
        return
    for name, value in server.items():
        report.say(f"{name}: {printable(str(value))}")
    report.table(
        ("directory", "path", "free", "of"),
        [(name, printable(path), *_format_space(space[name])) for name, path in directories.items()],
    )
    report.table(("source", "kind"), [(printable(name), kind) for name, kind in sources.items()])
    report.table(("image", "current version", "size", "kernel", "versions"), [_image_row(state) for state in states])
    for state in states:
        if warning := deleted_image_warning(state):
            report.warn(warning)


def _server_facts() -> dict[str, object]:
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        system = "Linux"
    return {
        "ltsp": VERSION,
        "system": system,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "memory": units.format_size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        "python": platform.python_version(),
    }


def _measure_space(path: str) -> dict[str, int] | None:
    """Total and free bytes; None if the directory does not exist."""
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None
    return {"total": usage.total, "free": usage.free}


def _format_space(space: dict[str, int] | None) -> tuple[str, str]:
    return (units.format_size(space["free"]), units.format_size(space["total"])) if space else ("missing", "")


def _list_sources(base_dir: str) -> dict[str, str]:
    """Chroots and virtual machine disks in BASE_DIR, by name; none of their files is opened."""
    try:
        names = sort_names([from_os(name) for name in os.listdir(base_dir)])
    except OSError:
        return {}
    found: dict[str, str] = {}
    for name in names:
        if name in _NOT_SOURCES or name.startswith("."):
            continue
        path = join(base_dir, name)
        if is_chroot(encode(path)):
            found[name] = "chroot"
        elif name.endswith(".img") and os.path.isfile(path):
            found.setdefault(name.removesuffix(".img"), "virtual machine disk")
    return {
        name: kind + (f", but its name {fault}" if (fault := naming.find_fault(name)) else "")
        for name, kind in found.items()
    }


def _image_row(state: ImageState) -> tuple[str, str, str, str, str]:
    name = state.paths.name
    current = state.current
    size = current.manifest.image.size if current and current.manifest.image else None
    shown = current.id if current else "none"
    if isinstance(state.image, ForeignImage):
        shown = f"foreign {name}.img" + (f", menu boots {current.id}" if current else "")
        size = state.image.size
    kernel = current.manifest.kernel if current else None
    bootable = current is not None and current.has_kernel
    return (
        name,
        shown,
        "-" if size is None else units.format_size(size),
        printable(kernel.version) if kernel and kernel.version else ("yes" if bootable else "none"),
        str(len(state.versions)),
    )
