"""A system inside a carrier, as a source: on a live medium a file or a stack of layers, with the medium's kernel; in an
archive the disk of a virtual machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ltsp.boot.kernel_rules import KernelRule
from ltsp.errors import LtspError, SourceError
from ltsp.inspection import exported_disk, live_medium
from ltsp.inspection.live_medium import LiveMedium
from ltsp.inspection.root_file_systems import is_system
from ltsp.source.directory.host_file import spill_to_host
from ltsp.source.live import live_kernel
from ltsp.source.live.live_kernel import add_kernel
from ltsp.source.source import OpenImage, Plan, SourcePart, SourceWrapper
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File
from ltsp.tree.overlay import merge_layers
from ltsp.tree.selection import Inclusion, Selection, select_all
from ltsp.tree.tree import Tree

_MAX_DEPTH = 3
"""Nesting depth of files: a file system in a squashfs in a disc."""
_MEDIUM_DIRECTORIES = live_medium.MEDIUM_DIRECTORIES | live_kernel.KERNEL_DIRECTORIES


@dataclass(frozen=True, slots=True)
class LiveSource(SourceWrapper):
    open_image: OpenImage
    argument: str
    """The medium as the user named it."""
    live: LiveMedium | None
    """None if not known before the work; then it may also be an ordinary system."""
    inner_path: str = ""
    """The path of the system's file or uppermost layer, or of a directory, if the user gave it."""
    is_archive: bool = False
    """Whether the carrier is an archive, in which a disk may be anywhere."""
    warnings: tuple[str, ...] = ()
    user_rule: str = ""
    """The user's rule for finding a kernel, which may match that of the medium."""

    @property
    def description(self) -> str:
        return f"{self._chosen_path} in {self.base.description}" if self._chosen_path else self.base.description

    def plan(self) -> Plan:
        plan = self.base.plan()
        warnings = [*self.warnings, *plan.warnings]
        if self.live and len(self.live.systems) > 1 and not self.inner_path:
            every = [each for each in self.live.systems if each != self._chosen_path]
            other = f"{printable(self.argument)},,{printable(every[0])}"
            chosen = f"using {printable(self._chosen_path)}, the default of the live medium"
            warnings.append(
                f"{chosen}; it also has {live_medium.format_paths(every)}: to choose one, name it as {other}"
            )
        taken = (
            (*plan.included, SourcePart("", self._chosen_path, "part of the source itself"))
            if self._chosen_path
            else plan.included
        )
        return replace(plan, included=taken, warnings=tuple(warnings))

    def check_system_chosen(self) -> None:
        """Raises SourceError if the user has to choose a system."""
        if self.live and not self._chosen_path:
            raise self.live.ambiguous_error(printable(self.argument))

    def check_clients_find_system(self) -> None:
        """Raises SourceError if a client that boots the unmodified medium cannot find the system in it."""
        if self.live and self.live.default_path not in live_medium.SINGLE_FILE_PATHS:
            raise SourceError(
                f"clients cannot boot {printable(self.argument)} as it is: they would not find its system, "
                f"{printable(self._chosen_path)}",
                f"make an image of it: ltsp image {printable(self.argument)} --name NAME",
            )

    @property
    def _chosen_path(self) -> str:
        return self.inner_path or (self.live.default_path if self.live else "")

    def peek_tree(self, selection: Selection) -> AbstractContextManager[None]:  # noqa: ARG002 - the system is inside a file
        return nullcontext()

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        """Raises SourceError and FormatError."""
        with ExitStack() as stack:
            top_globs = _MEDIUM_DIRECTORIES | (
                KernelRule.parse(self.user_rule).top_directories if self.user_rule else set()
            )
            # The selection applies to the system inside, not to the medium.
            wanted = select_all if self.inner_path or self.is_archive else _include_medium(selection, top_globs)
            medium = stack.enter_context(self.base.open(wanted, faults))
            yield self._open_system(medium, faults, stack).select(selection)

    def _open_system(self, medium: Tree, faults: Faults, stack: ExitStack) -> Tree:
        if self.inner_path:
            return self._open_layers(medium, self.inner_path, faults, stack)
        if self.live is None and is_system(medium):
            return medium
        nested_medium = LiveMedium.of(medium)
        if nested_medium is None:
            return self._open_disk(medium, faults, stack) if self.is_archive else medium
        if not nested_medium.default_path:
            raise nested_medium.ambiguous_error(printable(self.argument))
        return self._open_layers(medium, nested_medium.default_path, faults, stack)

    def _open_disk(self, medium: Tree, faults: Faults, stack: ExitStack) -> Tree:
        every = exported_disk.find_disks(medium)
        if not every:
            exported_disk.check_holds_disk(medium, self.argument)
            return medium
        disk = exported_disk.require_single_disk(every, self.argument)
        try:
            return self._open_tree(medium, disk, faults, stack)
        except LtspError as error:
            raise exported_disk.unreadable_error(error, self.argument, disk) from error

    def _open_layers(self, medium: Tree, path: str, faults: Faults, stack: ExitStack) -> Tree:
        layers = live_medium.find_layer_chain(medium, path)
        trees = [self._open_tree(medium, each, faults, stack) for each in layers]
        tree = merge_layers(trees) if len(trees) > 1 else trees[0]
        for _ in range(_MAX_DEPTH):
            inner = None if is_system(tree) else LiveMedium.of(tree)
            if inner is None or not inner.default_path:
                break
            tree = self._open_tree(tree, inner.default_path, faults, stack)
        others = live_medium.find_other_layers(medium, layers)
        other_trees = (self._open_tree(medium, each, faults, stack) for each in others)
        return add_kernel(tree, medium, other_trees, self.user_rule)

    def _open_tree(self, medium: Tree, path: str, faults: Faults, stack: ExitStack) -> Tree:
        match medium.follow(path):
            case Directory() as directory:
                return Tree(directory)
            case File(content=content):
                source = self.open_image(stack.enter_context(spill_to_host(content)), stack)
                return stack.enter_context(source.open(select_all, faults))
            case _:
                live = LiveMedium.of(medium)
                systems = f"; it has {live_medium.format_paths(live.systems)}" if live else ""
                raise SourceError(
                    f"{printable(path)} not found in {printable(self.base.description)}{systems}",
                    "check the path: it is looked up in the parts before this one",
                )


def _include_medium(selection: Selection, top_globs: Collection[str]) -> Selection:
    """The selection, plus the directories that identify a live medium and hold its system. `top_globs` are globs."""

    def select(path: str, directory: bool) -> Inclusion:
        first = path.partition("/")[0]
        return Inclusion.ALL if any(fnmatchcase(first, top) for top in top_globs) else selection(path, directory)

    return select
