"""`ltsp ipxe`: the boot menu and the iPXE binaries in TFTP_DIR."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os.path import join

from ltsp.boot.ipxe import UnwritableText
from ltsp.boot.menu import Menu, MenuEntry
from ltsp.boot.menu_settings import entry_title, read_menu_settings
from ltsp.build.server_files import BINARIES, MEMTESTS, Binary, check_missing_binaries, install_binaries, write_config
from ltsp.build.version_facts import deleted_image_warning
from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.host.identity import Identity
from ltsp.host.root import is_chroot
from ltsp.publish.state import ForeignImage
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings import naming
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import Conf
from ltsp.settings.conf_values import evaluate_settings
from ltsp.settings.naming import MENU
from ltsp.settings.network_options import IpxeOptions
from ltsp.settings.resolve import Setting
from ltsp.tree.name import encode, printable

_NOT_CHROOTS = frozenset({"images"})


def ipxe(
    options: IpxeOptions,
    ltsp: LtspOptions,
    conf: Conf,
    identity: Identity,
    report: Report,
    binaries: Sequence[Binary] = BINARIES,
) -> None:
    """Write the menu, and copy the binaries that are missing.

    Raises ConfError with every line of ltsp.conf that a menu cannot contain, and LtspError if a file cannot be
    written or iPXE is not installed.
    """
    directory = join(ltsp.tftp_dir, "ltsp")
    missing: Sequence[Binary] = ()
    if options.binaries != "0":
        again = options.binaries == "1"
        missing = install_binaries(directory, binaries, report, replace_existing=again, dry_run=options.dry_run)
    menu = _make_menu(options, ltsp, conf, evaluate_settings(conf, identity, "ipxe"), report)
    try:
        text = menu.text()
    except UnwritableText as fault:
        raise LtspError(
            f"cannot write {printable(ltsp.base_dir)} into the menu: the path {fault}",
            "use a path of letters, digits and . _ ~ + @ = / - (a bind mount can provide one)",
        ) from None
    write_config(join(directory, MENU), text, report, overwrite=ltsp.overwrite, dry_run=options.dry_run)
    if not menu.labels:
        report.warn("the menu has nothing to boot: make an image with ltsp image")
    check_missing_binaries(missing)


def _make_menu(
    options: IpxeOptions, ltsp: LtspOptions, conf: Conf, server: Mapping[str, Setting], report: Report
) -> Menu:
    images, chroots = _list_bootable(ltsp, report)
    entries_only = Menu(ltsp.base_dir, _menu_entries(images, server), _menu_entries(chroots, server, prefix="r_"))
    settings = read_menu_settings(conf, server, entries_only.labels)
    for warning in settings.warnings:
        report.warn(printable(warning))
    transports = {settings.options.transport, *(section.options.transport for section in settings.sections)}
    if "file" in transports and not options.http:
        report.warn(
            "IMAGE_TRANSPORT=file needs HTTP=1 in ltsp.conf or ltsp ipxe --http=1: images are too large for TFTP"
        )
    return Menu(
        ltsp.base_dir,
        entries_only.images,
        entries_only.chroots,
        settings.options,
        settings.sections,
        server=options.server,
        http=options.http,
        http_port=options.http_port,
        memtest=any(os.path.isfile(join(ltsp.tftp_dir, "ltsp", name)) for name in MEMTESTS),
        configuration=options.menu_configuration,
        shell=options.menu_shell,
    )


def _menu_entries(names: Sequence[str], server: Mapping[str, Setting], prefix: str = "") -> tuple[MenuEntry, ...]:
    return tuple(MenuEntry(name, entry_title(prefix + name, server)) for name in names)


def _list_bootable(ltsp: LtspOptions, report: Report) -> tuple[list[str], list[str]]:
    """The images and chroots whose kernels are published."""
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    states = [store.state(name) for name in store.names()]
    for state in states:
        if warning := deleted_image_warning(state):
            report.warn(warning)
    with_kernel = {state.paths.name for state in states if state.pointer}
    images = {state.paths.name: state.image for state in states if state.image is not None}
    chroots = [
        name
        for name in files.list_names(ltsp.base_dir)
        if name not in _NOT_CHROOTS and not naming.find_fault(name) and is_chroot(encode(join(ltsp.base_dir, name)))
    ]
    for name, image in images.items():
        if name not in with_kernel:
            # A disk or live medium from elsewhere boots with the kernel of a chroot.
            chroot_hint = (
                f", ltsp kernel --name={name} CHROOT publishes that of a chroot"
                if isinstance(image, ForeignImage)
                else ""
            )
            remedy = f"ltsp kernel {name} publishes its own{chroot_hint}"
            report.warn(f"image {name} is not in the menu: no published kernel ({remedy})")
    return [name for name in images if name in with_kernel], [name for name in chroots if name in with_kernel]
