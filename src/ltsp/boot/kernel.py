"""The kernel of an image and its initrd, found in the tree.

All links are followed inside the tree, so that one which leads to the server's files leads nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate

from ltsp.boot.distribution import kernel_installation
from ltsp.boot.kernel_header import stated_version
from ltsp.boot.kernel_version import version_key
from ltsp.boot.substitution import substitutions
from ltsp.errors import LtspError, Unreadable, UsageError
from ltsp.tree.content import Content
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_MOST_KERNEL = 512 << 20
"""Bytes; the largest that distributions ship have some 90 MiB."""
_MOST_INITRD = 4 << 30


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a kind of system has its kernel, and how the path of the initrd follows from the kernel's."""

    system: str
    kernel: str
    """A glob, relative to the root."""
    initrds: tuple[str, ...]
    """Substitutions in the words of sed, each of the kernel's path; the first that leads to a file counts."""
    live: bool = False
    """On a medium whose system, with the modules, may lie in a file of its own."""
    chosen: bool = False
    """The user's own rule: what it finds is taken, and warned of where it looks wrong."""

    @classmethod
    def parse(cls, text: str) -> Rule:
        """The rule of `--kernel-initrd='GLOB s|OLD|NEW|'`.

        Raises UsageError.
        """
        glob, _, expressions = text.strip().partition(" ")
        if not glob.strip("/"):
            raise UsageError(
                "--kernel-initrd names no kernel", "--kernel-initrd='live/vmlinuz-* s|vmlinuz|initrd.img|'"
            )
        substitutions(expressions)
        return cls("--kernel-initrd", glob.lstrip("/"), (expressions,) if expressions.strip() else (), chosen=True)


RULES = (
    Rule("openSUSE live", "boot/*/loader/linux", ("s|linux$|initrd|",), live=True),
    Rule(
        "Ubuntu live",
        "casper/vmlinuz",
        tuple(f"s|vmlinuz$|{name}|" for name in ("initrd", "initrd.lz", "initrd.gz")),
        live=True,
    ),
    Rule("Debian installer", "install.amd/vmlinuz", ("s|vmlinuz$|initrd.gz|",), live=True),
    Rule("Fedora live", "isolinux/vmlinuz", ("s|vmlinuz$|initrd.img|",), live=True),
    Rule("Fedora live and installer", "images/pxeboot/vmlinuz", ("s|vmlinuz$|initrd.img|",), live=True),
    Rule("Debian live", "live/vmlinuz-*", ("s|vmlinuz-|initrd.img-|",), live=True),
    Rule("installed system", "vmlinuz", ("s|vmlinuz$|initrd.img|",)),
    Rule("Debian, Ubuntu", "vmlinuz-*", ("s|vmlinuz-|initrd.img-|",)),
    Rule("Fedora, Arch, Alpine", "vmlinuz-*", (r"s|vmlinuz-\(.*\)|initramfs-\1.img|", "s|vmlinuz-|initramfs-|")),
    Rule("Tiny Core", "vmlinuz", ("s|vmlinuz$|core.gz|",), live=True),
    Rule("openSUSE", "vmlinuz-*", ("s|vmlinuz-|initrd-|",)),
    Rule("openSUSE on arm64", "Image-*", ("s|Image-|initrd-|",)),
)
"""In the order in which they are tried, each below the root and then below boot."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel to boot."""

    path: str
    """Where the rule found it; the file may be another, through links."""
    initrd_path: str | None
    version: str | None
    """As in lib/modules; None where neither name nor file says it."""
    kernel: Content
    initrd: Content | None
    warnings: tuple[str, ...] = ()
    """What was passed over, and what looks wrong with what was not."""


def find_kernel(tree: Tree, name: str, own_rule: str | None = None) -> Kernel:
    """The kernel of an image, by the user's rule and then by the built-in ones; the newest version of each.

    `name`: of the image, for the error. A kernel without an initrd is taken only if no other has one.
    Raises LtspError where there is none, Unreadable where we may not read it, UsageError where the user's rule is none.
    """
    rules = (Rule.parse(own_rule), *RULES) if own_rule else RULES
    warnings: list[str] = []
    lone: list[Kernel] = []
    for rule in rules:
        for path in _candidates(tree, rule):
            found = _examined(tree, rule, path, warnings)
            if found is None:
                continue
            if found.initrd is not None or (rule.chosen and not rule.initrds):
                return _with(found, warnings)
            lone.append(found)
        if rule.chosen:
            warnings.append(
                f"--kernel-initrd={printable(rule.kernel)} led to no kernel with an initrd; others are tried"
            )
    if lone:
        first = lone[0]
        return _with(first, [*warnings, f"/{printable(first.path)} has no initrd in the image"])
    globs = ", ".join(dict.fromkeys(rule.kernel for rule in rules))
    passed = "".join(f"; {warning}" for warning in dict.fromkeys(warnings))
    installation = kernel_installation(tree)
    how = f"run in the source, or as RUN of its Containerfile: {installation};" if installation else "install one,"
    raise LtspError(
        f"no kernel in {printable(name)}: looked for {globs} in / and /boot{passed}",
        f"{how} or give --kernel-initrd='GLOB s|KERNEL|INITRD|' or --kernel-initrd=none",
    )


def _with(kernel: Kernel, warnings: Sequence[str]) -> Kernel:
    every = tuple(dict.fromkeys((*warnings, *kernel.warnings)))
    for path, content in ((kernel.path, kernel.kernel), (kernel.initrd_path or "", kernel.initrd)):
        if content is not None:
            _see_that_it_may_be_read(path, content)
    return Kernel(kernel.path, kernel.initrd_path, kernel.version, kernel.kernel, kernel.initrd, every)


def _see_that_it_may_be_read(path: str, content: Content) -> None:
    """Ubuntu's kernels are root's alone. Raises Unreadable."""
    try:
        with content.open():
            pass
    except PermissionError as error:
        raise Unreadable(
            f"cannot read /{printable(path)}, which clients would boot: {error.strerror}",
            f"run as root, or let others read it: chmod a+r /{printable(path)} in the source",
        ) from error


def _candidates(tree: Tree, rule: Rule) -> Iterator[str]:
    """The paths that a rule's glob matches: those below the root first, each from the newest version to the oldest."""
    places = [""] if rule.kernel.startswith("boot/") or rule.chosen else ["", "boot/"]
    for place in places:
        found = _matching(tree, place + rule.kernel)
        yield from sorted(found, key=lambda path: (version_key(path), path), reverse=True)


def _matching(tree: Tree, glob: str) -> list[str]:
    """The paths that a shell's glob matches; as there, a wildcard does not match a leading dot."""
    found = [""]
    for component in filter(None, glob.split("/")):
        match = re.compile(translate(component)).match
        found = [
            f"{parent}/{name}".lstrip("/")
            for parent in found
            if isinstance(directory := tree.follow(parent), Directory)
            for name in directory.entries
            if match(name) and (component.startswith(".") or not name.startswith("."))
        ]
    return found


def _examined(tree: Tree, rule: Rule, path: str, warnings: list[str]) -> Kernel | None:
    """The kernel at a path with its initrd, if it is fit to boot; else None, and why among the warnings."""
    resolved = tree.resolve(path)
    file = None if resolved is None else tree.get(resolved)
    fault = _fault(file, _MOST_KERNEL)
    if resolved is None or not isinstance(file, File) or fault is not None:
        warnings.append(f"/{printable(path)} is passed over: {fault}")
        return None
    version = _named_version(resolved) or _named_version(path) or _stated(file)
    if version is not None and _modules_missing(tree, rule, version):
        lacking = f"/lib/modules/{printable(version)} is not in the image"
        if not rule.chosen:
            warnings.append(f"/{printable(path)} is passed over: {lacking}")
            return None
        warnings.append(f"/{printable(path)} has no modules: {lacking}")
    initrd_path, initrd = _initrd(tree, rule, path)
    return Kernel(path, initrd_path, version, file.content, initrd)


def _fault(node: object, most: int) -> str | None:
    if node is None:
        return "it is a link that leads nowhere inside the image"
    if not isinstance(node, File):
        return "it is not a regular file"
    if node.content.size == 0:
        return "it is empty"
    return f"it is larger than {most >> 20} MiB" if node.content.size > most else None


def _initrd(tree: Tree, rule: Rule, path: str) -> tuple[str | None, Content | None]:
    for expressions in rule.initrds:
        initrd = path
        for substitution in substitutions(expressions):
            initrd = substitution.apply(initrd)
        node = tree.follow(initrd)
        if initrd != path and _fault(node, _MOST_INITRD) is None and isinstance(node, File):
            return initrd, node.content
    return None, None


def _named_version(path: str) -> str | None:
    """The version that a kernel's name ends with."""
    name = path.rpartition("/")[2]
    match = re.fullmatch(r"(?:vmlinu[xz]|Image|kernel)-(\d[^/]*)", name)
    return None if match is None else match[1]


def _stated(file: File) -> str | None:
    try:
        return stated_version(file.content)
    except OSError:
        return None  # copying the kernel will say so


def _modules_missing(tree: Tree, rule: Rule, version: str) -> bool:
    every = tree.follow("lib/modules")
    if rule.live and not (isinstance(every, Directory) and every.entries):
        return False
    return not isinstance(tree.follow(f"lib/modules/{version}"), Directory)
