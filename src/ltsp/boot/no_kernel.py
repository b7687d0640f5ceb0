"""What is said where an image has no kernel to boot: what was found, why that is none, and what to type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.boot.distribution import detect_distribution, kernel_again, kernel_install_command, kernel_package
from ltsp.boot.kernel_rules import VERSION_PLACEHOLDER, KernelRank, KernelRule
from ltsp.errors import LtspError
from ltsp.tree.name import printable, sort_names
from ltsp.tree.node import Directory
from ltsp.tree.tree import Tree

MODULES: Final = "lib/modules"
_OF_MODULES: Final = frozenset({"kernel", "modules.builtin", "modules.dep", "modules.dep.bin"})
"""What depmod(8) and `make modules_install` leave below that, of which some kernels have only a part."""
_SHOWN: Final = 4
_OWN: Final = "give --kernel-initrd='GLOB s|KERNEL|INITRD|' or --kernel-initrd=none"


@dataclass(frozen=True, slots=True)
class Refused:
    """A path where a kernel may be, and why none is taken from there."""

    shown: str
    """Path and reason, safe to print."""
    version: str | None
    """As the file states it, else as its name does."""
    is_file: bool
    lacks_modules: bool
    """Whether that is all that keeps it from being booted."""
    live: bool
    """Whether it is a live medium's."""


def has_modules(tree: Tree, version: str) -> bool:
    """Whether there is more than the kernel itself, which may lie there too."""
    directory = tree.follow(f"{MODULES}/{version}")
    return isinstance(directory, Directory) and not _OF_MODULES.isdisjoint(directory.entries)


def none_found(tree: Tree, name: str, rules: Sequence[KernelRule], refused: Sequence[Refused]) -> LtspError:
    """Says to install a kernel only where there is none. `name`: of the image."""
    passed = _few([each.shown for each in refused])
    there = _few([printable(version) for version in _versions(tree)])
    if lacking := [each for each in refused if each.lacks_modules]:
        return LtspError(
            f"no kernel in {printable(name)} has its modules: {passed}"
            + (f"; there are modules of {there}" if there else ""),
            _for_modules(tree, lacking[0]),
        )
    if broken := [each for each in refused if each.is_file]:
        again = kernel_again(detect_distribution(tree), broken[0].version)
        return LtspError(
            f"no kernel in {printable(name)} can be booted: {passed}",
            f"install its package again in the source{f': {again}' if again else ''}; or {_OWN}",
        )
    usual = [rule.kernel for rule in rules if rule.rank < KernelRank.OTHER and not rule.live]
    names = dict.fromkeys(glob.rpartition("/")[2].replace(VERSION_PLACEHOLDER, "*") for glob in usual)
    message = (
        f"no kernel in {printable(name)}: looked for {', '.join(map(printable, names))} in /, /boot, /efi and "
        f"/{MODULES}, and for those of boards and live media"
    )
    if there:
        message += f"; there are modules of {there} without a kernel"
    if passed:
        message += f"; passed over: {passed}"
    installation = kernel_install_command(tree)
    how = f"run in the source, or as RUN of its Containerfile: {installation};" if installation else "install one,"
    return LtspError(message, f"{how} or {_OWN}")


def _for_modules(tree: Tree, kernel: Refused) -> str:
    package = kernel_package(detect_distribution(tree), kernel.version or "")
    if kernel.live:
        return (
            f"take a medium whose kernel is of the version of its system; or unpack the system to a directory, "
            f"install there: {package}, and name that; or {_OWN}"
        )
    return f"install in the source: {package}; or {_OWN}"


def _versions(tree: Tree) -> list[str]:
    """Of which there are modules."""
    directory = tree.follow(MODULES)
    names = sort_names(list(directory.entries)) if isinstance(directory, Directory) else []
    return [name for name in names if has_modules(tree, name)]


def _few(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (", …" if len(texts) > _SHOWN else "")
