"""The modules of one kernel, by the tables that depmod(8) wrote and what the image's modprobe.d(5) says of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ltsp.errors import LtspError
from ltsp.initrd.compressed_file import without_suffix
from ltsp.initrd.modprobe_conf import ModprobeConf, SoftDependency, parse_soft_dependency, replace_hyphens
from ltsp.initrd.module_kind import ModuleKind, read_kinds
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Directory, File
from ltsp.tree.read_file import read_small_file
from ltsp.tree.tree import Tree

_MOST: Final = 64 << 20
"""Bytes of a table; modules.dep of a distribution has some 700 KiB."""
_PATH: Final = re.compile(r"/?(?!.*(?:\.\.|//))[A-Za-z0-9_][A-Za-z0-9_./+,@=-]{0,250}\.ko(\.gz|\.xz|\.zst)?")
"""Paths that may stand in a list for a shell; no kernel has others."""
_KERNEL_DIRECTORIES: Final = frozenset({"kernel", "build", "source"})
"""What a kernel's installation puts below lib/modules/VERSION; other directories are of those who add to it."""
_OPEN_TO_OTHERS: Final = ("kernel/drivers/net/", "kernel/drivers/staging/")
"""Where vendors put modules among the kernel's own. Those are known by modules.order, which has none but its own."""
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,100}")


@dataclass(frozen=True, slots=True)
class KernelModules:
    """Paths are relative to lib/modules/VERSION, as they stand in modules.dep; of modules that lie elsewhere in the
    image, as `external` of depmod.d(5) has them, they are absolute.
    """

    version: str
    dependencies: Mapping[str, tuple[str, ...]]
    """Of each module: all that it needs, those that others of them need last."""
    builtin: frozenset[str]
    """Paths of what the kernel has within itself."""
    order: Mapping[str, int]
    """Where each stands in the kernel's own order, by which a device gets its driver; paths without a suffix."""
    before: Mapping[str, tuple[str, ...]]
    """Of a module's name: modules that it wants loaded before, though it does not need them to be loaded itself."""
    after: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Likewise, those that it wants loaded after itself."""
    conf: ModprobeConf = field(default_factory=ModprobeConf)
    added: Mapping[str, ModuleKind] = field(default_factory=dict)
    """Of the path of each module that did not come with the kernel: what its file says."""
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Of such a path: that of the kernel's own module whose place it takes. depmod(8) lists one module of a name, by
    the order of the directories in depmod.d(5).
    """
    unreadable: tuple[str, ...] = ()
    """Paths of such modules whose files say nothing, and what stands for one in modules.dep without being any."""
    unlisted: tuple[str, ...] = ()
    """Paths of such modules that modules.dep does not have, so that nothing finds them."""

    @classmethod
    def read(cls, tree: Tree, version: str) -> KernelModules:
        """Raises LtspError if the image has no tables for this kernel."""
        if not _VERSION.fullmatch(version):
            raise LtspError(f"{printable(version)} is no version of a kernel", "give the image's kernel its own name")
        directory = f"lib/modules/{version}"
        listed = _read_lines(tree, f"{directory}/modules.dep")
        if listed is None and tree.follow(directory) is None:
            raise LtspError(
                f"/{directory} is not in the image: its kernel has no modules",
                f"install the modules of {version} in the source, or choose another kernel with --kernel-initrd",
            )
        if listed is None:
            raise LtspError(f"/{directory}/modules.dep is not in the image", f"run in the source: depmod -a {version}")
        dependencies, refused = _parse_dependencies(listed, version)
        order = {
            without_suffix(path): n for n, path in enumerate(_read_lines(tree, f"{directory}/modules.order") or ())
        }
        builtin = frozenset(_read_lines(tree, f"{directory}/modules.builtin") or ())
        aliases = _parse_exact_aliases(_read_lines(tree, f"{directory}/modules.alias") or ())
        conf = ModprobeConf.read(tree)
        # modprobe takes the first line about a module. All of them are taken here: one too many harms nobody.
        soft = [*conf.softdeps, *_parse_soft_dependencies(_read_lines(tree, f"{directory}/modules.softdep") or ())]
        find = _ModuleFinder({module_name(path): path for path in dependencies}, aliases)
        before = find.find_paths((each.name, each.before) for each in soft)
        after = find.find_paths((each.name, each.after) for each in soft)
        others = [path for path in dependencies if _is_added(path, order)]
        added, unreadable = read_kinds(tree, {path: place_of(path, version) for path in others})
        own = {module_name(path): path for path in order}
        replaced = {path: own[module_name(path)] for path in others if module_name(path) in own}
        unlisted = tuple(_find_unlisted(tree, directory, dependencies))
        return cls(
            version,
            dependencies,
            builtin,
            order,
            before,
            after,
            conf,
            added,
            replaced,
            (*unreadable, *refused),
            unlisted,
        )

    @property
    def names(self) -> frozenset[str]:
        """Of all that the kernel can have, loaded or within itself."""
        return frozenset(map(module_name, (*self.builtin, *self.dependencies)))

    def classification_path(self, path: str) -> str:
        """The path by whose directory the module at a path is classified: the kernel's own of that name, if any."""
        return self.replaced.get(path, path)

    def load_order(self, wanted: Iterable[str]) -> list[str]:
        """The modules at these paths with all that they need or want, in an order in which they can be loaded."""
        found: dict[str, None] = {}
        pending = [(path, False) for path in sorted(wanted, key=self._rank, reverse=True)]
        met: set[str] = set()
        while pending:
            path, is_ready = pending.pop()
            if is_ready:
                found[path] = None
            elif path not in met:
                met.add(path)
                pending.extend((other, False) for other in self.after.get(module_name(path), ()))
                pending.append((path, True))
                pending.extend((other, False) for other in self.needs(path))
        return list(found)

    def needs(self, path: str) -> tuple[str, ...]:
        """What a module needs and what it wants loaded before; what is to be loaded first comes last."""
        needed = tuple(other for other in self.dependencies.get(path, ()) if other in self.dependencies)
        return (*needed, *(other for other in self.before.get(module_name(path), ()) if other != path))

    def _rank(self, path: str) -> tuple[int, str]:
        return self.order.get(without_suffix(self.classification_path(path)), len(self.order)), path


def module_name(path: str) -> str:
    """The name of the module at a path, as the kernel has it: `kernel/net/8021q/8021q.ko.xz` is `8021q`."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def place_of(path: str, version: str) -> str:
    """Where in the image the module at a path of modules.dep lies."""
    return path[1:] if path.startswith("/") else f"lib/modules/{version}/{path}"


def _is_added(path: str, order: Mapping[str, int]) -> bool:
    """Whether a module did not come with the kernel: by DKMS in updates/, by vendors in extra/ or among its own."""
    if not path.startswith("kernel/"):
        return True
    return bool(order) and path.startswith(_OPEN_TO_OTHERS) and without_suffix(path) not in order


def _find_unlisted(tree: Tree, directory: str, listed: Iterable[str]) -> Iterator[str]:
    """Modules in directories of others whose names modules.dep does not have."""
    top = tree.follow(directory)
    names = frozenset(map(module_name, listed))
    for name in top.entries if isinstance(top, Directory) else ():
        below = tree.follow(f"{directory}/{name}")
        if name not in _KERNEL_DIRECTORIES and isinstance(below, Directory):
            for path, _ in Tree(below).walk():
                if _PATH.fullmatch(f"{name}/{path}") and module_name(path) not in names:
                    yield f"{name}/{path}"


def _read_lines(tree: Tree, path: str) -> list[str] | None:
    file = tree.follow(path)
    if not isinstance(file, File):
        return None
    try:
        return decode(read_small_file(file, path, _MOST)).splitlines()
    except OSError as error:
        raise LtspError(f"cannot read /{printable(path)} of the image: {error.strerror or error}") from error


def _parse_dependencies(lines: Iterable[str], version: str) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """By the modules' paths; and what stands there for a path without being one that a list for a shell may have."""
    found: dict[str, tuple[str, ...]] = {}
    refused: dict[str, None] = {}
    for line in lines:
        path, colon, others = line.partition(":")
        every = [_relative(each, version) for each in (path, *others.split()) if each]
        refused |= dict.fromkeys(each for each in every if not _PATH.fullmatch(each))
        if colon and every and every[0] not in refused:
            found[every[0]] = tuple(each for each in every[1:] if each not in refused)
    return found, tuple(refused)


def _relative(path: str, version: str) -> str:
    """depmod(8) of before kmod wrote all paths from `/` on."""
    for top in ("/lib/modules", "/usr/lib/modules"):
        path = path.removeprefix(f"{top}/{version}/")
    return path


def _parse_exact_aliases(lines: Iterable[str]) -> dict[str, list[str]]:
    """The names of modules by those of their aliases that are no patterns: `crypto-crc32c`, `fs-ext4`."""
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
        """Of each module's name, the paths of those that are wanted by name or alias and that there are."""
        found: dict[str, dict[str, None]] = {}
        for name, others in wanted:
            names = (known for other in others for known in (other, *self.aliases.get(other, ())))
            paths = dict.fromkeys(self.paths[known] for known in names if known in self.paths)
            if paths:
                found.setdefault(name, {}).update(paths)
        return {name: tuple(paths) for name, paths in found.items()}
