"""Tar archives and container images built byte by byte, valid and invalid."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ltsp.archive.archive import ArchiveFormat, ArchiveReader
from ltsp.storage.blocks import FileBlocks
from ltsp.tree.node import Device, Directory, Fifo, File, Socket, Symlink
from ltsp.tree.tree import Tree

BLOCK = 512
END = bytes(2 * BLOCK)


def header(path: bytes, flag: bytes = b"0", size: int = 0, **fields: bytes) -> bytes:
    """A ustar header; `fields` replace what usually stands at mode, uid, gid, length, mtime, target, magic, numbers,
    prefix, or rest (from 345 on).
    """
    block = bytearray(BLOCK)
    block[: len(path[:100])] = path[:100]
    usual = {
        "mode": b"0000644\0", "uid": b"0000000\0", "gid": b"0000000\0", "length": b"%011o\0" % size,
        "mtime": b"00000001000\0", "target": b"", "magic": b"ustar\00000", "numbers": b"0000000\x000000000\0",
        "prefix": b"", "rest": b"",
    }  # fmt: skip
    places = {
        "mode": 100, "uid": 108, "gid": 116, "length": 124, "mtime": 136, "target": 157, "magic": 257, "numbers": 329,
        "prefix": 345, "rest": 345,
    }  # fmt: skip
    for name, value in (usual | fields).items():
        block[places[name] : places[name] + len(value)] = value
    block[156:157] = flag
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def record(keyword: bytes, value: bytes) -> bytes:
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, keyword, value)


def extended(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    data = b"".join(record(*pair) for pair in records)
    return header(b"pax", flag, len(data)) + padded(data)


def long_name(path: bytes, flag: bytes = b"L") -> bytes:
    data = path + b"\0"
    return header(b"././@LongLink", flag, len(data), magic=b"ustar  \0") + padded(data)


def file(path: bytes, data: bytes = b"", **fields: bytes) -> bytes:
    return header(path, b"0", len(data), **fields) + padded(data)


def directory(path: bytes, **fields: bytes) -> bytes:
    return header(path, b"5", **({"mode": b"0000755\0"} | fields))


def symlink(path: bytes, target: bytes) -> bytes:
    return header(path, b"2", target=target)


def link(path: bytes, target: bytes) -> bytes:
    return header(path, b"1", target=target)


def tar(*members: bytes) -> bytes:
    return b"".join(members) + END


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """An OCI layout that is put together blob by blob."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
        self.manifests: list[dict[str, object]] = []

    def blob(self, data: bytes, media_type: str) -> dict[str, object]:
        name = digest(data)
        self.files[f"blobs/{name.replace(':', '/')}"] = data
        return {"mediaType": media_type, "digest": name, "size": len(data)}

    def document(self, value: object, media_type: str) -> dict[str, object]:
        return self.blob(json.dumps(value).encode(), media_type)

    def image(self, *layers: bytes, tag: str = "", platform: Mapping[str, str] | None = None) -> dict[str, object]:
        configuration = {"rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}}
        manifest = {
            "schemaVersion": 2,
            "config": self.document(configuration, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers],
        }
        descriptor = self.document(manifest, "application/vnd.oci.image.manifest.v1+json")
        if tag:
            descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
        if platform:
            descriptor["platform"] = dict(platform)
        return descriptor

    def index(self, *manifests: dict[str, object]) -> dict[str, object]:
        return self.document(
            {"schemaVersion": 2, "manifests": list(manifests)}, "application/vnd.oci.image.index.v1+json"
        )

    def of(self, *manifests: dict[str, object]) -> Layout:
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": list(manifests)}).encode()
        return self

    def write(self, at: Path) -> Path:
        for name, data in self.files.items():
            path = at / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return at

    def archive(self) -> bytes:
        return tar(*(file(name.encode(), data) for name, data in self.files.items()))


def layout(*layers: bytes) -> Layout:
    """A layout with one image."""
    made = Layout()
    return made.of(made.image(*layers))


def docker(*layers: bytes, tags: Sequence[str] = ("lab:latest",)) -> bytes:
    """What `docker save` wrote before it wrote OCI layouts too."""
    configuration = json.dumps({"rootfs": {"diff_ids": [digest(layer) for layer in layers]}}).encode()
    name = digest(configuration).removeprefix("sha256:") + ".json"
    paths = [f"{digest(layer).removeprefix('sha256:')}/layer.tar" for layer in layers]
    manifest = [{"Config": name, "RepoTags": list(tags), "Layers": paths}]
    return tar(
        *(file(path.encode(), layer) for path, layer in zip(paths, layers, strict=True)),
        file(name.encode(), configuration),
        file(b"manifest.json", json.dumps(manifest).encode()),
    )


def packed(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def shown(tree: Tree) -> dict[str, str]:
    """Paths and what is there, in a word: a directory's name ends with a slash."""
    found = {}
    for path, node in tree.walk():
        match node:
            case Directory():
                found[path + "/"] = ""
            case File():
                with node.content.open() as stream:
                    found[path] = stream.read(stream.size).decode()
            case Symlink():
                found[path] = f"-> {node.target}"
            case Device():
                found[path] = f"{node.kind.value} {node.major}:{node.minor}"
            case Fifo() | Socket():
                found[path] = type(node).__name__
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes in memory, read like those of a file."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, place: int, size: int) -> bytes:
        return self.data[place : place + size]


class Opened:
    """Reads archives from files below a directory, and keeps them open until the end of the test."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.reader = ArchiveReader(str(scratch))
        self.files: list[BinaryIO] = []

    def __call__(self, data: bytes, form: ArchiveFormat = ArchiveFormat.ANY, tag: str = "") -> Tree:
        path = self.scratch / f"{len(self.files)}.tar"
        path.write_bytes(data)
        self.files.append(path.open("rb"))
        return self.reader.read_file(FileBlocks.of(self.files[-1]), form, tag)

    def close(self) -> None:
        self.reader.close()
        for opened in self.files:
            opened.close()
