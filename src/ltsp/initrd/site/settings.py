"""The settings of a section, or of all clients, as a layer of ltsp.img. ltsp.conf(5)

A section's layer contains only that section's settings. Thanks to pieces, drop-ins and lists, several sections can add
to one file, and a later section can override an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ltsp.initrd.site import client_texts, login, quoting, services
from ltsp.initrd.site.layer import LayerBuilder, SiteLayer, make_symlink, text_file
from ltsp.initrd.site.passwords import Accounts, hash_passwords
from ltsp.initrd.site.services import ServicePolicy
from ltsp.settings.resolve import Setting

JOURNAL_SIZE = "16M"
"""The default; journald's own would be a tenth of the memory."""
_JOURNAL = "etc/systemd/journald.conf.d/ltsp.conf"


Handler = Callable[[LayerBuilder, Setting], None]
"""Applies a setting to the layer; raises ValueError with the reason if it is invalid."""


def build_section_layer(
    own: Mapping[str, Setting],
    shared: Mapping[str, Setting],
    match: tuple[str, ...],
    accounts: Accounts,
    faults: list[str],
    warnings: list[str],
) -> SiteLayer:
    """The layer of a section. Invalid settings are reported in `faults` with file and line, and left out."""
    builder = LayerBuilder(shared, accounts, warnings, own=own)
    _apply_settings(builder, faults)
    return builder.build(match)


def build_common_layer(
    own: Mapping[str, Setting], accounts: Accounts, faults: list[str], warnings: list[str], *, logs_in: bool
) -> SiteLayer:
    """The layer of every client: defaults for diskless clients, and the settings for all. `logs_in`: whether any
    section has AUTOLOGIN.
    """
    builder = LayerBuilder(own, accounts, warnings, own=own)
    for path, pieces in client_texts.PARTS.items():
        for name, text in pieces.items():
            builder.add_piece(path, name, text)
    for unit, text in client_texts.OWN_UNITS.items():
        builder.add_file(f"{client_texts.UNITS}/{unit}", text)
        builder.add("enable", [unit])
    builder.add_file(_JOURNAL, _journal(JOURNAL_SIZE))
    builder.add("remove", services.default_units(ServicePolicy.CRON))
    builder.add("unneeded", services.default_units(ServicePolicy.MASKED))
    builder.add("disable", services.default_units(ServicePolicy.DISABLED))
    if logs_in:
        for path, text in client_texts.AUTOLOGIN_FILES.items():
            builder.files[path] = text_file(text)
        builder.login(login.relogin_files(again=True))
    for word in services.default_units(ServicePolicy.SESSION):
        _mask_session(builder, word)
    _apply_settings(builder, faults)
    kept = set(builder.lists.pop("keep", []))
    for name in ("unneeded", "mask", "disable"):
        builder.lists[name] = [unit for unit in builder.lists.get(name, ()) if unit not in kept]
    return builder.build(())


def server_facts(shared: Mapping[str, Setting]) -> dict[str, str]:
    """The content of `/ltsp/site/server`; an invalid SERVER is reported by the common layer."""
    setting = shared.get("SERVER")
    try:
        return {"SERVER": quoting.machine(setting.value)} if setting and not setting.fault else {}
    except ValueError:
        return {}


def _apply_settings(builder: LayerBuilder, faults: list[str]) -> None:
    for key, setting in sorted(builder.own.items()):
        handler = _find_handler(key)
        if handler is None:
            continue
        if setting.fault:
            faults.append(f"{setting.where}: {key}: {setting.fault}")
            continue
        try:
            handler(builder, setting)
        except ValueError as error:
            faults.append(f"{setting.where}: {key} {error}")


def _find_handler(key: str) -> Handler | None:
    if key in _HANDLERS:
        return _HANDLERS[key]
    return next((handler for stem, handler in _FAMILIES.items() if key.startswith(stem) and key != stem), None)


# Names and addresses


def _env_handler(check: Callable[[str], str]) -> Handler:
    def handle(builder: LayerBuilder, setting: Setting) -> None:
        builder.env[setting.key] = check(setting.value)

    return handle


def _server(builder: LayerBuilder, setting: Setting) -> None:
    builder.env[setting.key] = server = quoting.machine(setting.value)
    if quoting.is_address(server):
        builder.add_piece("etc/hosts", "20-server", f"{server}\tserver\n")


def _search_domain(builder: LayerBuilder, setting: Setting) -> None:
    domains = quoting.domains(setting.value)
    builder.env[setting.key] = domains
    first = domains.split(" ")[0].rstrip(".")
    builder.add_piece(
        "etc/hosts", "10-name", f"127.0.1.1\t%{{HOSTNAME}}.{first} %{{HOSTNAME}}\n" if first else _name_line()
    )


def _name_line() -> str:
    return client_texts.PARTS["etc/hosts"]["10-name"]


def _piece_handler(path: str, check: Callable[[str], str]) -> Handler:
    def handle(builder: LayerBuilder, setting: Setting) -> None:
        line = check(setting.value)
        builder.add_piece(path, setting.key, line and line + "\n")

    return handle


def _fstab(builder: LayerBuilder, setting: Setting) -> None:
    line = quoting.fstab_line(setting.value)
    if re.search(r"\bpass(word)?=", line):
        builder.warnings.append(f"{setting.where}: {setting.key} contains a password that every client can read")
    builder.add_piece("etc/fstab", setting.key, line and line + "\n")


def _crontab(builder: LayerBuilder, setting: Setting) -> None:
    line = quoting.crontab_line(setting.value)
    builder.add_piece("etc/cron.d/ltsp", "00-head", _CRON_HEAD)
    builder.add_piece("etc/cron.d/ltsp", setting.key, line and line + "\n")


_CRON_HEAD = client_texts.HEAD + "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"


# The system


def _time_zone(builder: LayerBuilder, setting: Setting) -> None:
    zone = quoting.zone(setting.value)
    builder.files["etc/localtime"] = make_symlink(f"/usr/share/zoneinfo/{zone}")
    builder.add_file("etc/timezone", f"{zone}\n")


def _journal_size(builder: LayerBuilder, setting: Setting) -> None:
    builder.add_file(_JOURNAL, _journal(quoting.size(setting.value)))


def _journal(size: str) -> str:
    """Keep the journal in memory, and forward nothing to a daemon that would write it again. journald.conf(5)"""
    return f"{client_texts.HEAD}[Journal]\nStorage=volatile\nRuntimeMaxUse={size}\nForwardToSyslog=no\n"


def _local_swap(builder: LayerBuilder, setting: Setting) -> None:
    if quoting.flag(setting.value):
        builder.add("keep", [client_texts.SWAP_UNIT])
        builder.add("enable", [client_texts.SWAP_UNIT])
    else:
        builder.add("mask", [client_texts.SWAP_UNIT])


def _units_handler(name: str) -> Handler:
    def handle(builder: LayerBuilder, setting: Setting) -> None:
        builder.add(name, services.units_to_disable(quoting.unit_words(setting.value)))

    return handle


def _keep(builder: LayerBuilder, setting: Setting) -> None:
    builder.add("keep", services.units_to_keep(quoting.unit_words(setting.value)))


def _mask_session_services(builder: LayerBuilder, setting: Setting) -> None:
    for word in quoting.unit_words(setting.value):
        _mask_session(builder, word)


def _mask_session(builder: LayerBuilder, word: str) -> None:
    unit = word if quoting.has_kind(word) else f"{word}.service"
    kept = builder.value("KEEP_SESSION_SERVICES").split()
    if word not in kept and unit not in kept:
        builder.files[f"etc/systemd/user/{unit}"] = make_symlink("/dev/null")
        builder.add("remove", [f"etc/xdg/autostart/{word.removesuffix('.service')}.desktop"])


def _keep_session_services(builder: LayerBuilder, setting: Setting) -> None:
    """A section can restore a unit, but not an autostart entry."""
    words = quoting.unit_words(setting.value)
    if builder.own is not builder.shared:
        builder.add("remove", [f"etc/systemd/user/{unit}" for unit in quoting.units(" ".join(words))])


def _cups_server(builder: LayerBuilder, setting: Setting) -> None:
    if setting.value == "ignore":
        return
    server = quoting.machine_or_server(setting.value)
    builder.add_file("etc/cups/client.conf", f"{client_texts.HEAD}ServerName {server}\n")
    builder.add("keep" if server == "localhost" else "mask", services.units_to_disable(["cups"]))


def _script_handler(directory: str) -> Handler:
    def handle(builder: LayerBuilder, setting: Setting) -> None:
        text = quoting.script(setting.value)
        builder.files[f"{directory}/{setting.key}"] = text_file(text, 0o755)

    return handle


# People


def _autologin(builder: LayerBuilder, setting: Setting) -> None:
    builder.login(login.autologin_files(login.parse_account(setting.value)))


def _relogin(builder: LayerBuilder, setting: Setting) -> None:
    builder.login(login.relogin_files(quoting.flag(setting.value)))


def _display_manager(builder: LayerBuilder, setting: Setting) -> None:
    builder.login(login.display_manager_files(setting.key, quoting.ini_lines(setting.value)))


def _passwords(builder: LayerBuilder, setting: Setting) -> None:
    builder.shadow |= hash_passwords(setting, builder.accounts, builder.warnings)


_HANDLERS: Mapping[str, Handler] = {
    "HOSTNAME": _env_handler(quoting.hostname),
    "SERVER": _server,
    "DNS_SERVER": _env_handler(quoting.addresses),
    "SEARCH_DOMAIN": _search_domain,
    "TIMEZONE": _time_zone,
    "JOURNAL_SIZE": _journal_size,
    "LOCAL_SWAP": _local_swap,
    "MASK_SYSTEM_SERVICES": _units_handler("mask"),
    "DISABLE_SYSTEM_SERVICES": _units_handler("disable"),
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
    "HOSTS_": _piece_handler("etc/hosts", quoting.hosts_line),
    "FSTAB_": _fstab,
    "CRONTAB_": _crontab,
    "PASSWORDS_": _passwords,
    "PRE_INIT_": _script_handler(client_texts.PRE_INIT),
    "POST_INIT_": _script_handler(client_texts.POST_INIT),
}
