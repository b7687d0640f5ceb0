"""Building a layer of ltsp.img, setting by setting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ltsp.initrd.site.layer import SiteLayer, text_file
from ltsp.initrd.site.login import LoginFiles
from ltsp.initrd.site.passwords import Accounts
from ltsp.settings.resolve import Setting
from ltsp.tree.node import Node


@dataclass(slots=True)
class LayerBuilder:
    shared: Mapping[str, Setting]
    """The settings of all clients, for keys that depend on each other."""
    accounts: Accounts
    warnings: list[str]
    files: dict[str, Node] = field(default_factory=dict)
    parts: dict[str, dict[str, str]] = field(default_factory=dict)
    templates: set[str] = field(default_factory=set)
    env: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    shadow: dict[str, str] = field(default_factory=dict)
    own: Mapping[str, Setting] = field(default_factory=dict)

    def add_file(self, path: str, text: str, mode: int = 0o644) -> None:
        self.files[path] = text_file(text, mode)
        self.templates.discard(path)
        if "%{" in text:
            self.templates.add(path)

    def add_piece(self, path: str, name: str, text: str) -> None:
        self.parts.setdefault(path, {})[name] = text
        if "%{" in text:
            self.templates.add(path)

    def add(self, name: str, entries: Iterable[str]) -> None:
        self.lists.setdefault(name, []).extend(entries)

    def login(self, login: LoginFiles) -> None:
        for path, text in login.files.items():
            self.add_file(path, text)
        for path, pieces in login.parts.items():
            for name, text in pieces.items():
                self.add_piece(path, name, text)

    def value(self, key: str) -> str:
        """The value of a key for clients of this layer; empty if it is not set."""
        setting = self.own.get(key, self.shared.get(key))
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
