"""File systems that the sandboxed process reads, for a search that also covers mounted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ltsp.sandbox.client import SandboxReader
from ltsp.tree.selection import Selection, select_all
from ltsp.tree.tree import Tree


@dataclass(slots=True)
class SandboxedFileSystem:
    """A file system that the sandboxed process reads."""

    reader: SandboxReader
    number: int
    kind: str
    label: str
    uuid: str
    trees: dict[str | None, Tree] = field(default_factory=dict)

    def tree(self, selection: Selection = select_all) -> Tree:
        return self._tree(None, selection)

    def _tree(self, path: str | None, selection: Selection) -> Tree:
        if path not in self.trees:
            below = {} if path is None else {"subvolume": path}
            self.trees[path] = self.reader.tree({"volume": self.number, **below})
        return self.trees[path].select(selection)


@dataclass(slots=True)
class SandboxedDividedFileSystem(SandboxedFileSystem):
    paths: Sequence[str] = ()

    def subvolume_paths(self) -> Sequence[str]:
        return self.paths

    def subvolume_tree(self, path: str, selection: Selection) -> Tree:
        return self._tree(path, selection)
