"""The client's own initrd as a tree, built for one kernel of one image from the files of that image.

    /ltsp/init                 the first file of the client's shell code
    /ltsp/sh/*.sh              the rest of the shell code
    /ltsp/bin/busybox          the shell and its applets
    /ltsp/modules/VERSION/…    kernel modules, decompressed
    /ltsp/modules.order        `GROUP PATH`, in loading order
    /ltsp/modules.load         `PATH: OTHER …`, all that must be loaded for a module, including itself, in this order
    /ltsp/modules.alias        `PATTERN PATH`; before those, `PATTERN PATH conf`, aliases of the image's modprobe.d,
                               which have precedence, with `-` for a module that is not included
    /ltsp/modules.options      `NAME OPTIONS`, of the image's modprobe.d
    /ltsp/firmware/…           the kernel's firmware search path is set to this directory
    /ltsp/version              of the kernel
    /dev/console, /dev/null    without a console the kernel starts init with no output at all

It can also be unpacked over the distribution's initrd, and takes over if the kernel's command line has ltsp.*, by

    /scripts/netboot           of initramfs-tools, selected by /conf/conf.d/zz-ltsp
    /usr/lib/dracut/hooks/…    of dracut; since dracut 102 in /var/lib, until 109 with a link in the old place

so it must not contain the top-level names of such an initrd: no /init, and no /lib, /bin or /sbin, which are links
there and would become directories. `ClientInitrd.present` are the directories that contain the hooks.

Files needed only to boot by NBD form a separate tree, loaded after the other:

    /ltsp/bin/nbd-client
    /ltsp/lib/…                its loader and libraries

All times are 0 and all owners root, so that the same image always results in the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.errors import FileUnreadable, FormatError
from ltsp.initrd.compressed_file import decompress, strip_suffix
from ltsp.initrd.drivers import DriverFirmware, find_blocked_drivers, find_blocked_requirements, group_modules
from ltsp.initrd.elf import ElfTarget
from ltsp.initrd.kernel_modules import KernelModules, module_name, path_in_image
from ltsp.initrd.modprobe_conf import ModprobeConf
from ltsp.initrd.module_file import MAX_MODULE_SIZE, ModuleFile
from ltsp.initrd.program_file import (
    Program,
    ReadFile,
    ServerPrograms,
    find_busybox,
    find_program,
    make_image_reader,
    parse_elf,
)
from ltsp.tree.content import Bytes
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import encode, printable, sort_names
from ltsp.tree.node import Device, DeviceKind, Directory, File, Metadata, Node
from ltsp.tree.tree import Tree

FIRMWARE_LIMIT: Final = 8 << 20
"""Default limit for the bytes of firmware in a client's initrd."""
_NBD_CLIENT_PATHS: Final = ("usr/sbin/nbd-client", "sbin/nbd-client", "usr/bin/nbd-client", "bin/nbd-client")
_HOOK_FILES: Final = {
    "conf/conf.d/zz-ltsp": "initramfs-tools-conf.sh",
    "scripts/netboot": "initramfs-tools.sh",
    **{
        f"{place}/lib/dracut/hooks/{hook}/99-ltsp.sh": f"dracut-{hook}.sh"
        for place in ("usr", "var")
        for hook in ("cmdline", "mount")
    },
}
"""The hooks for distributions' initrds, by path: names of files in client/."""
_IMAGE_PROGRAMS: Final = ("bin/sh", "usr/bin/env", "sbin/init")
"""Programs that show the architecture of an image's programs."""
_DIRECTORY_METADATA, _TEXT_METADATA, _PROGRAM_METADATA = Metadata(0o755), Metadata(0o644), Metadata(0o755)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    network_drivers: tuple[str, ...] = ()
    """Names of network drivers; empty for all drivers of wired cards."""
    firmware_limit: int = FIRMWARE_LIMIT
    """Bytes."""
    file_systems: tuple[str, ...] = ()
    """Modules for the image's file systems, besides squashfs, erofs, ext4 and isofs: `xfs`, `btrfs`."""
    nbd: bool = True
    """Whether to search for nbd-client. With its libraries, Debian's has 3 MB, compressed."""
    busybox: bytes | None = None
    """A static busybox given by the user."""


@dataclass(frozen=True, slots=True)
class ClientInitrd:
    tree: Tree
    existing_directories: frozenset[str]
    """Directories that get no entries in the archive: see `ltsp.cpio.newc.write_archive`."""
    nbd: Tree | None
    """The tree for clients that boot by NBD; None without an nbd-client."""
    modules: Mapping[str, tuple[str, ...]]
    """Paths of the modules of each group, in loading order."""
    left_out_firmware: tuple[str, ...]
    """Firmware of the image beyond the limit."""
    absent_firmware: tuple[str, ...]
    """Firmware that modules may request, but that is not in the image."""
    busybox: str
    """Where busybox comes from."""
    warnings: tuple[str, ...]


def build_client_tree(
    image: Tree, modules: KernelModules, options: ClientOptions | None = None, server: ServerPrograms | None = None
) -> ClientInitrd:
    """The initrd for clients that boot the image's kernel with these modules.

    Raises LtspError if there is no suitable busybox, FormatError if a file of the image is damaged, FileUnreadable if
    one cannot be read.
    """
    options, server = options or ClientOptions(), server or ServerPrograms()
    version = modules.version
    groups = group_modules(modules, options.network_drivers, options.file_systems)
    try:
        files = _read_module_files(image, modules, groups)
        wanted = (name for file in files.values() for name in file.firmware)
        firmware = DriverFirmware.collect(image, version, wanted, options.firmware_limit)
    except OSError as error:
        raise FileUnreadable(
            f"cannot read a module or firmware file of the image: {error.strerror or error}"
        ) from error
    read_image_file = make_image_reader(image)
    targets = _find_targets(read_image_file, files.values())
    busybox = find_busybox(read_image_file, server.read, options.busybox, targets)
    nbd = (
        (find_program(read_image_file, _NBD_CLIENT_PATHS) or _find_server_nbd_client(server.read, targets))
        if options.nbd
        else None
    )
    nodes = {
        **_read_shell_core(),
        **_make_device_nodes(),
        **_make_lists(modules, groups, files),
        **{f"ltsp/modules/{version}/{path}": File(_TEXT_METADATA, Bytes(file.data)) for path, file in files.items()},
        **{f"ltsp/firmware/{path}": File(_TEXT_METADATA, Bytes(data)) for path, data in firmware.included.items()},
        "ltsp/bin/busybox": File(_PROGRAM_METADATA, Bytes(busybox.data)),
        "ltsp/version": _text_file(f"{version}\n"),
    }
    tree = _build_tree(nodes)
    return ClientInitrd(
        tree=tree,
        existing_directories=frozenset(
            path for path, node in tree.walk() if isinstance(node, Directory) and _is_hook_directory(path)
        ),
        nbd=_build_tree(_make_program_nodes(nbd)) if nbd else None,
        modules={name: tuple(map(_path_in_lists, paths)) for name, paths in groups.items()},
        left_out_firmware=firmware.left_out,
        absent_firmware=firmware.missing,
        busybox=busybox.origin,
        warnings=tuple(_find_warnings(modules, groups, options, firmware, nbd)),
    )


def _read_module_files(
    image: Tree, modules: KernelModules, groups: Mapping[str, Iterable[str]]
) -> dict[str, ModuleFile]:
    """The modules by their paths in the lists.

    Raises FormatError if one is missing or damaged, and OSError.
    """
    found: dict[str, ModuleFile] = {}
    for path in dict.fromkeys(path for paths in groups.values() for path in paths):
        path_in_tree = path_in_image(path, modules.version)
        file = image.follow(path_in_tree)
        if not isinstance(file, File):
            raise FormatError(
                f"modules.dep names /{printable(path_in_tree)}, which is not in the image",
                f"run in the source: depmod -a {modules.version}",
            )
        data = decompress(read_small_file(file, path_in_tree, MAX_MODULE_SIZE), path_in_tree, MAX_MODULE_SIZE)
        found[_path_in_lists(path)] = ModuleFile.parse(data, path_in_tree)
    return found


def _path_in_lists(path: str) -> str:
    """A path of modules.dep as in the client's lists: decompressed, and all in one directory."""
    return strip_suffix(path).removeprefix("/")


def _find_targets(read_image_file: ReadFile, files: Iterable[ModuleFile]) -> frozenset[ElfTarget]:
    """The targets that programs for this image may have: those of its modules and of its programs."""
    programs = (parse_elf(read_image_file(path)) for path in _IMAGE_PROGRAMS)
    return frozenset([file.target for file in files] + [elf.target for elf in programs if elf is not None])


def _find_server_nbd_client(read: ReadFile, targets: frozenset[ElfTarget]) -> Program | None:
    program = find_program(read, _NBD_CLIENT_PATHS)
    return program if program is not None and program.target in targets else None


def _make_program_nodes(program: Program) -> dict[str, Node]:
    libraries = {f"ltsp/lib/{name}": File(_PROGRAM_METADATA, Bytes(data)) for name, data in program.libraries.items()}
    return {"ltsp/bin/nbd-client": File(_PROGRAM_METADATA, Bytes(program.data)), **libraries}


def _make_lists(
    modules: KernelModules, groups: Mapping[str, Iterable[str]], files: Mapping[str, ModuleFile]
) -> dict[str, Node]:
    """The lists from which the client's shell code loads modules."""
    packed = {_path_in_lists(path): path for paths in groups.values() for path in paths}
    order = [f"{name} {_path_in_lists(path)}" for name, paths in groups.items() for path in paths]
    load = {path: map(_path_in_lists, modules.load_order([packed[path]])) for path in files}
    return {
        "ltsp/modules.order": _lines_file(order),
        "ltsp/modules.load": _lines_file(f"{path}: {' '.join(order)}" for path, order in load.items()),
        "ltsp/modules.alias": _lines_file(_alias_lines(modules.conf, files)),
        "ltsp/modules.options": _lines_file(
            f"{module_name(path)} {modules.conf.options[module_name(path)]}"
            for path in files
            if module_name(path) in modules.conf.options
        ),
    }


def _alias_lines(conf: ModprobeConf, files: Mapping[str, ModuleFile]) -> Iterator[str]:
    """Lines that map devices and requests of the kernel to modules; blocked modules have none."""
    found = {module_name(path): path for path in files if conf.find_blocking_file(module_name(path)) is None}
    for rule in conf.aliases:
        yield f"{rule.pattern} {found.get(rule.text, '-')} conf"
    for rule in conf.install_rules:
        if rule.pattern not in found:
            yield f"{rule.pattern} - conf"
    yield from (f"{alias} {path}" for path in found.values() for alias in files[path].aliases)


def _read_shell_core() -> dict[str, Node]:
    """The client's shell code, and the hooks that start it in other initrds."""
    files = {}
    with os.scandir(os.path.join(os.path.dirname(__file__), "client")) as listing:
        for entry in filter(os.DirEntry.is_file, listing):
            with open(entry.path, "rb") as file:
                files[entry.name] = file.read()
    hooks = {path: File(_TEXT_METADATA, Bytes(files[name])) for path, name in _HOOK_FILES.items()}
    parts = {
        f"ltsp/sh/{name}": File(_PROGRAM_METADATA if data.startswith(b"#!") else _TEXT_METADATA, Bytes(data))
        for name, data in files.items()
        if name.endswith(".sh") and name not in _HOOK_FILES.values()
    }
    return {"ltsp/init": File(_PROGRAM_METADATA, Bytes(files["init"])), **parts, **hooks}


def _is_hook_directory(path: str) -> bool:
    return path.partition("/")[0] in {"usr", "var"}


def _make_device_nodes() -> dict[str, Node]:
    return {
        "dev/console": Device(Metadata(0o600), DeviceKind.CHARACTER, 5, 1),
        "dev/null": Device(Metadata(0o666), DeviceKind.CHARACTER, 1, 3),
        **{name: Directory(_DIRECTORY_METADATA) for name in ("proc", "sys", "run", "etc", "tmp", "root")},
    }


def _find_warnings(
    modules: KernelModules,
    groups: Mapping[str, Iterable[str]],
    options: ClientOptions,
    firmware: DriverFirmware,
    nbd: Program | None,
) -> Iterable[str]:
    for name in options.network_drivers:
        if name.replace("-", "_") not in modules.names:
            yield f"kernel {modules.version} has no module {printable(name)} (network driver)"
    yield from _find_modprobe_warnings(modules, groups, options)
    if modules.unlisted:
        yield (
            f"clients cannot load {_abbreviate(modules.unlisted)}: not listed in modules.dep of kernel "
            f"{modules.version}; run in the source: depmod -a {modules.version}"
        )
    if modules.unreadable:
        yield f"left out modules of the image that cannot be read: {_abbreviate(modules.unreadable)}"
    if firmware.left_out:
        yield (
            f"left out {len(firmware.left_out)} firmware files beyond the limit of {options.firmware_limit >> 20} MiB: "
            f"{_abbreviate(firmware.left_out)}"
        )
    if nbd is None and options.nbd:
        yield "clients cannot boot by NBD: nbd-client not found; install the package nbd-client (or nbd)"


def _find_modprobe_warnings(
    modules: KernelModules, groups: Mapping[str, Iterable[str]], options: ClientOptions
) -> Iterator[str]:
    """Warnings about the image's modprobe.d(5): what clients do because of it, or in spite of it."""
    chosen = {name.replace("-", "_") for name in options.network_drivers}
    for name, file in find_blocked_drivers(modules).items():
        if not chosen or name in chosen:
            yield f"clients do not load the network driver {name}: /{printable(file)} of the image blocks it"
    for name, file in find_blocked_requirements(modules, groups).items():
        yield f"clients load {name}, which they need to boot, although /{printable(file)} of the image blocks it"
    for name in dict.fromkeys(module_name(path) for paths in groups.values() for path in paths):
        rule = modules.conf.find_install_rule(name)
        if rule is not None and modules.conf.find_disabling_rule(name) is None:
            yield (
                f"clients load {name} without its install command in /{printable(rule.path)} of the image: "
                f"{printable(rule.text)}"
            )


def _abbreviate(paths: Sequence[str]) -> str:
    return ", ".join(map(printable, paths[:4])) + ("…" if len(paths) > 4 else "")


def _text_file(text: str) -> File:
    return File(_TEXT_METADATA, Bytes(encode(text)))


def _lines_file(lines: Iterable[str]) -> File:
    return _text_file("".join(f"{line}\n" for line in lines))


def _build_tree(nodes: Mapping[str, Node]) -> Tree:
    """The tree with these nodes at these paths, including parent directories."""
    root: dict[str, Node] = {}
    entries: dict[str, dict[str, Node]] = {"": root}
    for path in sort_names(list(nodes)):
        *parents, name = path.split("/")
        at, prefix = root, ""
        for directory in parents:
            prefix = f"{prefix}/{directory}"
            if prefix not in entries:
                entries[prefix] = {}
                at[directory] = Directory(_DIRECTORY_METADATA, entries[prefix])
            at = entries[prefix]
        at[name] = nodes[path]
    return Tree(Directory(_DIRECTORY_METADATA, root))
