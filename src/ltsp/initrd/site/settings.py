"""The settings of a section, or of all clients, as a layer of ltsp.img. ltsp.conf(5)

A section's layer contains only that section's settings. Thanks to pieces, drop-ins and lists, several sections can add
to one file, and a later section can override an earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ltsp.initrd.site import client_texts, login, quoting, services
from ltsp.initrd.site.layer import LayerBuilder, SiteLayer, make_symlink, make_text_file
from ltsp.initrd.site.passwords import Accounts, hash_passwords
from ltsp.initrd.site.services import ServicePolicy
from ltsp.settings.resolve import Setting

DEFAULT_JOURNAL_SIZE = "16M"
"""The default; journald's own would be a tenth of the memory."""
_JOURNALD_CONF_PATH = "etc/systemd/journald.conf.d/ltsp.conf"


Handler = Callable[[LayerBuilder, Setting], None]
"""Applies a setting to the layer; raises ValueError with the reason if it is invalid."""


def build_section_layer(
    section_settings: Mapping[str, Setting],
    common_settings: Mapping[str, Setting],
    match: tuple[str, ...],
    accounts: Accounts,
    faults: list[str],
    warnings: list[str],
) -> SiteLayer:
    """The layer of a section. Invalid settings are reported in `faults` with file and line, and left out."""
    builder = LayerBuilder(common_settings, accounts, warnings, section_settings=section_settings)
    _apply_settings(builder, faults)
    return builder.build(match)


def build_common_layer(
    section_settings: Mapping[str, Setting],
    accounts: Accounts,
    faults: list[str],
    warnings: list[str],
    *,
    has_autologin: bool,
) -> SiteLayer:
    """The layer of every client: defaults for diskless clients, and the settings for all. `has_autologin`: whether any
    section has AUTOLOGIN.
    """
    builder = LayerBuilder(section_settings, accounts, warnings, section_settings=section_settings)
    for path, pieces in client_texts.COMMON_PIECES.items():
        for name, text in pieces.items():
            builder.add_piece(path, name, text)
    for unit, text in client_texts.CLIENT_UNITS.items():
        builder.add_file(f"{client_texts.UNIT_DIRECTORY}/{unit}", text)
        builder.add("enable", [unit])
    builder.add_file(_JOURNALD_CONF_PATH, _format_journald_conf(DEFAULT_JOURNAL_SIZE))
    builder.add("remove", services.list_units_by_policy(ServicePolicy.CRON))
    builder.add("unneeded", services.list_units_by_policy(ServicePolicy.MASKED))
    builder.add("disable", services.list_units_by_policy(ServicePolicy.DISABLED))
    if has_autologin:
        for path, text in client_texts.AUTOLOGIN_FILES.items():
            builder.files[path] = make_text_file(text)
        builder.add_login_files(login.relogin_files(enabled=True))
    for unit_name in services.list_units_by_policy(ServicePolicy.SESSION):
        _mask_session_service(builder, unit_name)
    _apply_settings(builder, faults)
    kept = set(builder.lists.pop("keep", []))
    for name in ("unneeded", "mask", "disable"):
        builder.lists[name] = [unit for unit in builder.lists.get(name, ()) if unit not in kept]
    return builder.build(())


def server_facts(common_settings: Mapping[str, Setting]) -> dict[str, str]:
    """The content of `/ltsp/site/server`; an invalid SERVER is reported by the common layer."""
    setting = common_settings.get("SERVER")
    try:
        return {"SERVER": quoting.check_machine(setting.value)} if setting and not setting.fault else {}
    except ValueError:
        return {}


def _apply_settings(builder: LayerBuilder, faults: list[str]) -> None:
    for key, setting in sorted(builder.section_settings.items()):
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
    if key in _HANDLERS_BY_KEY:
        return _HANDLERS_BY_KEY[key]
    return next(
        (handler for stem, handler in _HANDLERS_BY_PREFIX.items() if key.startswith(stem) and key != stem), None
    )


# Names and addresses


def _make_env_handler(check: Callable[[str], str]) -> Handler:
    def handle(builder: LayerBuilder, setting: Setting) -> None:
        builder.env[setting.key] = check(setting.value)

    return handle


def _set_server(builder: LayerBuilder, setting: Setting) -> None:
    builder.env[setting.key] = server = quoting.check_machine(setting.value)
    if quoting.is_address(server):
        builder.add_piece("etc/hosts", "20-server", f"{server}\tserver\n")


def _set_search_domain(builder: LayerBuilder, setting: Setting) -> None:
    domains = quoting.check_domains(setting.value)
    builder.env[setting.key] = domains
    first = domains.split(" ")[0].rstrip(".")
    builder.add_piece(
        "etc/hosts", "10-name", f"127.0.1.1\t%{{HOSTNAME}}.{first} %{{HOSTNAME}}\n" if first else _hostname_line()
    )


def _hostname_line() -> str:
    return client_texts.COMMON_PIECES["etc/hosts"]["10-name"]


def _make_piece_handler(path: str, check: Callable[[str], str]) -> Handler:
    def handle(builder: LayerBuilder, setting: Setting) -> None:
        line = check(setting.value)
        builder.add_piece(path, setting.key, line and line + "\n")

    return handle


def _add_fstab_line(builder: LayerBuilder, setting: Setting) -> None:
    line = quoting.check_fstab_line(setting.value)
    if re.search(r"\bpass(word)?=", line):
        builder.warnings.append(f"{setting.where}: {setting.key} contains a password that every client can read")
    builder.add_piece("etc/fstab", setting.key, line and line + "\n")


def _add_crontab_line(builder: LayerBuilder, setting: Setting) -> None:
    line = quoting.check_crontab_line(setting.value)
    builder.add_piece("etc/cron.d/ltsp", "00-head", _CRON_HEAD)
    builder.add_piece("etc/cron.d/ltsp", setting.key, line and line + "\n")


_CRON_HEAD = client_texts.HEADER + "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"


# The system


def _set_time_zone(builder: LayerBuilder, setting: Setting) -> None:
    zone = quoting.check_time_zone(setting.value)
    builder.files["etc/localtime"] = make_symlink(f"/usr/share/zoneinfo/{zone}")
    builder.add_file("etc/timezone", f"{zone}\n")


def _set_journal_size(builder: LayerBuilder, setting: Setting) -> None:
    builder.add_file(_JOURNALD_CONF_PATH, _format_journald_conf(quoting.check_size(setting.value)))


def _format_journald_conf(size: str) -> str:
    """Keep the journal in memory, and forward nothing to a daemon that would write it again. journald.conf(5)"""
    return f"{client_texts.HEADER}[Journal]\nStorage=volatile\nRuntimeMaxUse={size}\nForwardToSyslog=no\n"


def _set_local_swap(builder: LayerBuilder, setting: Setting) -> None:
    if quoting.parse_flag(setting.value):
        builder.add("keep", [client_texts.SWAP_UNIT])
        builder.add("enable", [client_texts.SWAP_UNIT])
    else:
        builder.add("mask", [client_texts.SWAP_UNIT])


def _make_units_handler(name: str) -> Handler:
    def handle(builder: LayerBuilder, setting: Setting) -> None:
        builder.add(name, services.units_to_disable(quoting.parse_unit_words(setting.value)))

    return handle


def _keep_system_services(builder: LayerBuilder, setting: Setting) -> None:
    builder.add("keep", services.units_to_keep(quoting.parse_unit_words(setting.value)))


def _mask_session_services(builder: LayerBuilder, setting: Setting) -> None:
    for unit_name in quoting.parse_unit_words(setting.value):
        _mask_session_service(builder, unit_name)


def _mask_session_service(builder: LayerBuilder, unit_name: str) -> None:
    unit = unit_name if quoting.has_unit_suffix(unit_name) else f"{unit_name}.service"
    kept = builder.value("KEEP_SESSION_SERVICES").split()
    if unit_name not in kept and unit not in kept:
        builder.files[f"etc/systemd/user/{unit}"] = make_symlink("/dev/null")
        builder.add("remove", [f"etc/xdg/autostart/{unit_name.removesuffix('.service')}.desktop"])


def _keep_session_services(builder: LayerBuilder, setting: Setting) -> None:
    """A section can restore a unit, but not an autostart entry."""
    words = quoting.parse_unit_words(setting.value)
    if builder.section_settings is not builder.common_settings:
        builder.add("remove", [f"etc/systemd/user/{unit}" for unit in quoting.parse_units(" ".join(words))])


def _set_cups_server(builder: LayerBuilder, setting: Setting) -> None:
    if setting.value == "ignore":
        return
    server = quoting.check_machine_or_server(setting.value)
    builder.add_file("etc/cups/client.conf", f"{client_texts.HEADER}ServerName {server}\n")
    builder.add("keep" if server == "localhost" else "mask", services.units_to_disable(["cups"]))


def _make_script_handler(directory: str) -> Handler:
    def handle(builder: LayerBuilder, setting: Setting) -> None:
        text = quoting.check_script(setting.value)
        builder.files[f"{directory}/{setting.key}"] = make_text_file(text, 0o755)

    return handle


# People


def _set_autologin(builder: LayerBuilder, setting: Setting) -> None:
    builder.add_login_files(login.autologin_files(login.parse_account(setting.value)))


def _set_relogin(builder: LayerBuilder, setting: Setting) -> None:
    builder.add_login_files(login.relogin_files(quoting.parse_flag(setting.value)))


def _configure_display_manager(builder: LayerBuilder, setting: Setting) -> None:
    builder.add_login_files(login.display_manager_files(setting.key, quoting.check_ini_lines(setting.value)))


def _set_passwords(builder: LayerBuilder, setting: Setting) -> None:
    builder.shadow |= hash_passwords(setting, builder.accounts, builder.warnings)


_HANDLERS_BY_KEY: Mapping[str, Handler] = {
    "HOSTNAME": _make_env_handler(quoting.check_hostname),
    "SERVER": _set_server,
    "DNS_SERVER": _make_env_handler(quoting.check_addresses),
    "SEARCH_DOMAIN": _set_search_domain,
    "TIMEZONE": _set_time_zone,
    "JOURNAL_SIZE": _set_journal_size,
    "LOCAL_SWAP": _set_local_swap,
    "MASK_SYSTEM_SERVICES": _make_units_handler("mask"),
    "DISABLE_SYSTEM_SERVICES": _make_units_handler("disable"),
    "KEEP_SYSTEM_SERVICES": _keep_system_services,
    "MASK_SESSION_SERVICES": _mask_session_services,
    "KEEP_SESSION_SERVICES": _keep_session_services,
    "CUPS_SERVER": _set_cups_server,
    "AUTOLOGIN": _set_autologin,
    "RELOGIN": _set_relogin,
    "GDM3_CONF": _configure_display_manager,
    "LIGHTDM_CONF": _configure_display_manager,
    "SDDM_CONF": _configure_display_manager,
}
_HANDLERS_BY_PREFIX: Mapping[str, Handler] = {
    "HOSTS_": _make_piece_handler("etc/hosts", quoting.check_hosts_line),
    "FSTAB_": _add_fstab_line,
    "CRONTAB_": _add_crontab_line,
    "PASSWORDS_": _set_passwords,
    "PRE_INIT_": _make_script_handler(client_texts.PRE_INIT_DIRECTORY),
    "POST_INIT_": _make_script_handler(client_texts.POST_INIT_DIRECTORY),
}
