"""Where the add-on ltsp.img comes from besides ltsp.conf: files beside it, the server's accounts, published images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os.path import join

from ltsp.errors import LtspError
from ltsp.initrd.site.image_layer import INSPECTED_PATHS, LIMIT_FILES, SESSION_DIRECTORIES, ImageAccountFacts
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
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File, Metadata, Node, Symlink
from ltsp.tree.read_file import read_small_file
from ltsp.tree.selection import Inclusion, Selection, select_all

_DIRECTORY = "etc/ltsp"
"""Whose files go to clients. ltsp-initrd(8)"""
MOST_BYTES = 32 << 20
"""Of them all: they lie in the memory of each client, twice while it starts."""
MOST_NODES = 1000
"""Files, directories and links."""
_MOST_NAMED = 3
"""So many of the largest ones are named."""
_OF_THE_SERVER = ("ltsp.conf", "image.")
"""How names begin of what is the server's own: settings, copies of them, lists for building images."""
_OURS = frozenset({"pre-init", "post-init", "autologin", "relogin"})
"""What we lay there ourselves."""
_ACCOUNTS = ("passwd", "group")
"""Beside ltsp.conf, these take the place of the server's own: accounts of a directory service, listed by getent(1)."""

Warn = Callable[[str], None]
"""Told what the reader should act on or know."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server has to give."""

    accounts: AccountFiles
    key: bytes
    """What no other server has: its machine-id(5)."""


def read_server(system: str, beside: str) -> ServerFacts:
    """`system` is where its /etc is found; `beside` the directory of ltsp.conf.

    Raises LtspError where its accounts cannot be read.
    """
    texts = {name: _read_bytes(join(beside, name)) or _read_bytes(join(system, "etc", name)) for name in _ACCOUNTS}
    limits = IdRanges.parse(_read_bytes(join(system, path)) for path in LIMIT_FILES)
    return ServerFacts(
        AccountFiles(texts["passwd"], texts["group"], limits=limits), _read_bytes(join(system, "etc/machine-id"))
    )


def _read_bytes(path: str) -> bytes:
    """What a file of the server's own holds; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise LtspError(f"cannot read {printable(path)}: {error.strerror}") from error


def read_site_files(conf: str, system: str, warn: Warn) -> dict[str, Node]:
    """What clients get of /etc/ltsp, by path in their root: what everybody may read, and only administrators may write.
    All else is named in a warning. An ltsp.conf elsewhere, whose path is `conf`, brings none of its neighbours along.

    Raises LtspError where it is more than clients should carry.
    """
    directory, own = os.path.split(conf)
    if not _is_same(directory or ".", join(system, _DIRECTORY)):
        return {}

    def chosen(path: str, is_directory: bool) -> Inclusion:
        return Inclusion.NOTHING if path.startswith(own) else _select_for_clients(path, is_directory)

    nodes: dict[str, Node] = {}
    with DirectorySource("site", directory, directory).open(chosen, Faults()) as tree:
        if reason := _refusal_reason("", tree.root):
            warn(f"nothing in {printable(directory)} goes to clients: {reason}")
            return {}
        hidden: set[str] = set()
        for path, node in tree.walk():
            if path.rpartition("/")[0] in hidden:
                hidden.add(path)
                continue
            if reason := _refusal_reason(path, node):
                hidden.add(path)
                warn(f"{printable(join(directory, path))} does not go to clients: {reason}")
                continue
            nodes[path] = node
        _check_size_limits(nodes, directory)
        return {f"{_DIRECTORY}/{path}": _normalize_node(node, path) for path, node in nodes.items()}


def list_site_files(files: Mapping[str, Node]) -> list[str]:
    """Those of a layer's files that are the site's own, as they lie in /etc/ltsp."""
    inside = f"{_DIRECTORY}/"
    below = {path.removeprefix(inside): node for path, node in files.items() if path.startswith(inside)}
    return [
        path
        for path, node in sorted(below.items())
        if path.partition("/")[0] not in _OURS and not isinstance(node, Directory)
    ]


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _check_size_limits(nodes: Mapping[str, Node], directory: str) -> None:
    """Raises LtspError."""
    sizes = {path: node.content.size for path, node in nodes.items() if isinstance(node, File)}
    if len(nodes) <= MOST_NODES and sum(sizes.values()) <= MOST_BYTES:
        return
    locked = f"{units.plural(len(nodes), 'file')} with {units.size(sum(sizes.values()))}"
    largest = sorted(sizes, key=lambda path: -sizes[path])[:_MOST_NAMED]
    largest_names = ", ".join(f"{printable(path)} ({units.size(sizes[path])})" for path in largest)
    raise LtspError(
        f"{printable(directory)} has {locked} for clients, which hold them in memory, and at most {MOST_NODES} files "
        f"with {units.size(MOST_BYTES)} go there; the largest: {largest_names}",
        "move what clients do not need elsewhere, or chmod o-r it",
    )


def _select_for_clients(path: str, _directory: bool) -> Inclusion:
    first = path.partition("/")[0]
    name = path.rpartition("/")[2]
    if first.startswith(_OF_THE_SERVER) or first in _OURS or first in _ACCOUNTS:
        return Inclusion.NOTHING
    return Inclusion.NOTHING if name.startswith(".") or name.endswith("~") else Inclusion.ALL


def _refusal_reason(path: str, node: Node) -> str:
    metadata = node.metadata
    if "\n" in path:
        return "its name goes over two lines"  # which the shell of a client that boots would read as two names
    if isinstance(node, Symlink):
        return ""
    if not isinstance(node, File | Directory):
        return "it is neither a file nor a directory"
    if metadata.uid not in {0, os.geteuid()}:
        return f"it belongs to user {metadata.uid}"
    if metadata.mode & 0o002:
        return "everybody can write to it"
    wanted = 0o005 if isinstance(node, Directory) else 0o004
    if metadata.mode & wanted != wanted:
        return "not everybody may read it, and whoever can boot can read what clients get; chmod o+r if it is no secret"
    return ""


def _normalize_node(node: Node, path: str) -> Node:
    """As root's, and without a time."""
    metadata = Metadata(node.metadata.mode & 0o755)
    match node:
        case Directory():
            return Directory(metadata, {})
        case File():
            return File(metadata, Bytes(read_small_file(node, f"{_DIRECTORY}/{path}", MOST_BYTES)))
        case Symlink(target=target):
            return Symlink(Metadata(0o777), target)
        case _:
            raise AssertionError(path)


def read_images(store: Store, base_dir: str, warn: Warn) -> Iterator[tuple[str, ImageAccountFacts]]:
    """The images and chroots that clients boot, by name; those that cannot be looked into are named in a warning."""
    for name in store.names():
        try:
            source, take = _find_root(store.state(name), base_dir)
            if source is None:
                continue
            with source.open(take, Faults()) as tree:
                facts = ImageAccountFacts.of(tree)
        except LtspError as error:
            warn(f"the server's accounts are not merged into those of {name}: {error.message}")
            continue
        yield name, facts


def _find_root(state: ImageState, base_dir: str) -> tuple[Source | None, Selection]:
    """What clients of a name have as their root: its image, else the directory of that name.

    Raises LtspError where somebody else's NAME.img is nothing that can be read.
    """
    name, current = state.paths.name, state.current
    chroot = join(base_dir, name)
    if current is not None and current.image_id:
        return SquashfsSource(name, current.image), select_all
    if isinstance(state.image, ForeignImage):
        return find_source(state.image.path, base_dir, name=name, recompress=True), select_all
    if current is not None and os.path.isdir(chroot):
        return DirectorySource(name, chroot, chroot), _select_facts
    return None, select_all


def _select_facts(path: str, _directory: bool) -> Inclusion:
    """A chroot has a hundred thousand files, a few of which are looked at."""
    inside = f"{path}/"
    wanted = any(f"{each}/".startswith(inside) for each in INSPECTED_PATHS)
    return Inclusion.ALL if wanted or inside.startswith(SESSION_DIRECTORIES) else Inclusion.NOTHING


def account_files(facts: ImageAccountFacts) -> AccountFiles:
    texts: Mapping[str, bytes] = facts.texts
    return AccountFiles(
        texts.get("etc/passwd", b""),
        texts.get("etc/group", b""),
        texts.get("etc/shadow"),
        texts.get("etc/gshadow"),
        IdRanges.parse(texts[path] for path in LIMIT_FILES if path in texts),
    )
