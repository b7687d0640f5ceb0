"""The add-on ltsp.img of a site: made by `ltsp initrd`, and again whenever clients get another version."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from os.path import dirname, join

from ltsp.build.add_on_sources import (
    ServerFacts,
    Warn,
    read_image_accounts,
    read_server_facts,
    read_site_files,
    to_account_files,
)
from ltsp.cpio import newc
from ltsp.errors import ConfError, LockHeld, LtspError
from ltsp.host import files, locks
from ltsp.initrd.site.image_layer import ImageAccountFacts, build_image_layer
from ltsp.initrd.site.layer import SiteLayer, build_site_tree
from ltsp.initrd.site.passwords import Accounts
from ltsp.initrd.site.settings import build_common_layer, build_section_layer, server_facts
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.paths import PUBLIC_MODE
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.client_sections import ClientSettings, ignored_key_warnings, read_client_settings
from ltsp.settings.conf import Conf
from ltsp.settings.conf_text import SHELL_CODE_HINT
from ltsp.settings.naming import ADD_ON
from ltsp.transform.account_merge import (
    AccountFiles,
    MergedAccounts,
    UserSelection,
    list_accounts,
    list_users,
    merge_accounts,
)
from ltsp.tree.name import printable

_LOCK_TIMEOUT = 60.0
"""Seconds to wait for another run, which takes a few."""
_DIRECTORY_MODE = 0o755
_SECTION_NUMBER_WIDTH = 4
"""Width of section numbers: shells sort them as text."""
_MERGE_KEYS = frozenset({"PWMERGE_SUR", "PWMERGE_SGR"})


@dataclass(frozen=True, slots=True)
class AddOnLayer:
    """A layer and its origin."""

    name: str
    """As in ltsp.img: `section/0001`."""
    title: str
    where: str
    layer: SiteLayer


def refresh_add_on(ltsp: LtspOptions, conf: Conf, report: Report, system: str = "/") -> None:
    """Make it again, if there is one, after clients were given another version of an image: it merges the server's
    accounts with those of the image. If that fails, it is reported and the old one stays.
    """
    path = add_on_path(ltsp)
    if not read_add_on(path):
        return
    warnings: list[str] = []
    try:
        with lock_add_on(path, ltsp.tftp_dir):
            _, archive = make_add_on(ltsp, conf, warnings.append, system)
            if read_add_on(path) == archive:
                return
            write_add_on(path, archive)
    except LtspError as error:
        report.warn(f"{printable(path)} was not updated, and has outdated accounts: {error.message}; {error.hint}")
        return
    for warning in warnings:
        report.warn(warning)
    report.note(f"updated {printable(path)} with the accounts of the images that clients boot now")


def add_on_path(ltsp: LtspOptions) -> str:
    return join(ltsp.tftp_dir, "ltsp", ADD_ON)


def make_add_on(ltsp: LtspOptions, conf: Conf, warn: Warn, system: str) -> tuple[list[AddOnLayer], bytes]:
    """The layers, and the archive made of them.

    Raises what `initrd` raises.
    """
    settings = read_client_settings(conf)
    layers = (settings.common, *settings.sections)
    for warning in (*settings.warnings, *ignored_key_warnings(layers)):
        warn(printable(warning))
    made = _make_layers(settings, conf, ltsp, warn, system)
    for each in made:
        if any(hashed != "!" for hashed in each.layer.shadow.values()):
            warn(
                f"{each.where}: PASSWORDS of {each.title} are in ltsp.img as hashes, which anyone on the network can "
                "read; do not use these passwords anywhere else"
            )
    output = io.BytesIO()
    newc.write_archive(
        build_site_tree({each.name: each.layer for each in made}, server_facts(settings.common.settings)), output
    )
    return made, output.getvalue()


def _make_layers(settings: ClientSettings, conf: Conf, ltsp: LtspOptions, warn: Warn, system: str) -> list[AddOnLayer]:
    """The common layer first, then those of images, then those of sections.

    Raises ConfError with all faults of ltsp.conf.
    """
    conf_dir = dirname(conf.path) or "."
    server = read_server_facts(system, conf_dir)
    shared = settings.common.settings
    faults = list(settings.faults)
    selection = _parse_user_selection(settings, faults, warn)
    found = read_image_accounts(Store(ltsp.base_dir, ltsp.tftp_dir), ltsp.base_dir, warn)
    merged = list(_merge_accounts(server.accounts, selection, found, warn))
    accounts = _collect_accounts(server, [facts for _, facts, _ in merged])
    has_autologin = any("AUTOLOGIN" in each.settings for each in (settings.common, *settings.sections))
    warnings: list[str] = []
    base = build_common_layer(shared, accounts, faults, warnings, has_autologin=has_autologin)
    site_files = read_site_files(conf.path, system, warn)
    made = [
        AddOnLayer(
            "common",
            settings.common.title,
            settings.common.where,
            replace(base, files={**site_files, **base.files}),
        )
    ]
    for name, facts, each in merged:
        image_layer = build_image_layer(facts, each.files, each.accounts_to_lock, has_autologin=has_autologin)
        made += [] if image_layer.is_empty else [AddOnLayer(f"image/{name}", name, name, image_layer)]
    width = max(_SECTION_NUMBER_WIDTH, len(str(len(settings.sections))))
    number = 0
    for section in settings.sections:
        section_layer = build_section_layer(section.settings, shared, section.match, accounts, faults, warnings)
        if not section_layer.is_empty:
            number += 1
            made.append(AddOnLayer(f"section/{number:0{width}}", section.title, section.where, section_layer))
    if faults:
        raise ConfError(
            "; ".join(map(printable, dict.fromkeys(faults))),
            f"{SHELL_CODE_HINT}; ltsp.img was not changed",
        )
    for warning in dict.fromkeys(warnings):
        warn(printable(warning))
    return made


def _collect_accounts(server: ServerFacts, every: list[ImageAccountFacts]) -> Accounts:
    """The accounts that may get a password on clients."""
    image_accounts = [to_account_files(facts) for facts in every]
    people = list_users(server.accounts).union(*map(list_users, image_accounts))
    others = {"root"}.union(*(list_accounts(each.passwd) for each in image_accounts)) - people
    return Accounts(people, frozenset(others), server.machine_id)


def _merge_accounts(
    accounts: AccountFiles, selection: UserSelection, found: Iterable[tuple[str, ImageAccountFacts]], warn: Warn
) -> Iterator[tuple[str, ImageAccountFacts, MergedAccounts]]:
    for name, facts in found:
        merged = merge_accounts(accounts, to_account_files(facts), selection)
        for conflict in merged.conflicts:
            warn(f"accounts in {name}: {printable(conflict)}")
        if merged.accounts_to_lock:
            warn(f"{name} keeps its own passwords; accounts added from the server are locked there")
        yield name, facts, merged


def _parse_user_selection(settings: ClientSettings, faults: list[str], warn: Warn) -> UserSelection:
    """The users that PWMERGE_x selects. Accounts are merged per image, so it cannot differ among clients."""
    for section in settings.sections:
        for key in _MERGE_KEYS & section.settings.keys():
            where = section.settings[key].where
            warn(f"{printable(where)}: {key} has no effect in this section: move it to [clients] or [common]")
    texts: dict[str, str] = {}
    for key in sorted(_MERGE_KEYS & settings.common.settings.keys()):
        setting = settings.common.settings[key]
        fault = setting.fault or (
            "must be the same for all clients, so it cannot contain %{" if "%{" in setting.value else ""
        )
        if fault:
            faults.append(f"{setting.where}: {key} {fault}")
        else:
            texts[key] = setting.value
    return UserSelection(texts.get("PWMERGE_SUR", ""), texts.get("PWMERGE_SGR", ""))


def read_add_on(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


@contextmanager
def lock_add_on(path: str, tftp_dir: str) -> Iterator[None]:
    """Held from reading accounts and images until writing; else an older state could be written last."""
    if not os.path.isdir(tftp_dir):
        raise LtspError(
            f"directory {printable(tftp_dir)} not found; clients fetch ltsp.img from it",
            "create or mount it, or choose another one with ltsp --tftp-dir",
        )
    with ExitStack() as locked:
        with translate_os_errors("write", ADD_ON, dirname(path)):
            files.make_directories(dirname(path), _DIRECTORY_MODE)
            try:
                locked.enter_context(locks.hold_exclusive(join(dirname(path), f".{ADD_ON}.lock"), _LOCK_TIMEOUT))
            except locks.LockBusy:
                raise LockHeld("another `ltsp initrd` is running", "try again when it is done") from None
        yield


def write_add_on(path: str, archive: bytes) -> None:
    with translate_os_errors("write", ADD_ON, dirname(path)):
        files.replace_file(path, archive, PUBLIC_MODE)
