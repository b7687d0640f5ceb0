"""`ltsp initrd`: the add-on ltsp.img, which brings the site's configuration to every client."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from os.path import dirname, join
from textwrap import wrap

from ltsp.apps import amount
from ltsp.apps.report import Report
from ltsp.apps.site_sources import Server, Warn, account_files, images, named, server, site_files
from ltsp.cpio import newc
from ltsp.errors import ConfError, LockHeld, LtspError
from ltsp.host import files, locks
from ltsp.initrd.site_image import ImageFacts, image_layer
from ltsp.initrd.site_layer import LISTS, Layer, site
from ltsp.initrd.site_passwords import Accounts
from ltsp.initrd.site_settings import ACTED_ON, common, layer, server_facts
from ltsp.publish.failure import told
from ltsp.publish.places import PUBLIC_MODE
from ltsp.publish.store import Store
from ltsp.settings.applets import LtspOptions
from ltsp.settings.client_sections import ClientSettings, client_settings, without_effect
from ltsp.settings.conf_text import REMEDY, Conf
from ltsp.settings.network_options import InitrdOptions
from ltsp.settings.tftp_names import ADD_ON
from ltsp.transform.merge import AccountFiles, Choice, Merged, account_names, merge, people_names
from ltsp.tree.name import printable

_WAIT = 60.0
"""Seconds for which another run is waited for; it takes a few."""
_DIRECTORY_MODE = 0o755
_DIGITS = 4
"""Of the numbers of sections, which shells sort as text."""
_LIST_WIDTH = 72
"""Characters of a list that stand on one line of the table."""
_NAMED = 20
"""So many files of the site are named."""
_CHOICES = frozenset({"PWMERGE_SUR", "PWMERGE_SGR"})


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer, and where it comes from."""

    name: str
    """As in ltsp.img: `section/0001`."""
    title: str
    where: str
    layer: Layer


def initrd(options: InitrdOptions, ltsp: LtspOptions, conf: Conf, report: Report, system: str = "/") -> None:
    """Make it, and put it in the place of the one before, if it is another. `system` is where the server's /etc is.

    Raises ConfError with every line of ltsp.conf that must not reach a client as it is, and LtspError.
    """
    path = _path(ltsp)
    with nullcontext() if options.dry_run else _alone(path, ltsp.tftp_dir):
        made, archive = _made(ltsp, conf, report.warn, system)
        changed = _read(path) != archive
        if changed and not options.dry_run:
            _put(path, archive)
    _tell(made, path, len(archive), report, options, changed=changed)


def refresh(ltsp: LtspOptions, conf: Conf, report: Report, system: str = "/") -> None:
    """Make it again where there is one, after clients were given another version of an image: the server's people are
    in it beside the image's own accounts, which may be others now. Where that fails, it is told and the old one stays.
    """
    path = _path(ltsp)
    if not _read(path):
        return
    warnings: list[str] = []
    try:
        with _alone(path, ltsp.tftp_dir):
            _, archive = _made(ltsp, conf, warnings.append, system)
            if _read(path) == archive:
                return
            _put(path, archive)
    except LtspError as error:
        report.warn(f"{printable(path)} is as it was before, made for earlier accounts: {error.message}; {error.hint}")
        return
    for warning in warnings:
        report.warn(warning)
    report.note(f"made {printable(path)} again, with the accounts of what clients boot now")


def _path(ltsp: LtspOptions) -> str:
    return join(ltsp.tftp_dir, "ltsp", ADD_ON)


def _made(ltsp: LtspOptions, conf: Conf, warn: Warn, system: str) -> tuple[list[_Part], bytes]:
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


def _layers(settings: ClientSettings, conf: Conf, ltsp: LtspOptions, warn: Warn, system: str) -> list[_Part]:
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
        _Part(
            "common",
            settings.common.title,
            settings.common.where,
            replace(base, files={**of_site, **base.files}),
        )
    ]
    for name, facts, each in merged:
        of_image = image_layer(facts, each.files, each.locked, logs_in=logs_in)
        made += [] if of_image.is_empty else [_Part(f"image/{name}", name, name, of_image)]
    width = max(_DIGITS, len(str(len(settings.sections))))
    number = 0
    for section in settings.sections:
        own = layer(section.settings, shared, section.match, accounts, faults, warnings)
        if not own.is_empty:
            number += 1
            made.append(_Part(f"section/{number:0{width}}", section.title, section.where, own))
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


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


@contextmanager
def _alone(path: str, tftp_dir: str) -> Iterator[None]:
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


def _put(path: str, archive: bytes) -> None:
    with told("write", ADD_ON, dirname(path)):
        files.replace(path, archive, PUBLIC_MODE)


def _tell(made: list[_Part], path: str, size: int, report: Report, options: InitrdOptions, *, changed: bool) -> None:
    if options.json:
        report.result(
            {
                "path": path,
                "size": size,
                "changed": changed,
                "written": changed and not options.dry_run,
                "layers": [
                    {
                        "name": each.name,
                        "title": each.title,
                        "where": each.where,
                        "match": list(each.layer.match),
                        "env": dict(each.layer.env),
                        "files": sorted(each.layer.files),
                        "parts": {file: sorted(pieces) for file, pieces in each.layer.parts.items()},
                        "unneeded": list(each.layer.unneeded),
                        "mask": list(each.layer.mask),
                        "disable": list(each.layer.disable),
                        "enable": list(each.layer.enable),
                        "keep": list(each.layer.keep),
                        "remove": list(each.layer.remove),
                        "passwords": sorted(name for name, hashed in each.layer.shadow.items() if hashed != "!"),
                    }
                    for each in made
                ],
            }
        )
        return
    if options.dry_run:
        report.table(("layer", "of", "for", "what"), [_row(each, line) for each in made for line in _lines(each.layer)])
        return
    what = f"{printable(path)}: {amount.size(size)}, {amount.counted(len(made), 'layer')}"
    report.say(what if changed else f"unchanged {what}")
    if files := named(made[0].layer.files):
        more = f", and {len(files) - _NAMED} more; --dry-run lists them" if len(files) > _NAMED else ""
        report.note(f"of /etc/ltsp, clients get {', '.join(map(printable, files[:_NAMED]))}{more}")


def _row(each: _Part, line: str) -> tuple[str, str, str, str]:
    who = " ".join(each.layer.match) or ("every client" if each.name == "common" else "its clients")
    return each.name, printable(each.title), printable(who), printable(line)


def _lines(layer: Layer) -> Iterator[str]:
    """What is in a layer, one thing a line; no password, and no hash."""
    yield from (f"{key}={value}" for key, value in sorted(layer.env.items()))
    yield from (f"file {path}" for path in sorted(layer.files))
    yield from (f"piece of {path}: {name}" for path, each in sorted(layer.parts.items()) for name in sorted(each))
    for name in LISTS:
        entries: tuple[str, ...] = getattr(layer, name)
        yield from (
            f"{name} {line}"
            for line in wrap(" ".join(entries), _LIST_WIDTH, break_long_words=False, break_on_hyphens=False)
        )
    yield from (f"password of {name}" for name, hashed in layer.shadow.items() if hashed != "!")
