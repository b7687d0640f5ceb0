"""A squashfs image as a source: read by our own reader, neither mounted nor unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from ltsp.errors import FileChanged, FormatError, SourceError
from ltsp.inspection.root_file_systems import enter_nested_root
from ltsp.source.source import Plan, SelfContainedSource, SourcePart
from ltsp.squashfs.reader import Image
from ltsp.tree.faults import Faults
from ltsp.tree.name import encode, printable
from ltsp.tree.selection import Selection
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class SquashfsSource(SelfContainedSource):
    """An image in a file of the host."""

    name: str
    path: str
    """As the user gave it."""

    @property
    def description(self) -> str:
        return f"squashfs image {self.path}"

    @property
    def kind(self) -> str:
        return "squashfs"

    def plan(self) -> Plan:
        return Plan(included=(SourcePart("", self.description),))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - an image is whole or damaged
        """Raises FormatError for a damaged image, and FileChanged if the file was written to while it was being read.

        Replacing the image meanwhile does no harm: the opened file stays.
        """
        display_name = printable(self.path)
        with ExitStack() as stack:
            try:
                file = stack.enter_context(open(encode(self.path), "rb", buffering=0))
                initial_stamp = _change_stamp(file)
                tree = enter_nested_root(Image.open(file, display_name).tree())
            except OSError as error:
                raise SourceError(f"cannot read {display_name}: {error.strerror}") from error
            except FormatError as error:
                raise FormatError(f"{display_name}: {error.message}", "copy it again, or recreate it") from error
            yield tree.select(selection)
            if _change_stamp(file) != initial_stamp:
                raise FileChanged(
                    f"{display_name} was written to while it was being read", "try again when it is no longer in use"
                )


def _change_stamp(file: BinaryIO) -> tuple[int, int]:
    """What a write changes. Not ctime: publishing creates hard links to the file, which change it."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
