"""Find the layers of an image written by `docker save` or `skopeo copy … docker-archive:`, from `manifest.json`.

moby: image/spec/spec.md, "Combined Image JSON + Filesystem Changeset Format". The digests of the layers are in the
image's configuration, whose own digest is its file name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.archive import document
from ltsp.archive.document import Digest, ImageLayer, OpenPart
from ltsp.errors import FormatError, SourceError
from ltsp.tree.name import printable

MANIFEST: Final = "manifest.json"
_MAX_LAYERS: Final = 1000
_MAX_SHOWN: Final = 8
_IMPLIED_PREFIXES: Final = ("", "docker.io/library/", "docker.io/", "localhost/")
"""Prefix that skopeo and podman put before a name in the file, but users do not type."""
_NAMED_BY_DIGEST: Final = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")


@dataclass(frozen=True, slots=True)
class _DockerImage:
    configuration: str
    """Path of the configuration."""
    tags: Sequence[str]
    layer_paths: Sequence[str]
    """Paths of the layers, lowest first."""

    @classmethod
    def of(cls, value: object) -> _DockerImage:
        """Raises FormatError."""
        record = document.require_mapping(value, MANIFEST)
        return cls(
            document.require_text(record.get("Config"), MANIFEST),
            [
                document.require_text(tag, MANIFEST)
                for tag in document.require_list(record.get("RepoTags") or [], MANIFEST)
            ],
            [document.require_text(path, MANIFEST) for path in document.require_list(record.get("Layers"), MANIFEST)],
        )


def read_layers(open_part: OpenPart, tag: str) -> Sequence[ImageLayer]:
    """The layers of the image with this tag, or of the only one.

    Raises SourceError if the image is ambiguous or does not exist, FormatError if it is damaged.
    """
    values = document.require_list(document.read_document(open_part(MANIFEST), MANIFEST), MANIFEST)
    image = _choose_image([_DockerImage.of(value) for value in values], tag)
    match = _NAMED_BY_DIGEST.fullmatch(image.configuration)
    digest = Digest("sha256", match[1]) if match else None
    stored = open_part(image.configuration)
    configuration = document.require_mapping(
        document.read_document(stored, "the configuration", digest), "the configuration"
    )
    root = document.require_mapping(configuration.get("rootfs"), "the configuration")
    digests = [
        document.require_text(text, "a digest")
        for text in document.require_list(root.get("diff_ids"), "the configuration")
    ]
    if len(digests) != len(image.layer_paths) or not 0 < len(digests) <= _MAX_LAYERS:
        raise FormatError(f"is damaged: it has {len(image.layer_paths)} layers, but {len(digests)} digests")
    return [
        ImageLayer(path, unpacked=Digest.parse(digest)) for path, digest in zip(image.layer_paths, digests, strict=True)
    ]


def _choose_image(images: Sequence[_DockerImage], tag: str) -> _DockerImage:
    listed = ", ".join(printable(name) for image in images for name in image.tags[:_MAX_SHOWN])
    accepted_names = {tag, *(f"{prefix}{tag}{latest}" for prefix in _IMPLIED_PREFIXES for latest in ("", ":latest"))}
    matches = [image for image in images if tag in image.tags] or [
        image for image in images if not tag or accepted_names.intersection(image.tags)
    ]
    if not matches:
        what = f"contains no image tagged {printable(tag)}" if tag else "contains no image"
        raise SourceError(what, f"available: {listed}" if listed else "")
    if len(matches) > 1:
        raise SourceError(
            f"contains {len(matches)} images: {listed}", "choose one: append it to the name, after a colon"
        )
    return matches[0]
