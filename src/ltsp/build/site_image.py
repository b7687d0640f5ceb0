"""The add-on ltsp.img of a site: made for the `ltsp initrd` command, and again whenever clients get another version."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from os.path import dirname, join

from ltsp.build.site_sources import Server, Warn, account_files, images, server, site_files
from ltsp.cpio import newc
from ltsp.errors import ConfError, LockHeld, LtspError
from ltsp.host import files, locks
from ltsp.initrd.site.image import ImageFacts, image_layer
from ltsp.initrd.site.layer import Layer, site
from ltsp.initrd.site.passwords import Accounts
from ltsp.initrd.site.settings import ACTED_ON, common, layer, server_facts
from ltsp.publish.disk_errors import told
from ltsp.publish.paths import PUBLIC_MODE
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.client_sections import ClientSettings, client_settings, without_effect
from ltsp.settings.conf_text import REMEDY, Conf
from ltsp.settings.tftp_names import ADD_ON
from ltsp.transform.merge import AccountFiles, Choice, Merged, account_names, merge, people_names
from ltsp.tree.name import printable

_WAIT = 60.0
"""Seconds for which another run is waited for; it takes a few."""
_DIRECTORY_MODE = 0o755
_DIGITS = 4
"""Of the numbers of sections, which shells sort as text."""
_CHOICES = frozenset({"PWMERGE_SUR", "PWMERGE_SGR"})


@dataclass(frozen=True, slots=True)
class Part:
    """A layer, and where it comes from."""

    name: str
    """As in ltsp.img: `section/0001`."""
    title: str
    where: str
    layer: Layer


def refresh(ltsp: LtspOptions, conf: Conf, report: Report, system: str = "/") -> None:
    """Make it again where there is one, after clients were given another version of an image: the server's people are
    in it beside the image's own accounts, which may be others now. Where that fails, it is told and the old one stays.
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
        report.warn(f"{printable(path)} is as it was before, made for earlier accounts: {error.message}; {error.hint}")
        return
    for warning in warnings:
        report.warn(warning)
    report.note(f"made {printable(path)} again, with the accounts of what clients boot now")


def add_on_path(ltsp: LtspOptions) -> str:
    return join(ltsp.tftp_dir, "ltsp", ADD_ON)


def make_add_on(ltsp: LtspOptions, conf: Conf, warn: Warn, system: str) -> tuple[list[Part], bytes]:
    """The layers, and the archive that holds them.

    Raises as `initrd` does.
    """
    settings = client_settings(conf)
    layers = (settings.common, *settings.sections)
    for warning in (*settings.warnings, *without_effect(layers, ACTED_ON)):
        warn(printable(warning))
    made = _layers(settings, conf, ltsp, warn, system)
    for each in made:
        if any(hashed != "!" for hashed in each.layer.shadow.values()):
            warn(
                f"{each.where}: PASSWORDS of {each.title} are in ltsp.img as hashes, which whoever can boot can read; "
                "let them guard nothing but these clients"
            )
    output = io.BytesIO()
    newc.write(site({each.name: each.layer for each in made}, server_facts(settings.common.settings)), output)
    return made, output.getvalue()


def _layers(settings: ClientSettings, conf: Conf, ltsp: LtspOptions, warn: Warn, system: str) -> list[Part]:
    """The common one first, then those of images, then those of sections.

    Raises ConfError with all faults of ltsp.conf.
    """
    beside = dirname(conf.path) or "."
    here = server(system, beside)
    shared = settings.common.settings
    faults = list(settings.faults)
    choice = _choice(settings, faults, warn)
    found = images(Store(ltsp.base_dir, ltsp.tftp_dir), ltsp.base_dir, warn)
    merged = list(_merged(here.accounts, choice, found, warn))
    accounts = _accounts(here, [facts for _, facts, _ in merged])
    logs_in = any("AUTOLOGIN" in each.settings for each in (settings.common, *settings.sections))
    warnings: list[str] = []
    base = common(shared, accounts, faults, warnings, logs_in=logs_in)
    of_site = site_files(conf.path, system, warn)
    made = [
        Part(
            "common",
            settings.common.title,
            settings.common.where,
            replace(base, files={**of_site, **base.files}),
        )
    ]
    for name, facts, each in merged:
        of_image = image_layer(facts, each.files, each.locked, logs_in=logs_in)
        made += [] if of_image.is_empty else [Part(f"image/{name}", name, name, of_image)]
    width = max(_DIGITS, len(str(len(settings.sections))))
    number = 0
    for section in settings.sections:
        own = layer(section.settings, shared, section.match, accounts, faults, warnings)
        if not own.is_empty:
            number += 1
            made.append(Part(f"section/{number:0{width}}", section.title, section.where, own))
    if faults:
        raise ConfError(
            "; ".join(map(printable, dict.fromkeys(faults))),
            f"{REMEDY}; ltsp.img is as it was before",
        )
    for warning in dict.fromkeys(warnings):
        warn(printable(warning))
    return made


def _accounts(here: Server, every: list[ImageFacts]) -> Accounts:
    """Who may get a password on clients."""
    of_images = [account_files(facts) for facts in every]
    people = people_names(here.accounts).union(*map(people_names, of_images))
    others = {"root"}.union(*(account_names(each.passwd) for each in of_images)) - people
    return Accounts(people, frozenset(others), here.key)


def _merged(
    accounts: AccountFiles, choice: Choice, found: Iterable[tuple[str, ImageFacts]], warn: Warn
) -> Iterator[tuple[str, ImageFacts, Merged]]:
    for name, facts in found:
        merged = merge(accounts, account_files(facts), choice)
        for conflict in merged.conflicts:
            warn(f"accounts in {name}: {printable(conflict)}")
        if merged.locked:
            warn(f"{name} holds passwords of its own, which stay in it; the server's people are locked there")
        yield name, facts, merged


def _choice(settings: ClientSettings, faults: list[str], warn: Warn) -> Choice:
    """Whom PWMERGE_x lets in. Accounts are merged for each image, so what it would say to some clients is not done."""
    for section in settings.sections:
        for key in _CHOICES & section.settings.keys():
            where = section.settings[key].where
            warn(f"{printable(where)}: {key} has an effect for all clients only, in [clients] or [common]")
    texts: dict[str, str] = {}
    for key in sorted(_CHOICES & settings.common.settings.keys()):
        setting = settings.common.settings[key]
        fault = setting.fault or ("is not the same for all clients: it holds %{" if "%{" in setting.value else "")
        if fault:
            faults.append(f"{setting.where}: {key} {fault}")
        else:
            texts[key] = setting.value
    return Choice(texts.get("PWMERGE_SUR", ""), texts.get("PWMERGE_SGR", ""))


def read_add_on(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


@contextmanager
def lock_add_on(path: str, tftp_dir: str) -> Iterator[None]:
    """From the reading of accounts and images to the writing: else an older state could come last."""
    if not os.path.isdir(tftp_dir):
        raise LtspError(
            f"no directory {printable(tftp_dir)}, where clients fetch ltsp.img",
            "make it or mount it, or choose another one with ltsp --tftp-dir",
        )
    with ExitStack() as held:
        with told("write", ADD_ON, dirname(path)):
            files.make_directories(dirname(path), _DIRECTORY_MODE)
            try:
                held.enter_context(locks.exclusive(join(dirname(path), f".{ADD_ON}.lock"), _WAIT))
            except locks.Taken:
                raise LockHeld("another ltsp initrd is at work", "try again when it is done") from None
        yield


def write_add_on(path: str, archive: bytes) -> None:
    with told("write", ADD_ON, dirname(path)):
        files.replace(path, archive, PUBLIC_MODE)
