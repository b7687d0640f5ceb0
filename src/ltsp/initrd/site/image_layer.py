"""The layer of ltsp.img for one image: its accounts merged with those of the server, and settings for login."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ltsp.initrd.site.layer import SiteLayer
from ltsp.initrd.site.login import GDM_FILES, SESSION_DIRECTORIES, SESSION_FILE
from ltsp.tree.content import Bytes
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import decode
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.tree import Tree

ACCOUNT_FILES = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")
LOGIN_DEFS_FILES = ("usr/etc/login.defs", "etc/login.defs")
INSPECTED_PATHS = (*ACCOUNT_FILES, *LOGIN_DEFS_FILES, *GDM_FILES, *SESSION_DIRECTORIES)
"""All paths that are read from an image."""
SESSION_PREFIXES = tuple(f"{path}/" for path in SESSION_DIRECTORIES)
_MAX_ACCOUNT_FILE_SIZE = 16 << 20
"""Maximum bytes of a file."""
_MAX_SETTINGS_SIZE = 1 << 20
_PREFERRED_SESSION = "plasma.desktop"
"""The preferred session; sddm is KDE's display manager."""


@dataclass(frozen=True, slots=True)
class ImageAccountFacts:
    """Facts about an image's accounts, by path before links in the image are resolved."""

    texts: Mapping[str, bytes] = field(default_factory=dict)
    owners: Mapping[str, Metadata] = field(default_factory=dict)
    session: str = ""
    """The desktop that sddm starts: the name of a file below SESSIONS."""

    @classmethod
    def of(cls, tree: Tree) -> ImageAccountFacts:
        """Raises FormatError if a file is too large or damaged."""
        texts: dict[str, bytes] = {}
        owners: dict[str, Metadata] = {}
        for path in (*ACCOUNT_FILES, *LOGIN_DEFS_FILES, *GDM_FILES):
            if isinstance(file := tree.follow(path), File):
                texts[path] = read_small_file(
                    file, path, _MAX_SETTINGS_SIZE if path in GDM_FILES else _MAX_ACCOUNT_FILE_SIZE
                )
                owners[path] = file.metadata
        return cls(texts, owners, _find_session(tree))


def _find_session(tree: Tree) -> str:
    for path in SESSION_DIRECTORIES:
        if isinstance(directory := tree.follow(path), Directory):
            names = sorted(name for name in directory.entries if name.endswith(".desktop") and name.isprintable())
            if names:
                return _PREFERRED_SESSION if _PREFERRED_SESSION in names else names[0]
    return ""


def build_image_layer(
    facts: ImageAccountFacts, merged_files: Mapping[str, bytes], accounts_to_lock: Iterable[str], *, has_autologin: bool
) -> SiteLayer:
    """`merged_files`: account files that differ from the image's; `has_autologin`: whether a section has AUTOLOGIN."""
    files = {
        path: File(_plain_access(facts.owners[path]), Bytes(data))
        for path, data in merged_files.items()
        if path in facts.owners
    }
    parts: dict[str, dict[str, str]] = {}
    if has_autologin:
        for path in GDM_FILES:
            if path in facts.texts:
                parts[path] = {"00-image": _end_with_newline(decode(facts.texts[path]))}
        if facts.session:
            session = f"[Autologin]\nSession={facts.session}\n".encode("utf-8", "surrogateescape")
            files[SESSION_FILE] = File(Metadata(0o644), Bytes(session))
    return SiteLayer(files=files, parts=parts, shadow=dict.fromkeys(accounts_to_lock, "!"))


def _plain_access(metadata: Metadata) -> Metadata:
    """Mode and owner, without setuid and the like; without times, so that the bytes do not change with each build."""
    return replace(Metadata(stat.S_IMODE(metadata.mode) & 0o777), uid=metadata.uid, gid=metadata.gid)


def _end_with_newline(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
