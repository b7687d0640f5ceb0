"""The error for an image without a bootable kernel: what was found, why it cannot be booted, and what to type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.boot.distribution import (
    detect_distribution,
    kernel_install_command,
    kernel_reinstall_command,
    suggest_kernel_package,
)
from ltsp.boot.kernel_rules import VERSION_PLACEHOLDER, KernelRank, KernelRule
from ltsp.errors import LtspError
from ltsp.tree.name import printable, sort_names
from ltsp.tree.node import Directory
from ltsp.tree.tree import Tree

MODULES_DIRECTORY: Final = "lib/modules"
_DEPMOD_NAMES: Final = frozenset({"kernel", "modules.builtin", "modules.dep", "modules.dep.bin"})
"""Names that depmod(8) and `make modules_install` create in lib/modules/VERSION; some kernels have only a few."""
_MAX_SHOWN: Final = 4
_RULE_HINT: Final = (
    "choose one with --kernel-initrd='GLOB s|KERNEL|INITRD|', or publish without a kernel: --kernel-initrd=none"
)


@dataclass(frozen=True, slots=True)
class RefusedKernel:
    """A possible path of a kernel, and why it was not chosen."""

    description: str
    """Path and reason, safe to print."""
    version: str | None
    """As stated in the file, else in its name."""
    is_file: bool
    lacks_modules: bool
    """Whether missing modules are the only reason."""
    live: bool
    """Whether it is the kernel of a live medium."""


def has_modules(tree: Tree, version: str) -> bool:
    """Whether lib/modules/VERSION contains modules, not only the kernel itself."""
    directory = tree.follow(f"{MODULES_DIRECTORY}/{version}")
    return isinstance(directory, Directory) and not _DEPMOD_NAMES.isdisjoint(directory.entries)


def no_kernel_error(tree: Tree, name: str, rules: Sequence[KernelRule], refused: Sequence[RefusedKernel]) -> LtspError:
    """The error for the image `name`; it suggests installing a kernel only if there is none."""
    refused_kernels = _abbreviate([each.description for each in refused])
    module_versions = _abbreviate([printable(version) for version in _list_module_versions(tree)])
    if lacking := [each for each in refused if each.lacks_modules]:
        return LtspError(
            f"no kernel in {printable(name)} has its modules: {refused_kernels}"
            + (f"; the image has modules of {module_versions}" if module_versions else ""),
            _modules_hint(tree, lacking[0]),
        )
    if broken := [each for each in refused if each.is_file]:
        reinstall_command = kernel_reinstall_command(detect_distribution(tree), broken[0].version)
        reinstall = f"reinstall the kernel's package in the source{reinstall_command and f': {reinstall_command}'}"
        return LtspError(
            f"no kernel in {printable(name)} can be booted: {refused_kernels}", f"{reinstall}; or {_RULE_HINT}"
        )
    usual_globs = [rule.kernel for rule in rules if rule.rank < KernelRank.OTHER and not rule.live]
    names = dict.fromkeys(glob.rpartition("/")[2].replace(VERSION_PLACEHOLDER, "*") for glob in usual_globs)
    message = (
        f"no kernel in {printable(name)}: looked for {', '.join(map(printable, names))} in /, /boot, /efi and "
        f"/{MODULES_DIRECTORY}, and for kernels of boards and live media"
    )
    if module_versions:
        message += f"; modules of {module_versions} have no kernel"
    if refused_kernels:
        message += f"; passed over: {refused_kernels}"
    installation = kernel_install_command(tree)
    how = f"run in the source, or as RUN in its Containerfile: {installation};" if installation else "install one,"
    return LtspError(message, f"{how} or {_RULE_HINT}")


def _modules_hint(tree: Tree, kernel: RefusedKernel) -> str:
    package = suggest_kernel_package(detect_distribution(tree), kernel.version or "")
    if kernel.live:
        return (
            f"use a medium whose kernel has the version of its system; or unpack the system to a directory, "
            f"install {package} there, and use that; or {_RULE_HINT}"
        )
    return f"install in the source: {package}; or {_RULE_HINT}"


def _list_module_versions(tree: Tree) -> list[str]:
    """Kernel versions that have modules."""
    directory = tree.follow(MODULES_DIRECTORY)
    names = sort_names(list(directory.entries)) if isinstance(directory, Directory) else []
    return [name for name in names if has_modules(tree, name)]


def _abbreviate(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_MAX_SHOWN]) + (", …" if len(texts) > _MAX_SHOWN else "")
