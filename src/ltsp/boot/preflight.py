"""The preflight check of an image when it is built: what its kernel lacks to boot clients, and which package has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ltsp.boot.distribution import NBD_CLIENT_PACKAGES, Distribution, suggest_kernel_package
from ltsp.errors import LtspError
from ltsp.settings.naming import closest_name
from ltsp.tree.name import printable


class Severity(Enum):
    ERROR = "error"
    """No client can boot the image."""
    WARNING = "warning"
    """Some clients cannot boot it, or not by some transport."""


@dataclass(frozen=True, slots=True)
class PreflightProblem:
    severity: Severity
    message: str
    hint: str
    """What to install in the source, or to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightFacts:
    """What is known of an image and its kernel."""

    version: str
    modules: frozenset[str]
    """Names of all loadable and built-in modules, with underscores."""
    network_drivers: frozenset[str]
    """Drivers of wired network cards that are not blocked."""
    blocked_drivers: Mapping[str, str] = field(default_factory=dict)
    """Drivers of wired network cards that the image's modprobe.d blocks: by name, the file that does."""
    chosen_drivers: tuple[str, ...] = ()
    """The only drivers that the initrd shall have; empty for all."""
    kernel_options: frozenset[str] | None
    """The kernel's configuration; None if the image does not say."""
    image_codec: str
    """The compression of the image."""
    kernel_codecs: frozenset[str] | None
    """The compressions that the kernel supports; None if the image does not say."""
    has_nbd_client: bool
    distribution: Distribution


_REQUIRED_MODULES: Final[Mapping[str, str]] = {
    "overlay": "makes the root writable",
    "squashfs": "reads the image",
    "loop": "attaches the image's file",
    "af_packet": "is needed for DHCP",
}
"""Modules without which no client boots, and their purpose."""
_REQUIRED_OPTIONS: Final[Mapping[str, str]] = {
    "CONFIG_BLK_DEV_INITRD": "support for initrds",
    "CONFIG_DEVTMPFS": "devtmpfs",
    "CONFIG_TMPFS": "tmpfs",
}
_COMMON_NETWORK_DRIVERS: Final = frozenset(
    {
        *("alx", "atl1c", "e1000e", "forcedeth", "igb", "igc", "jme", "r8169", "sky2", "tg3"),
        *("bcmgenet", "dwmac_rk", "genet", "lan743x", "macb"),
    }
)
"""Drivers of the cards built into computers and boards. A kernel without any of them is for virtual machines."""


def find_problems(facts: PreflightFacts) -> tuple[PreflightProblem, ...]:
    """All problems, errors first."""
    return (*_find_errors(facts), *_find_warnings(facts))


def check_no_errors(problems: tuple[PreflightProblem, ...], name: str) -> None:
    """Raises LtspError if clients could not boot the image `name`; the caller shows the warnings."""
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    if errors:
        hints = "; ".join(dict.fromkeys(problem.hint for problem in errors))
        raise LtspError(
            f"no client could boot {printable(name)}: " + "; ".join(problem.message for problem in errors),
            f"{hints}; or publish it anyway with --no-preflight",
        )


def _find_errors(facts: PreflightFacts) -> Iterator[PreflightProblem]:
    install = _install_hint(facts)
    missing = {name: purpose for name, purpose in _REQUIRED_MODULES.items() if name not in facts.modules}
    for name, purpose in missing.items():
        yield PreflightProblem(
            Severity.ERROR, f"kernel {facts.version} lacks the module {name}, which {purpose}", install
        )
    if not facts.network_drivers:
        message = f"kernel {facts.version} has no driver for wired network cards"
        yield PreflightProblem(Severity.ERROR, message, _unblock_hint(facts.blocked_drivers) or install)
    elif facts.chosen_drivers:
        yield from _check_chosen_drivers(facts, {name.replace("-", "_") for name in facts.chosen_drivers})
    if facts.kernel_codecs is not None and facts.image_codec not in facts.kernel_codecs and "squashfs" not in missing:
        readable = ", ".join(sorted(facts.kernel_codecs)) or "none"
        hint = f"build with COMPRESSION=auto (supported: {readable})"
        message = f"kernel {facts.version} cannot read squashfs images compressed with {facts.image_codec}"
        yield PreflightProblem(Severity.ERROR, message, hint)
    for option, feature in _REQUIRED_OPTIONS.items() if facts.kernel_options is not None else ():
        if facts.kernel_options is not None and option not in facts.kernel_options:
            message = f"kernel {facts.version} was built without {feature} ({option})"
            yield PreflightProblem(Severity.ERROR, message, "install the distribution's kernel")


def _check_chosen_drivers(facts: PreflightFacts, chosen: AbstractSet[str]) -> Iterator[PreflightProblem]:
    if chosen & facts.modules - facts.blocked_drivers.keys():
        return
    message = f"kernel {facts.version} has none of the chosen network drivers: {' '.join(facts.chosen_drivers)}"
    blocked = {name: file for name, file in facts.blocked_drivers.items() if name in chosen}
    hint = _unblock_hint(blocked) or "set --client-drivers or CLIENT_DRIVERS to names of modules, such as r8169 e1000e"
    yield PreflightProblem(Severity.ERROR, message, hint)


def _unblock_hint(blocked_drivers: Mapping[str, str]) -> str:
    """How to unblock these drivers; empty if there are none."""
    files = ", ".join(f"/{file}" for file in dict.fromkeys(blocked_drivers.values()))
    return (
        f"in the source, remove the lines about {', '.join(sorted(blocked_drivers))} from {files}"
        if blocked_drivers
        else ""
    )


def _find_warnings(facts: PreflightFacts) -> Iterator[PreflightProblem]:
    install = _install_hint(facts)
    if facts.network_drivers and not facts.network_drivers & _COMMON_NETWORK_DRIVERS:
        drivers = ", ".join(sorted(facts.network_drivers)[:4])
        message = f"kernel {facts.version} has no drivers for common network cards, only {drivers}"
        yield PreflightProblem(Severity.WARNING, message, install)
    unknown = {
        name: name.replace("-", "_") for name in facts.chosen_drivers if name.replace("-", "_") not in facts.modules
    }
    if len(unknown) < len(set(facts.chosen_drivers)):  # else it is an error
        for name, module in unknown.items():
            near = closest_name(module, facts.modules)
            hint = f"did you mean {near}?" if near else f"remove {name} from --client-drivers or CLIENT_DRIVERS"
            yield PreflightProblem(Severity.WARNING, f"kernel {facts.version} has no module {name}", hint)
    if "nfs" not in facts.modules or not facts.modules & {"nfsv3", "nfsv4"}:
        lacking = ", ".join(name for name in ("nfs", "nfsv3", "nfsv4") if name not in facts.modules)
        yield PreflightProblem(
            Severity.WARNING, f"clients cannot boot by NFS: kernel {facts.version} lacks {lacking}", install
        )
    if "nbd" not in facts.modules:
        yield PreflightProblem(
            Severity.WARNING, f"clients cannot boot by NBD: kernel {facts.version} lacks nbd", install
        )
    elif not facts.has_nbd_client:
        package = NBD_CLIENT_PACKAGES.get(facts.distribution, "with nbd-client")
        hint = f"install the package {package} in the source, or nbd-client on this server"
        yield PreflightProblem(Severity.WARNING, "clients cannot boot by NBD: nbd-client not found", hint)


def _install_hint(facts: PreflightFacts) -> str:
    return f"install in the source: {suggest_kernel_package(facts.distribution, facts.version)}"
