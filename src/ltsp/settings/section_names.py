"""Sections of ltsp.conf whose names resemble those of a role or an applet, but match a computer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from ltsp.host.identity import Identity
from ltsp.settings.closest_name import closest_name
from ltsp.settings.conf_keys import CLIENT_APPLETS, SERVER_APPLETS
from ltsp.settings.conf_sections import SPECIAL, included_names
from ltsp.settings.conf_text import Conf, ConfSection

_WORD = re.compile(r"[a-z-]+")
"""Names with digits, dots or wildcards are meant for computers: `[client01]`, `[server*]`."""
_ROLES = SPECIAL - {""}
_APPLETS = CLIENT_APPLETS | SERVER_APPLETS


def warnings(conf: Conf, identity: Identity) -> tuple[str, ...]:
    """A line for each section whose name is probably a mistake."""
    not_hosts = {name for section in conf.sections for name in included_names(section)} | {identity.hostname}
    return tuple(
        f"{conf.where(section.line)}: [{section.name}] {fault}"
        for section in conf.sections
        if section.name not in SPECIAL
        for fault in _faults(section, not_hosts)
    )


def _faults(section: ConfSection, not_hosts: Collection[str]) -> Iterator[str]:
    for pattern in section.patterns:
        head, slash, tail = pattern.partition("/")
        word = head.lower()
        if not _WORD.fullmatch(word) or pattern in not_hosts or section.name in not_hosts:
            continue
        if slash and word not in _APPLETS:
            near = closest_name(word, _APPLETS)
            yield f"has no effect: no applet {head}" + (f"; did you mean [{near}/{tail}]?" if near else "")
        elif not slash and word in _ROLES and len(section.patterns) > 1:
            yield f"matches a computer named {head}: write [{word}] as a section of its own"
        elif not slash and (near := word if word in _ROLES else closest_name(word, _ROLES, 0.8)):
            yield f"matches a computer named {head}; did you mean [{near}]?"
