"""The settings of ltsp.conf for the menu: for all clients, and for those of a section. ltsp.conf(5)"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address

from ltsp.boot import ipxe
from ltsp.boot.menu import HIDDEN_TIMEOUT, INITRDS, TRANSPORTS, ClientSection, MenuOptions
from ltsp.errors import ConfError
from ltsp.settings.client_sections import ClientLayer, read_client_settings
from ltsp.settings.conf import Conf
from ltsp.settings.conf_keys import Reader, keys_of
from ltsp.settings.conf_text import SHELL_CODE_HINT
from ltsp.settings.naming import closest_name
from ltsp.settings.resolve import Setting
from ltsp.tree.name import printable

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_GLOB_CHARACTERS = frozenset("*?[")
_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_TIMEOUT = 24 * 3600 * 1000
"""Milliseconds."""
_TITLE_KEY = re.compile(r"IPXE_\w+_IMG")
_NOT_IN_VARIABLES = re.compile(r"[^A-Z0-9]")


@dataclass(frozen=True, slots=True)
class MenuSettings:
    options: MenuOptions
    sections: tuple[ClientSection, ...]
    warnings: tuple[str, ...] = ()


def read_menu_settings(conf: Conf, server: Mapping[str, Setting], labels: Sequence[str]) -> MenuSettings:
    """The settings for a menu with these entries; `server` are the settings of the server itself.

    Raises ConfError with every invalid value, by file and line.
    """
    clients = read_client_settings(conf)
    warnings = [*clients.warnings, *_find_unused_titles(server, labels)]
    reader = _MenuSettingsReader(labels, warnings, list(clients.faults))
    common = reader.options({**server, **_settings_of_all_clients(conf, clients.common.settings)})
    sections = [section for layer in clients.sections if (section := reader.read_section(layer))]
    if reader.faults:
        raise ConfError("; ".join(dict.fromkeys(reader.faults)), SHELL_CODE_HINT)
    return MenuSettings(common, tuple(sections), tuple(dict.fromkeys(reader.warnings)))


def entry_title(label: str, server: Mapping[str, Setting]) -> str:
    """The title of an entry: IPXE_LAB_IMG for `lab`, and IPXE_R_LAB_IMG for the chroot `r_lab`."""
    setting = server.get(title_key(label))
    return setting.value if setting and setting.value and not setting.fault else label


def title_key(label: str) -> str:
    """Characters that names of variables cannot contain become underscores: IPXE_X86_64_IMG, IPXE_DEBIAN_12_IMG."""
    return f"IPXE_{_NOT_IN_VARIABLES.sub('_', label.upper())}_IMG"


def _find_unused_titles(server: Mapping[str, Setting], labels: Sequence[str]) -> Iterator[str]:
    """A warning for each title without an entry in the menu."""
    keys = [title_key(label) for label in labels]
    for key, setting in server.items():
        if _TITLE_KEY.fullmatch(key) and key not in keys:
            suggestion = f"; did you mean {near}?" if (near := closest_name(key, keys)) else ""
            yield f"{setting.where}: {key}: the menu has no such entry{suggestion}"


def _settings_of_all_clients(conf: Conf, settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings from [clients]; those that clients share with the server are read with [server]."""
    others = Conf(conf.path, tuple(section for section in conf.sections if section.name != "clients"))
    shared = read_client_settings(others).common.settings
    return {key: setting for key, setting in settings.items() if shared.get(key) != setting}


@dataclass(slots=True)
class _MenuSettingsReader:
    labels: Sequence[str]
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def read_section(self, layer: ClientLayer) -> ClientSection | None:
        """None if it does not affect the menu."""
        options = self.options(layer.settings)
        hostname = self._find_hostname(layer)
        if options == MenuOptions() and hostname is None:
            return None
        macs, addresses, hostnames = [], [], []
        for pattern in layer.match:
            if _MAC.fullmatch(pattern):
                macs.append(pattern)
            elif address := _parse_ipv4_address(pattern):
                addresses.append(address)
            elif _GLOB_CHARACTERS & set(pattern):
                if pattern != "*" and options != MenuOptions():
                    self.warnings.append(
                        f"{layer.where}: iPXE has no patterns: the menu settings of {layer.title} do not apply to "
                        f"{pattern}; list each client"
                    )
            else:
                hostnames.append(pattern)
        matches_all = "*" in layer.match
        if not (macs or addresses or hostnames or matches_all):
            return None
        return ClientSection(
            tuple(macs),
            tuple(addresses),
            tuple(hostnames),
            matches_all=matches_all,
            hostname=None if matches_all else hostname,
            options=options,
        )

    def options(self, settings: Mapping[str, Setting]) -> MenuOptions:
        given = {key: setting for key in keys_of(Reader.IPXE) if (setting := settings.get(key))}
        self.faults += [f"{each.where}: {each.key}: {each.fault}" for each in given.values() if each.fault]
        valid = {key: setting for key, setting in given.items() if not setting.fault}
        return MenuOptions(
            self._check_default(valid.get("DEFAULT_IMAGE")),
            self._check_parameters(valid.get("KERNEL_PARAMETERS")),
            self._check_timeout(valid.get("MENU_TIMEOUT")),
            self._check_choice(valid.get("IMAGE_TRANSPORT"), TRANSPORTS),
            self._check_choice(valid.get("CLIENT_INITRD"), INITRDS),
        )

    def _find_hostname(self, layer: ClientLayer) -> str | None:
        """The hostname that the section sets, unless it is a template, which only clients can expand."""
        setting = layer.settings.get("HOSTNAME")
        if setting is None or setting.fault or not _HOSTNAME.fullmatch(setting.value):
            return None
        return setting.value

    def _check_default(self, setting: Setting | None) -> str | None:
        if setting is None or not setting.value:
            return None
        if setting.value not in self.labels:
            known = ", ".join(self.labels) or "the built-in ones"
            self.warnings.append(
                f"{setting.where}: DEFAULT_IMAGE: the menu has no entry {printable(setting.value)!r}, only {known}"
            )
            return None
        return setting.value

    def _check_parameters(self, setting: Setting | None) -> str | None:
        if setting is None:
            return None
        try:
            return ipxe.check_parameters(setting.value, setting.key, setting.where)
        except ConfError as fault:
            self.faults.append(f"{fault.message} ({fault.hint})")
            return None

    def _check_timeout(self, setting: Setting | None) -> int | None:
        if setting is None or not setting.value:
            return None
        text = setting.value
        if text == str(HIDDEN_TIMEOUT):
            return HIDDEN_TIMEOUT
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= _MAX_TIMEOUT):
            self.faults.append(
                f"{setting.where}: MENU_TIMEOUT: {text!a} is not a number of milliseconds up to {_MAX_TIMEOUT}; "
                "0 waits forever, and -1 hides the menu"
            )
            return None
        return int(text)

    def _check_choice(self, setting: Setting | None, choices: Sequence[str]) -> str | None:
        if setting is None or not setting.value:
            return None
        if setting.value not in choices:
            self.faults.append(f"{setting.where}: {setting.key}: {setting.value!a} is not one of {', '.join(choices)}")
            return None
        return setting.value


def _parse_ipv4_address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except AddressValueError:
        return None
