"""Commands of ltsp.conf to run before and after an applet: PRE_IMAGE_x and POST_IMAGE_x."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ltsp.settings.resolve import Setting


@dataclass(frozen=True, slots=True)
class Hook:
    key: str
    command: str
    """For a shell."""
    where: str
    """File and line: `/etc/ltsp/ltsp.conf:12`."""


@dataclass(frozen=True, slots=True)
class Hooks:
    before: tuple[Hook, ...] = ()
    after: tuple[Hook, ...] = ()

    @property
    def writable_root(self) -> tuple[Hook, ...]:
        """Those that mention LTSP_ROOT, and so need a writable tree."""
        return tuple(hook for hook in (*self.before, *self.after) if "LTSP_ROOT" in hook.command)


def find_hooks(conf: Mapping[str, Setting], applet: str, faults: list[str]) -> Hooks:
    """The commands of an applet, each list in the order of the keys; empty ones are skipped."""
    variable = applet.upper().replace("-", "_")
    return Hooks(*(_commands(conf, f"{when}_{variable}_", faults) for when in ("PRE", "POST")))


def _commands(conf: Mapping[str, Setting], prefix: str, faults: list[str]) -> tuple[Hook, ...]:
    found = [conf[key] for key in sorted(conf) if key.startswith(prefix)]
    faults += [f"{setting.where}: {setting.key}: {setting.fault}" for setting in found if setting.fault]
    return tuple(Hook(each.key, each.value, each.where) for each in found if each.value and not each.fault)
