"""The modules of one kernel, from the tables written by depmod(8) and the image's modprobe.d(5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ltsp.errors import LtspError
from ltsp.initrd.compressed_file import strip_suffix
from ltsp.initrd.modprobe_conf import ModprobeConf, SoftDependency, parse_soft_dependency, replace_hyphens
from ltsp.initrd.module_file import ModuleKind, read_kinds
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_MAX_TABLE_SIZE: Final = 64 << 20
"""Maximum bytes of a table; modules.dep of a distribution has some 700 KiB."""
_MODULE_PATH: Final = re.compile(r"/?(?!.*(?:\.\.|//))[A-Za-z0-9_][A-Za-z0-9_./+,@=-]{0,250}\.ko(\.gz|\.xz|\.zst)?")
"""Paths that may appear in a list for a shell; kernels have no others."""
_KERNEL_DIRECTORIES: Final = frozenset({"kernel", "build", "source"})
"""Entries that a kernel's installation creates in lib/modules/VERSION; other directories contain added modules."""
_VENDOR_DIRECTORIES: Final = ("kernel/drivers/net/", "kernel/drivers/staging/")
"""Where vendors put modules among the kernel's own, which are recognized by modules.order."""
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,100}")


@dataclass(frozen=True, slots=True)
class KernelModules:
    """Paths are relative to lib/modules/VERSION, as in modules.dep; those of modules elsewhere in the image, as with
    `external` of depmod.d(5), are absolute.
    """

    version: str
    dependencies: Mapping[str, tuple[str, ...]]
    """The dependencies of each module, those that others depend on last."""
    builtin: frozenset[str]
    """Paths of built-in modules."""
    order: Mapping[str, int]
    """Positions in the kernel's own order, which decides about a device's driver; paths without a suffix."""
    pre_modules: Mapping[str, tuple[str, ...]]
    """By module name: modules to load before it, although it can be loaded without them."""
    post_modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By module name: modules to load after it."""
    conf: ModprobeConf = field(default_factory=ModprobeConf)
    out_of_tree_kinds: Mapping[str, ModuleKind] = field(default_factory=dict)
    """By path, the kind of each module that did not come with the kernel."""
    in_tree_counterparts: Mapping[str, str] = field(default_factory=dict)
    """By path of an added module: the kernel's own module that it replaces. depmod(8) lists one module of a name, by
    the order of the directories in depmod.d(5).
    """
    unreadable: tuple[str, ...] = ()
    """Paths of added modules whose kind is unknown, and entries of modules.dep that are not paths of modules."""
    unlisted: tuple[str, ...] = ()
    """Paths of added modules that are not in modules.dep, so that nothing finds them."""

    @classmethod
    def read(cls, tree: Tree, version: str) -> KernelModules:
        """Raises LtspError if the image has no tables for this kernel."""
        if not _VERSION.fullmatch(version):
            raise LtspError(
                f"invalid kernel version {printable(version)}",
                "reinstall the kernel's package in the source, or choose another kernel with --kernel-initrd",
            )
        directory = f"lib/modules/{version}"
        listed = _read_lines(tree, f"{directory}/modules.dep")
        if listed is None and tree.follow(directory) is None:
            raise LtspError(
                f"no modules for the image's kernel: /{directory} is not in the image",
                f"install the modules of {version} in the source, or choose another kernel with --kernel-initrd",
            )
        if listed is None:
            raise LtspError(f"/{directory}/modules.dep is not in the image", f"run in the source: depmod -a {version}")
        dependencies, invalid = _parse_dependencies(listed, version)
        order = {strip_suffix(path): n for n, path in enumerate(_read_lines(tree, f"{directory}/modules.order") or ())}
        builtin = frozenset(_read_lines(tree, f"{directory}/modules.builtin") or ())
        aliases = _parse_exact_aliases(_read_lines(tree, f"{directory}/modules.alias") or ())
        conf = ModprobeConf.read(tree)
        # modprobe uses the first line about a module. Here all are used: an extra module does no harm.
        soft = [*conf.softdeps, *_parse_soft_dependencies(_read_lines(tree, f"{directory}/modules.softdep") or ())]
        finder = _ModuleFinder({module_name(path): path for path in dependencies}, aliases)
        pre_modules = finder.find_paths((each.name, each.pre_modules) for each in soft)
        post_modules = finder.find_paths((each.name, each.post_modules) for each in soft)
        others = [path for path in dependencies if _is_out_of_tree(path, order)]
        out_of_tree_kinds, unreadable = read_kinds(tree, {path: path_in_image(path, version) for path in others})
        in_tree_paths = {module_name(path): path for path in order}
        in_tree_counterparts = {
            path: in_tree_paths[module_name(path)] for path in others if module_name(path) in in_tree_paths
        }
        unlisted = tuple(_find_unlisted(tree, directory, dependencies))
        return cls(
            version,
            dependencies,
            builtin,
            order,
            pre_modules,
            post_modules,
            conf,
            out_of_tree_kinds,
            in_tree_counterparts,
            (*unreadable, *invalid),
            unlisted,
        )

    @property
    def names(self) -> frozenset[str]:
        """Names of all modules, loadable or built in."""
        return frozenset(map(module_name, (*self.builtin, *self.dependencies)))

    def in_tree_equivalent(self, path: str) -> str:
        """The path whose directory classifies the module: that of the kernel's own module of its name, if any."""
        return self.in_tree_counterparts.get(path, path)

    def load_order(self, wanted: Iterable[str]) -> list[str]:
        """The modules at these paths with all hard and soft dependencies, in loading order."""
        found: dict[str, None] = {}
        pending = [(path, False) for path in sorted(wanted, key=self._sort_key, reverse=True)]
        visited: set[str] = set()
        while pending:
            path, is_ready = pending.pop()
            if is_ready:
                found[path] = None
            elif path not in visited:
                visited.add(path)
                pending.extend((other, False) for other in self.post_modules.get(module_name(path), ()))
                pending.append((path, True))
                pending.extend((other, False) for other in self.find_prerequisites(path))
        return list(found)

    def find_prerequisites(self, path: str) -> tuple[str, ...]:
        """The modules to load before a module; the first to load comes last."""
        needed = tuple(other for other in self.dependencies.get(path, ()) if other in self.dependencies)
        return (*needed, *(other for other in self.pre_modules.get(module_name(path), ()) if other != path))

    def _sort_key(self, path: str) -> tuple[int, str]:
        return self.order.get(strip_suffix(self.in_tree_equivalent(path)), len(self.order)), path


def module_name(path: str) -> str:
    """The kernel's name of the module at a path: `8021q` for `kernel/net/8021q/8021q.ko.xz`."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def path_in_image(path: str, version: str) -> str:
    """The path in the image of a module in modules.dep."""
    return path[1:] if path.startswith("/") else f"lib/modules/{version}/{path}"


def _is_out_of_tree(path: str, order: Mapping[str, int]) -> bool:
    """Whether a module did not come with the kernel: from DKMS in updates/, from vendors in extra/ or among its own."""
    if not path.startswith("kernel/"):
        return True
    return bool(order) and path.startswith(_VENDOR_DIRECTORIES) and strip_suffix(path) not in order


def _find_unlisted(tree: Tree, directory: str, listed: Iterable[str]) -> Iterator[str]:
    """Modules in directories for added modules whose names are not in modules.dep."""
    modules_directory = tree.follow(directory)
    names = frozenset(map(module_name, listed))
    for name in modules_directory.entries if isinstance(modules_directory, Directory) else ():
        below = tree.follow(f"{directory}/{name}")
        if name not in _KERNEL_DIRECTORIES and isinstance(below, Directory):
            for path, _ in Tree(below).walk():
                if _MODULE_PATH.fullmatch(f"{name}/{path}") and module_name(path) not in names:
                    yield f"{name}/{path}"


def _read_lines(tree: Tree, path: str) -> list[str] | None:
    file = tree.follow(path)
    if not isinstance(file, File):
        return None
    try:
        return decode(read_small_file(file, path, _MAX_TABLE_SIZE)).splitlines()
    except OSError as error:
        raise LtspError(f"cannot read /{printable(path)} of the image: {error.strerror or error}") from error


def _parse_dependencies(lines: Iterable[str], version: str) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Dependencies by the modules' paths; and entries that are not allowed in a list for a shell."""
    found: dict[str, tuple[str, ...]] = {}
    invalid: dict[str, None] = {}
    for line in lines:
        path, colon, others = line.partition(":")
        every = [_make_relative(each, version) for each in (path, *others.split()) if each]
        invalid |= dict.fromkeys(each for each in every if not _MODULE_PATH.fullmatch(each))
        if colon and every and every[0] not in invalid:
            found[every[0]] = tuple(each for each in every[1:] if each not in invalid)
    return found, tuple(invalid)


def _make_relative(path: str, version: str) -> str:
    """The path relative to lib/modules/VERSION; depmod(8) before kmod wrote absolute paths."""
    for modules_directory in ("/lib/modules", "/usr/lib/modules"):
        path = path.removeprefix(f"{modules_directory}/{version}/")
    return path


def _parse_exact_aliases(lines: Iterable[str]) -> dict[str, list[str]]:
    """The names of modules by their aliases that are not patterns: `crypto-crc32c`, `fs-ext4`."""
    found: dict[str, list[str]] = {}
    for line in lines:
        match line.split():
            case ["alias", alias, name] if "*" not in alias:
                found.setdefault(replace_hyphens(alias), []).append(replace_hyphens(name))
    return found


def _parse_soft_dependencies(lines: Iterable[str]) -> Iterator[SoftDependency]:
    for line in lines:
        match line.split(None, 2):
            case ["softdep", name, text]:
                yield parse_soft_dependency(name, text)


@dataclass(frozen=True, slots=True)
class _ModuleFinder:
    """Modules by their names, and names by aliases."""

    paths: Mapping[str, str]
    aliases: Mapping[str, list[str]]

    def find_paths(self, wanted: Iterable[tuple[str, Iterable[str]]]) -> dict[str, tuple[str, ...]]:
        """For each module's name, the paths of the existing modules that are wanted by name or alias."""
        found: dict[str, dict[str, None]] = {}
        for name, others in wanted:
            names = (known for other in others for known in (other, *self.aliases.get(other, ())))
            paths = dict.fromkeys(self.paths[known] for known in names if known in self.paths)
            if paths:
                found.setdefault(name, {}).update(paths)
        return {name: tuple(paths) for name, paths in found.items()}
