"""Write trees to image files for the tests of the writer."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryFile

from ltsp.squashfs.compression import Compression
from ltsp.squashfs.writer import WriteOptions, WriteResult, write_squashfs
from ltsp.tree.content import Bytes, Content
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata, Node
from ltsp.tree.tree import Tree

FAST = Compression("zstd", 1)


def write_image(tree: Tree, path: Path, faults: Faults | None = None, **options: object) -> WriteResult:
    options.setdefault("compression", FAST)
    options.setdefault("block_size", 4096)
    with open(path, "w+b", buffering=0) as file:
        return write_squashfs(tree, file, WriteOptions(**options), Faults() if faults is None else faults)  # type: ignore[arg-type]


def in_memory(tree: Tree, options: WriteOptions, faults: Faults | None = None) -> io.BytesIO:
    with TemporaryFile(buffering=0) as file:
        write_squashfs(tree, file, options, Faults() if faults is None else faults)
        file.seek(0)
        return io.BytesIO(file.read())


def file(content: Content | bytes, **metadata: object) -> File:
    metadata.setdefault("mode", 0o644)
    return File(Metadata(**metadata), Bytes(content) if isinstance(content, bytes) else content)  # type: ignore[arg-type]


def tree(**entries: Node | bytes) -> Tree:
    nodes = {name: file(entry) if isinstance(entry, bytes) else entry for name, entry in entries.items()}
    return Tree(Directory(Metadata(0o755), nodes))
