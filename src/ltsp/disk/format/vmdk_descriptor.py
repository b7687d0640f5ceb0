"""Parse the descriptor of a VMDK: which extents, in which files, make up the disk.

    RW 4192256 SPARSE "disk-s001.vmdk"
    RW 2097152 FLAT "disk-flat.vmdk" 0

VMware's Virtual Disk Format 1.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ltsp.errors import FormatError, SourceError
from ltsp.tree.name import decode, printable

MAGIC: Final = b"# Disk DescriptorFile"
MAX_SIZE: Final = 1 << 20
"""Bytes of a descriptor in a file of its own."""
_MOST_EXTENTS: Final = 4096
_EXTENT: Final = re.compile(
    r"""(?:RW|RDONLY|NOACCESS)\s++(\d{1,15}+)\s++(\w++)(?:\s++"([^"]*+)"(?:\s++(\d{1,15}+))?+.*+)?+$""", re.ASCII
)
_SETTING: Final = re.compile(r"""([\w.]++)\s*+=\s*+"?+([^"]*+)"?+$""", re.ASCII)
_NO_PARENT: Final = "ffffffff"
UNSUPPORTED_KINDS: Final = {
    "SESPARSE": "an ESXi redo log",
    "VMFSSPARSE": "an ESXi redo log",
    "VMFSRDM": "an ESXi raw device",
    "VMFSRAW": "an ESXi raw device",
}


@dataclass(frozen=True, slots=True)
class VmdkExtent:
    size: int
    """Sectors."""
    kind: str
    """FLAT, SPARSE or ZERO; VMFS is FLAT."""
    name: str
    start: int
    """Sectors in the file."""


@dataclass(frozen=True, slots=True)
class VmdkDescriptor:
    kind: str
    """The createType: monolithicSparse, twoGbMaxExtentFlat …"""
    extents: tuple[VmdkExtent, ...]

    @classmethod
    def parse(cls, data: bytes) -> VmdkDescriptor:
        """Raises FormatError, and SourceError if the image is not a whole disk."""
        settings: dict[str, str] = {}
        extents: list[VmdkExtent] = []
        for line in map(str.strip, decode(data.partition(b"\0")[0]).splitlines()):
            if match := _EXTENT.match(line):
                size, kind, name, start = match.groups()
                if kind in UNSUPPORTED_KINDS:
                    raise SourceError(
                        f"it contains {UNSUPPORTED_KINDS[kind]}", "merge its snapshots, or export the machine as OVF"
                    )
                kind = "FLAT" if kind == "VMFS" else kind
                if kind not in {"FLAT", "SPARSE", "ZERO"} or (kind != "ZERO" and not name):
                    raise FormatError(f"its descriptor has an invalid line: {printable(line[:80])}")
                extents.append(VmdkExtent(int(size), kind, name or "", int(start or 0)))
            elif match := _SETTING.match(line):
                settings.setdefault(match[1].lower(), match[2])
        if settings.get("parentcid", _NO_PARENT).lower() != _NO_PARENT:
            parent = printable(settings.get("parentfilenamehint", "another disk"))
            raise SourceError(f"it is a snapshot that depends on {parent}", "merge its snapshots, or make a full clone")
        if len(extents) > _MOST_EXTENTS:
            raise FormatError(f"its descriptor has {len(extents)} extents")
        return cls(settings.get("createtype", ""), tuple(extents))
