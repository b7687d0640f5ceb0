"""Read what goes into the add-on ltsp.img besides ltsp.conf: files next to it, the server's accounts, the images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os.path import join

from ltsp.errors import LtspError
from ltsp.initrd.site.image_layer import INSPECTED_PATHS, LOGIN_DEFS_FILES, SESSION_PREFIXES, ImageAccountFacts
from ltsp.publish.state import ForeignImage, ImageState
from ltsp.publish.store import Store
from ltsp.report import units
from ltsp.source.directory.directory import DirectorySource
from ltsp.source.find import find_source
from ltsp.source.source import Source
from ltsp.source.squashfs import SquashfsSource
from ltsp.transform.account_merge import AccountFiles
from ltsp.transform.accounts import IdRanges
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults, read_small_file
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File, Metadata, Node, Symlink
from ltsp.tree.selection import Inclusion, Selection, select_all

_SITE_DIRECTORY = "etc/ltsp"
"""Whose files go to clients. ltsp-initrd(8)"""
MAX_SITE_FILES_SIZE = 32 << 20
"""Of all files: each client holds them in memory, twice while it boots."""
MAX_SITE_FILES = 1000
"""Files, directories and links."""
_MAX_SHOWN_FILES = 3
"""How many of the largest files are named."""
_SERVER_ONLY_PREFIXES = ("ltsp.conf", "image.")
"""Prefixes of names that stay on the server: settings, copies of them, lists for building images."""
_RESERVED_NAMES = frozenset({"pre-init", "post-init", "autologin", "relogin"})
"""Names in that directory that ltsp itself writes on clients."""
_ACCOUNT_FILES = ("passwd", "group")
"""Next to ltsp.conf, these replace the server's own: accounts of a directory service, listed by getent(1)."""

Warn = Callable[[str], None]
"""Called with each warning."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server's accounts and identity."""

    accounts: AccountFiles
    machine_id: bytes
    """The server's machine-id(5), which no other machine has."""


def read_server_facts(system: str, conf_dir: str) -> ServerFacts:
    """`system` is the root directory of the server; `conf_dir` the directory of ltsp.conf.

    Raises LtspError if its accounts cannot be read.
    """
    texts = {
        name: _read_bytes(join(conf_dir, name)) or _read_bytes(join(system, "etc", name)) for name in _ACCOUNT_FILES
    }
    id_ranges = IdRanges.parse(_read_bytes(join(system, path)) for path in LOGIN_DEFS_FILES)
    return ServerFacts(
        AccountFiles(texts["passwd"], texts["group"], id_ranges=id_ranges), _read_bytes(join(system, "etc/machine-id"))
    )


def _read_bytes(path: str) -> bytes:
    """The contents of a file of the server; empty if it does not exist."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise LtspError(f"cannot read {printable(path)}: {error.strerror}") from error


def read_site_files(conf: str, system: str, warn: Warn) -> dict[str, Node]:
    """The files of /etc/ltsp that clients get, by path in their root: those that are readable by everyone and writable
    by administrators only. A warning names each of the others. If `conf` is in another directory, clients get none.

    Raises LtspError if there are too many or too large files.
    """
    directory, conf_name = os.path.split(conf)
    if not _is_same_file(directory or ".", join(system, _SITE_DIRECTORY)):
        return {}

    def select(path: str, is_directory: bool) -> Inclusion:
        return Inclusion.NOTHING if path.startswith(conf_name) else _select_for_clients(path, is_directory)

    nodes: dict[str, Node] = {}
    with DirectorySource("site", directory, directory).open(select, Faults()) as tree:
        if reason := _refusal_reason("", tree.root):
            warn(f"nothing in {printable(directory)} is copied to clients: {reason}")
            return {}
        hidden: set[str] = set()
        for path, node in tree.walk():
            if path.rpartition("/")[0] in hidden:
                hidden.add(path)
                continue
            if reason := _refusal_reason(path, node):
                hidden.add(path)
                warn(f"{printable(join(directory, path))} is not copied to clients: {reason}")
                continue
            nodes[path] = node
        _check_size_limits(nodes, directory)
        return {f"{_SITE_DIRECTORY}/{path}": _normalize_node(node, path) for path, node in nodes.items()}


def list_site_files(files: Mapping[str, Node]) -> list[str]:
    """The site's own files of a layer, by path in /etc/ltsp."""
    inside = f"{_SITE_DIRECTORY}/"
    site_files = {path.removeprefix(inside): node for path, node in files.items() if path.startswith(inside)}
    return [
        path
        for path, node in sorted(site_files.items())
        if path.partition("/")[0] not in _RESERVED_NAMES and not isinstance(node, Directory)
    ]


def _is_same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _check_size_limits(nodes: Mapping[str, Node], directory: str) -> None:
    """Raises LtspError."""
    sizes = {path: node.content.size for path, node in nodes.items() if isinstance(node, File)}
    if len(nodes) <= MAX_SITE_FILES and sum(sizes.values()) <= MAX_SITE_FILES_SIZE:
        return
    amount = f"{units.format_count(len(nodes), 'file')} with {units.format_size(sum(sizes.values()))}"
    largest = sorted(sizes, key=lambda path: -sizes[path])[:_MAX_SHOWN_FILES]
    largest_names = ", ".join(f"{printable(path)} ({units.format_size(sizes[path])})" for path in largest)
    raise LtspError(
        f"{printable(directory)} has {amount} for clients, which hold them in memory: the limit is {MAX_SITE_FILES} "
        f"files and {units.format_size(MAX_SITE_FILES_SIZE)}; the largest: {largest_names}",
        "move files that clients do not need elsewhere, or chmod o-r them",
    )


def _select_for_clients(path: str, _directory: bool) -> Inclusion:
    first = path.partition("/")[0]
    name = path.rpartition("/")[2]
    if first.startswith(_SERVER_ONLY_PREFIXES) or first in _RESERVED_NAMES or first in _ACCOUNT_FILES:
        return Inclusion.NOTHING
    return Inclusion.NOTHING if name.startswith(".") or name.endswith("~") else Inclusion.ALL


def _refusal_reason(path: str, node: Node) -> str:
    metadata = node.metadata
    if "\n" in path:
        return "its name contains a line break"  # the client's shell would read it as two names
    if isinstance(node, Symlink):
        return ""
    if not isinstance(node, File | Directory):
        return "it is neither a file nor a directory"
    if metadata.uid not in {0, os.geteuid()}:
        return f"it belongs to user {metadata.uid}; make it root's: chown root"
    if metadata.mode & 0o002:
        return "everyone can write to it; remove that permission: chmod o-w"
    wanted = 0o005 if isinstance(node, Directory) else 0o004
    if metadata.mode & wanted != wanted:
        return "not everyone can read it, as anyone can on clients; if it is not secret, add that permission: chmod o+r"
    return ""


def _normalize_node(node: Node, path: str) -> Node:
    """Owned by root, and without a time."""
    metadata = Metadata(node.metadata.mode & 0o755)
    match node:
        case Directory():
            return Directory(metadata, {})
        case File():
            return File(metadata, Bytes(read_small_file(node, f"{_SITE_DIRECTORY}/{path}", MAX_SITE_FILES_SIZE)))
        case Symlink(target=target):
            return Symlink(Metadata(0o777), target)
        case _:
            raise AssertionError(path)


def read_image_accounts(store: Store, base_dir: str, warn: Warn) -> Iterator[tuple[str, ImageAccountFacts]]:
    """The images and chroots that clients boot, by name; a warning names those that cannot be read."""
    for name in store.names():
        try:
            with ExitStack() as opened:
                source, selection = _find_root_source(store.state(name), base_dir, opened)
                if source is None:
                    continue
                facts = ImageAccountFacts.of(opened.enter_context(source.open(selection, Faults())))
        except LtspError as error:
            warn(f"the server's accounts are not merged into those of {name}: {error.message}")
            continue
        yield name, facts


def _find_root_source(state: ImageState, base_dir: str, keep: ExitStack) -> tuple[Source | None, Selection]:
    """The root file system of clients: the image of that name, else the directory.

    Raises LtspError if a foreign NAME.img cannot be read.
    """
    name, current = state.paths.name, state.current
    chroot = join(base_dir, name)
    if current is not None and current.image_id:
        return SquashfsSource(name, current.image), select_all
    if isinstance(state.image, ForeignImage):
        return find_source(state.image.path, base_dir, name=name, recompress=True, keep=keep), select_all
    if current is not None and os.path.isdir(chroot):
        return DirectorySource(name, chroot, chroot), _select_inspected_files
    return None, select_all


def _select_inspected_files(path: str, _directory: bool) -> Inclusion:
    """Only a few of a chroot's hundred thousand files are needed."""
    inside = f"{path}/"
    wanted = any(f"{each}/".startswith(inside) for each in INSPECTED_PATHS)
    return Inclusion.ALL if wanted or inside.startswith(SESSION_PREFIXES) else Inclusion.NOTHING


def to_account_files(facts: ImageAccountFacts) -> AccountFiles:
    texts: Mapping[str, bytes] = facts.texts
    return AccountFiles(
        texts.get("etc/passwd", b""),
        texts.get("etc/group", b""),
        texts.get("etc/shadow"),
        texts.get("etc/gshadow"),
        IdRanges.parse(texts[path] for path in LOGIN_DEFS_FILES if path in texts),
    )
