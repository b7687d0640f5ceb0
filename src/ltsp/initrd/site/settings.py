"""The settings of a section, or of all clients, as a layer of ltsp.img. ltsp.conf(5)

What a section says goes into its own layer and nothing else does: pieces, drop-ins and lists are laid so that several
sections may add to one file, and a later one may take back what an earlier one said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ltsp.initrd.site import login, quoting, services, units
from ltsp.initrd.site.draft import Draft
from ltsp.initrd.site.layer import Layer, link, text_file
from ltsp.initrd.site.passwords import Accounts, passwords
from ltsp.initrd.site.services import Fate
from ltsp.settings.resolve import Setting

JOURNAL_SIZE = "16M"
"""By default; journald itself would take a tenth of the memory."""
_JOURNAL = "etc/systemd/journald.conf.d/ltsp.conf"


Handler = Callable[[Draft, Setting], None]
"""Puts what a setting says into the draft; raises ValueError with the reason where it must not go there."""


def layer(
    own: Mapping[str, Setting],
    shared: Mapping[str, Setting],
    match: tuple[str, ...],
    accounts: Accounts,
    faults: list[str],
    warnings: list[str],
) -> Layer:
    """The layer of a section. Faults have file and line; a setting that has one is not in the layer."""
    draft = Draft(shared, accounts, warnings, own=own)
    _act(draft, faults)
    return draft.done(match)


def common(
    own: Mapping[str, Setting], accounts: Accounts, faults: list[str], warnings: list[str], *, logs_in: bool
) -> Layer:
    """The layer of every client: what one without disks needs, and what ltsp.conf says to all. `logs_in`: whether any
    section has AUTOLOGIN.
    """
    draft = Draft(own, accounts, warnings, own=own)
    for path, pieces in units.PARTS.items():
        for name, text in pieces.items():
            draft.piece(path, name, text)
    for unit, text in units.OWN_UNITS.items():
        draft.file(f"{units.UNITS}/{unit}", text)
        draft.add("enable", [unit])
    draft.file(_JOURNAL, _journal(JOURNAL_SIZE))
    draft.add("remove", services.default_units(Fate.CRON))
    draft.add("unneeded", services.default_units(Fate.MASKED))
    draft.add("disable", services.default_units(Fate.DISABLED))
    if logs_in:
        for path, text in units.AUTOLOGIN_FILES.items():
            draft.files[path] = text_file(text)
        draft.login(login.relogin(again=True))
    for word in services.default_units(Fate.SESSION):
        _mask_session(draft, word)
    _act(draft, faults)
    kept = set(draft.lists.pop("keep", []))
    for name in ("unneeded", "mask", "disable"):
        draft.lists[name] = [unit for unit in draft.lists.get(name, ()) if unit not in kept]
    return draft.done(())


def server_facts(shared: Mapping[str, Setting]) -> dict[str, str]:
    """What `/ltsp/site/server` says; a wrong SERVER is a fault of the common layer."""
    setting = shared.get("SERVER")
    try:
        return {"SERVER": quoting.machine(setting.value)} if setting and not setting.fault else {}
    except ValueError:
        return {}


def _act(draft: Draft, faults: list[str]) -> None:
    for key, setting in sorted(draft.own.items()):
        handler = _handler(key)
        if handler is None:
            continue
        if setting.fault:
            faults.append(f"{setting.where}: {key}: {setting.fault}")
            continue
        try:
            handler(draft, setting)
        except ValueError as error:
            faults.append(f"{setting.where}: {key} {error}")


def _handler(key: str) -> Handler | None:
    if key in _HANDLERS:
        return _HANDLERS[key]
    return next((handler for stem, handler in _FAMILIES.items() if key.startswith(stem) and key != stem), None)


# Names and addresses


def _env(check: Callable[[str], str]) -> Handler:
    def handle(draft: Draft, setting: Setting) -> None:
        draft.env[setting.key] = check(setting.value)

    return handle


def _server(draft: Draft, setting: Setting) -> None:
    draft.env[setting.key] = server = quoting.machine(setting.value)
    if quoting.is_address(server):
        draft.piece("etc/hosts", "20-server", f"{server}\tserver\n")


def _search_domain(draft: Draft, setting: Setting) -> None:
    domains = quoting.domains(setting.value)
    draft.env[setting.key] = domains
    first = domains.split(" ")[0].rstrip(".")
    draft.piece("etc/hosts", "10-name", f"127.0.1.1\t%{{HOSTNAME}}.{first} %{{HOSTNAME}}\n" if first else _name_line())


def _name_line() -> str:
    return units.PARTS["etc/hosts"]["10-name"]


def _piece(path: str, check: Callable[[str], str]) -> Handler:
    def handle(draft: Draft, setting: Setting) -> None:
        line = check(setting.value)
        draft.piece(path, setting.key, line and line + "\n")

    return handle


def _fstab(draft: Draft, setting: Setting) -> None:
    line = quoting.fstab_line(setting.value)
    if re.search(r"\bpass(word)?=", line):
        draft.warnings.append(f"{setting.where}: {setting.key} holds a password, and whoever can boot can read it")
    draft.piece("etc/fstab", setting.key, line and line + "\n")


def _crontab(draft: Draft, setting: Setting) -> None:
    line = quoting.crontab_line(setting.value)
    draft.piece("etc/cron.d/ltsp", "00-head", _CRON_HEAD)
    draft.piece("etc/cron.d/ltsp", setting.key, line and line + "\n")


_CRON_HEAD = units.HEAD + "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"


# The system


def _time_zone(draft: Draft, setting: Setting) -> None:
    zone = quoting.zone(setting.value)
    draft.files["etc/localtime"] = link(f"/usr/share/zoneinfo/{zone}")
    draft.file("etc/timezone", f"{zone}\n")


def _journal_size(draft: Draft, setting: Setting) -> None:
    draft.file(_JOURNAL, _journal(quoting.size(setting.value)))


def _journal(size: str) -> str:
    """In memory, and nothing passed on to a daemon that would write it there once more. journald.conf(5)"""
    return f"{units.HEAD}[Journal]\nStorage=volatile\nRuntimeMaxUse={size}\nForwardToSyslog=no\n"


def _local_swap(draft: Draft, setting: Setting) -> None:
    if quoting.flag(setting.value):
        draft.add("keep", [units.SWAP_UNIT])
        draft.add("enable", [units.SWAP_UNIT])
    else:
        draft.add("mask", [units.SWAP_UNIT])


def _units(name: str) -> Handler:
    def handle(draft: Draft, setting: Setting) -> None:
        draft.add(name, services.switched_off(quoting.unit_words(setting.value)))

    return handle


def _keep(draft: Draft, setting: Setting) -> None:
    draft.add("keep", services.kept(quoting.unit_words(setting.value)))


def _mask_session_services(draft: Draft, setting: Setting) -> None:
    for word in quoting.unit_words(setting.value):
        _mask_session(draft, word)


def _mask_session(draft: Draft, word: str) -> None:
    unit = word if quoting.has_kind(word) else f"{word}.service"
    kept = draft.value("KEEP_SESSION_SERVICES").split()
    if word not in kept and unit not in kept:
        draft.files[f"etc/systemd/user/{unit}"] = link("/dev/null")
        draft.add("remove", [f"etc/xdg/autostart/{word.removesuffix('.service')}.desktop"])


def _keep_session_services(draft: Draft, setting: Setting) -> None:
    """A section cannot bring back an entry of autostart, but can a unit."""
    words = quoting.unit_words(setting.value)
    if draft.own is not draft.shared:
        draft.add("remove", [f"etc/systemd/user/{unit}" for unit in quoting.units(" ".join(words))])


def _cups_server(draft: Draft, setting: Setting) -> None:
    if setting.value == "ignore":
        return
    server = quoting.machine_or_server(setting.value)
    draft.file("etc/cups/client.conf", f"{units.HEAD}ServerName {server}\n")
    draft.add("keep" if server == "localhost" else "mask", services.switched_off(["cups"]))


def _script(directory: str) -> Handler:
    def handle(draft: Draft, setting: Setting) -> None:
        text = quoting.script(setting.value)
        draft.files[f"{directory}/{setting.key}"] = text_file(text, 0o755)

    return handle


# People


def _autologin(draft: Draft, setting: Setting) -> None:
    draft.login(login.autologin(login.account(setting.value)))


def _relogin(draft: Draft, setting: Setting) -> None:
    draft.login(login.relogin(quoting.flag(setting.value)))


def _display_manager(draft: Draft, setting: Setting) -> None:
    draft.login(login.more(setting.key, quoting.ini_lines(setting.value)))


def _passwords(draft: Draft, setting: Setting) -> None:
    draft.shadow |= passwords(setting, draft.accounts, draft.warnings)


_HANDLERS: Mapping[str, Handler] = {
    "HOSTNAME": _env(quoting.hostname),
    "SERVER": _server,
    "DNS_SERVER": _env(quoting.addresses),
    "SEARCH_DOMAIN": _search_domain,
    "TIMEZONE": _time_zone,
    "JOURNAL_SIZE": _journal_size,
    "LOCAL_SWAP": _local_swap,
    "MASK_SYSTEM_SERVICES": _units("mask"),
    "DISABLE_SYSTEM_SERVICES": _units("disable"),
    "KEEP_SYSTEM_SERVICES": _keep,
    "MASK_SESSION_SERVICES": _mask_session_services,
    "KEEP_SESSION_SERVICES": _keep_session_services,
    "CUPS_SERVER": _cups_server,
    "AUTOLOGIN": _autologin,
    "RELOGIN": _relogin,
    "GDM3_CONF": _display_manager,
    "LIGHTDM_CONF": _display_manager,
    "SDDM_CONF": _display_manager,
}
_FAMILIES: Mapping[str, Handler] = {
    "HOSTS_": _piece("etc/hosts", quoting.hosts_line),
    "FSTAB_": _fstab,
    "CRONTAB_": _crontab,
    "PASSWORDS_": _passwords,
    "PRE_INIT_": _script(units.PRE_INIT),
    "POST_INIT_": _script(units.POST_INIT),
}
ACTED_ON = (*_HANDLERS, *(f"{stem}*" for stem in _FAMILIES), "PWMERGE_SUR", "PWMERGE_SGR")
"""Keys of clients, and globs of keys, that come to something."""
