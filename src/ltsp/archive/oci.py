"""Find the layers of an image in an OCI layout, from `index.json` through a manifest.

image-spec 1.1: image-layout.md, image-index.md, manifest.md. Written by podman, buildah, skopeo, umoci, buildkit and
`docker save` since version 25.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ltsp.archive import document
from ltsp.archive.document import Digest, ImageLayer, OpenPart
from ltsp.errors import FormatError, SourceError
from ltsp.tree.name import printable

INDEX: Final = "index.json"
_MAX_LAYERS: Final = 1000
"""Layers; an overlay can have at most 500. Kernel: fs/overlayfs/params.c, OVL_MAX_STACK"""
_MAX_INDEX_DEPTH: Final = 4
"""Levels of nested indexes."""
_MAX_SHOWN: Final = 8
_INDEX_MEDIA_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_NAME_ANNOTATIONS: Final = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
"""Annotations with the name of an image: only the tag, or the full name."""
_GO_ARCHITECTURES: Final[Mapping[str, str]] = {
    "x86_64": "amd64",
    "i686": "386",
    "i586": "386",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
}
"""Machine names of uname(2) and of Go, if they differ."""


@dataclass(frozen=True, slots=True)
class _OciDescriptor:
    digest: Digest
    size: int | None
    media_type: str
    names: tuple[str, ...]
    platform: Mapping[str, str]

    @classmethod
    def of(cls, value: object) -> _OciDescriptor:
        """Raises FormatError."""
        record = document.require_mapping(value, "a descriptor")
        size = record.get("size")
        annotations = document.keep_texts(record.get("annotations"))
        return cls(
            Digest.parse(document.require_text(record.get("digest"), "a digest")),
            size if type(size) is int else None,
            document.require_text(record.get("mediaType", ""), "a media type"),
            tuple(annotations[key] for key in _NAME_ANNOTATIONS if key in annotations),
            document.keep_texts(record.get("platform")),
        )

    def read(self, open_part: OpenPart, what: str) -> Mapping[str, Any]:
        stored = open_part(self.digest.path)
        if self.size is not None and stored.size != self.size:
            raise FormatError(
                f"is damaged: {self.digest} is {stored.size} bytes long, not {self.size}", "copy it again"
            )
        return document.require_mapping(document.read_document(stored, what, self.digest), what)

    @property
    def is_image(self) -> bool:
        """Whether it may be a system: buildkit's attestations have no platform."""
        return self.platform.get("architecture") != "unknown"

    @property
    def platform_name(self) -> str:
        """The platform in the notation of `docker --platform`."""
        words = (self.platform.get(key, "") for key in ("os", "architecture", "variant"))
        return "/".join(filter(None, words)) or str(self.digest)


def read_layers(open_part: OpenPart, tag: str, machine: str = "") -> Sequence[ImageLayer]:
    """The layers of the image with this tag, or of the only one; the one for this machine if there are several.

    Raises SourceError if the image is ambiguous or does not exist, FormatError if it is damaged.
    """
    index = document.require_mapping(document.read_document(open_part(INDEX), INDEX), INDEX)
    chosen = _select_tag(_parse_image_descriptors(index), tag)
    for _ in range(_MAX_INDEX_DEPTH):
        descriptor = _select_platform(chosen, machine or os.uname().machine)
        record = descriptor.read(open_part, "a manifest")
        if descriptor.media_type not in _INDEX_MEDIA_TYPES and "manifests" not in record:
            return _parse_layers(record)
        chosen = _parse_image_descriptors(record)
    raise FormatError(f"is damaged: indexes are nested more than {_MAX_INDEX_DEPTH} levels deep")


def _parse_image_descriptors(index: Mapping[str, Any]) -> Sequence[_OciDescriptor]:
    found = [_OciDescriptor.of(value) for value in document.require_list(index.get("manifests"), "an index")]
    images = [descriptor for descriptor in found if descriptor.is_image]
    if not images:
        raise SourceError("contains no container image")
    return images


def _select_tag(found: Sequence[_OciDescriptor], tag: str) -> Sequence[_OciDescriptor]:
    names = {name for descriptor in found for name in descriptor.names}
    listed = ", ".join(printable(name) for name in sorted(names)[:_MAX_SHOWN])
    if tag:
        matches = [descriptor for descriptor in found if tag in descriptor.names]
        if not matches:
            hint = f"available: {listed}" if listed else "omit the tag"
            raise SourceError(f"contains no image tagged {printable(tag)}", hint)
        return matches
    firsts = {descriptor.names[0] for descriptor in found if descriptor.names}
    if len(firsts) > 1:
        raise SourceError(
            f"contains {len(firsts)} images: {listed}", "choose one: append it to the name, after a colon"
        )
    return found


def _select_platform(found: Sequence[_OciDescriptor], machine: str) -> _OciDescriptor:
    """The only one, or the one for this machine."""
    if len(found) == 1:
        return found[0]
    wanted = _GO_ARCHITECTURES.get(machine, machine)
    for descriptor in found:
        if descriptor.platform.get("architecture") == wanted and descriptor.platform.get("os", "linux") == "linux":
            return descriptor
    available = ", ".join(printable(descriptor.platform_name) for descriptor in found[:_MAX_SHOWN])
    raise SourceError(
        f"contains no image for linux/{wanted}, only for {available}",
        "copy the right one: skopeo copy --override-arch ARCH SOURCE oci:DIR",
    )


def _parse_layers(manifest: Mapping[str, Any]) -> Sequence[ImageLayer]:
    kind = document.keep_texts(manifest).get("artifactType", "")
    if kind or "layers" not in manifest:
        raise SourceError(f"contains no container image, but {printable(kind) or 'an artifact of unknown type'}")
    found = []
    for value in document.require_list(manifest["layers"], "the list of layers"):
        descriptor = _OciDescriptor.of(value)
        if descriptor.media_type.endswith("+encrypted"):
            raise SourceError("has encrypted layers", "decrypt them: skopeo copy --decryption-key KEY SOURCE oci:DIR")
        if "tar" not in descriptor.media_type:
            raise SourceError(
                f"contains no container image: a layer has the unsupported type {printable(descriptor.media_type)}"
            )
        found.append(ImageLayer(descriptor.digest.path, packed=descriptor.digest, size=descriptor.size))
    if not 0 < len(found) <= _MAX_LAYERS:
        raise FormatError(f"has {len(found)} layers; between 1 and {_MAX_LAYERS} are supported")
    return found
