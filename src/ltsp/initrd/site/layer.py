"""A layer of ltsp.img, see docs/ltsp.img.md: the files and settings that a group of clients gets over its root.

It is built setting by setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ltsp.initrd.site.login import LoginFiles
from ltsp.initrd.site.passwords import Accounts
from ltsp.settings.resolve import Setting
from ltsp.tree.content import Bytes
from ltsp.tree.name import encode
from ltsp.tree.node import Directory, File, Metadata, Node, Symlink
from ltsp.tree.tree import Tree

DIRECTORY_METADATA = Metadata(0o755)
LIST_NAMES = ("remove", "unneeded", "mask", "disable", "enable", "keep")


@dataclass(frozen=True, slots=True)
class SiteLayer:
    """Lists keep the order of the settings, each entry once. All times are 0, so only settings change the bytes."""

    match: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Node] = field(default_factory=dict)
    """By path in the client's root. Parent directories are created; an explicit directory keeps its mode."""
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Pieces by the file's path and the piece's name."""
    templates: frozenset[str] = frozenset()
    remove: tuple[str, ...] = ()
    unneeded: tuple[str, ...] = ()
    """Units that are masked if the image has them."""
    mask: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    shadow: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether it would change nothing on a client."""
        lists = any(getattr(self, name) for name in LIST_NAMES)
        return not (self.env or self.files or self.parts or self.shadow or lists)

    def to_directory(self) -> Directory:
        entries: dict[str, Node] = {}
        for name, lines in (("match", self.match), *((name, getattr(self, name)) for name in LIST_NAMES)):
            if lines:
                entries[name] = make_text_file("".join(f"{line}\n" for line in lines))
        if self.env:
            entries["env"] = make_text_file("".join(f"{key}='{value}'\n" for key, value in sorted(self.env.items())))
        if self.shadow:
            entries["shadow"] = make_text_file(
                "".join(f"{name}:{hashed}\n" for name, hashed in self.shadow.items()), 0o600
            )
        if self.templates:
            entries["templates"] = make_text_file("".join(f"{path}\n" for path in sorted(self.templates)))
        if self.files:
            entries["files"] = build_tree(self.files).root
        if self.parts:
            pieces = {f"{path}/{name}": text for path, each in self.parts.items() for name, text in each.items()}
            entries["parts"] = build_tree({path: make_text_file(text) for path, text in pieces.items()}).root
        return Directory(DIRECTORY_METADATA, entries)


def make_text_file(text: str, mode: int = 0o644) -> File:
    return File(Metadata(mode), Bytes(encode(text)))


def make_symlink(target: str) -> Symlink:
    return Symlink(Metadata(0o777), target)


def build_tree(nodes: Mapping[str, Node]) -> Tree:
    """The tree with these nodes at these paths, including missing parent directories."""
    root: dict[str, Node] = {}
    for path, node in sorted(nodes.items()):
        *parents, name = path.split("/")
        entries = root
        for each in parents:
            directory = entries.setdefault(each, Directory(DIRECTORY_METADATA, {}))
            assert isinstance(directory, Directory)
            assert isinstance(directory.entries, dict)
            entries = directory.entries
        entries[name] = Directory(node.metadata, dict(node.entries)) if isinstance(node, Directory) else node
    return Tree(Directory(DIRECTORY_METADATA, root))


def build_site_tree(layers: Mapping[str, SiteLayer], server: Mapping[str, str]) -> Tree:
    """The tree of ltsp.img, given its layers by name: `common`, `image/lab`, `section/0001`."""
    nodes: dict[str, Node] = {f"ltsp/site/{name}": layer.to_directory() for name, layer in layers.items()}
    facts = "".join(f"{key}='{value}'\n" for key, value in sorted(server.items()))
    return build_tree(nodes | {"ltsp/site/server": make_text_file(facts)})


@dataclass(slots=True)
class LayerBuilder:
    common_settings: Mapping[str, Setting]
    """The settings of all clients, for keys that depend on each other."""
    accounts: Accounts
    warnings: list[str]
    files: dict[str, Node] = field(default_factory=dict)
    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    templates: set[str] = field(default_factory=set)
    env: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    shadow: dict[str, str] = field(default_factory=dict)
    section_settings: Mapping[str, Setting] = field(default_factory=dict)

    def add_file(self, path: str, text: str, mode: int = 0o644) -> None:
        self.files[path] = make_text_file(text, mode)
        self.templates.discard(path)
        if "%{" in text:
            self.templates.add(path)

    def add_piece(self, path: str, name: str, text: str) -> None:
        self.parts.setdefault(path, {})[name] = text
        if "%{" in text:
            self.templates.add(path)

    def add(self, name: str, entries: Iterable[str]) -> None:
        self.lists.setdefault(name, []).extend(entries)

    def add_login_files(self, login: LoginFiles) -> None:
        for path, text in login.files.items():
            self.add_file(path, text)
        for path, pieces in login.parts.items():
            for name, text in pieces.items():
                self.add_piece(path, name, text)

    def value(self, key: str) -> str:
        """The value of a key for clients of this layer; empty if it is not set."""
        setting = self.section_settings.get(key, self.common_settings.get(key))
        return "" if setting is None or setting.fault else setting.value

    def build(self, match: tuple[str, ...]) -> SiteLayer:
        lists = {name: tuple(dict.fromkeys(entries)) for name, entries in self.lists.items()}
        return SiteLayer(
            match=match,
            env=self.env,
            files=self.files,
            parts=self.parts,
            templates=frozenset(self.templates),
            shadow=dict(sorted(self.shadow.items())),
            **lists,
        )
