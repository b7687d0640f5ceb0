"""A tree in each kind of archive and container image, made by the usual programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from corpus import format_limits, tree_snapshot
from corpus.format_limits import Loss


@dataclass(frozen=True, slots=True)
class ArchiveKind:
    make: Callable[[Path, Path], str]
    """Makes the archive of a tree in a new directory; returns the argument of `ltsp image`."""
    losses: tuple[Loss, ...] = ()
    piped: bool = False
    """Whether the argument is a path whose content is passed on standard input."""


_SOCKETS = format_limits.kinds("tar has no type for sockets", "s")
_NO_ATTRIBUTES = format_limits.attributes("only pax has a place for attributes", lambda _name, _value: True)
_LINKS = format_limits.links("GNU tar looks for other names of regular files and symbolic links alone", "cbp")


def _fits_ustar(path: bytes, entry: tree_snapshot.Entry) -> bool:
    name = b"./" + path + (b"/" if entry.kind == "d" and path else b"")
    body = name.removesuffix(b"/")
    divided = (at for at in range(len(body)) if body[at : at + 1] == b"/" and at <= 155 and len(name) - at - 1 <= 100)
    return (
        (len(name) <= 100 or any(divided))
        and max(entry.uid, entry.gid, *entry.device) < 1 << 21
        and 0 <= entry.mtime < 1 << 33
    )


_OF_USTAR = format_limits.entries(
    "ustar has 100 bytes for a name behind 155 for its directory, seven octal digits for ids and device numbers, and "
    "eleven for times; tar leaves out what does not fit, and says so",
    lambda path, entry: not _fits_ustar(path, entry),
)
_CUT_TARGETS = format_limits.each(
    "ustar has 100 bytes for a link's target; tar says that it leaves longer ones out, and cuts them off",
    lambda entry: replace(entry, target=entry.target[:100]),
)


def _tar(*options: str, errors: bool = False) -> Callable[[Path, Path], str]:
    def make(tree: Path, at: Path) -> str:
        target = at / "archive"
        done = subprocess.run(["tar", "-C", tree, *options, "-cf", target, "."], check=False, stderr=subprocess.PIPE)
        assert done.returncode == 0 or errors, done.stderr
        return str(target)

    return make


_PAX = ("--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner")
_GNU = ("--format=gnu", "--numeric-owner")
_USTAR = ("--format=ustar", "--numeric-owner")
_OF_PAX = (_SOCKETS, _LINKS)
_OF_GNU = (_SOCKETS, _LINKS, _NO_ATTRIBUTES)


def in_whole_seconds(root: Path) -> None:
    for directory, names, files in os.walk(os.fsencode(root), topdown=False):
        for path in (*(os.path.join(directory, name) for name in (*names, *files)), directory):
            second = os.lstat(path).st_mtime_ns // 10**9 * 10**9
            os.utime(path, ns=(second, second), follow_symlinks=False)


def umoci(at: Path, *arguments: str) -> None:
    subprocess.run(["umoci", *arguments], cwd=at, check=True, capture_output=True)


def layered(tree: Path, at: Path) -> Path:
    """An OCI layout with the tree as `lab`: in its first layer something is there that the second takes away."""
    umoci(at, "init", "--layout", "layout")
    umoci(at, "new", "--image", "layout:new")
    umoci(at, "unpack", "--image", "layout:new", "bundle")
    root = at / "bundle/rootfs"
    script = r"""
        set -e
        cp -a --sparse=always "$1/." "$2"
        cd "$1"
        find . -type s -exec sh -c 'rm "$1/$2"; touch -r "$(dirname "$2")" "$1/$(dirname "$2")"' sh "$2" {} \;
        mkdir -p "$2/hidden/later"; echo gone >"$2/hidden/later/file"; ln "$2/hidden/later/file" "$2/etc/hidden"
        rm "$2/etc/passwd"; mkdir "$2/etc/passwd"; echo below >"$2/etc/passwd/file"
    """
    subprocess.run(["sh", "-c", script, "sh", tree, root], check=True)
    in_whole_seconds(root)
    umoci(at, "repack", "--image", "layout:first", "--refresh-bundle", "bundle")
    script = """
        set -e
        rm -r "$2/hidden" "$2/etc/hidden" "$2/etc/passwd"
        cp -a "$1/etc/passwd" "$2/etc/passwd"
        touch -r "$1/etc" "$2/etc"; touch -r "$1" "$2"
    """
    subprocess.run(["sh", "-c", script, "sh", tree, root], check=True)
    in_whole_seconds(root)  # Go's writer of tar rounds to the nearest second
    umoci(at, "repack", "--image", "layout:lab", "bundle")
    return at / "layout"


def _copied(target: str, *options: str) -> Callable[[Path, Path], str]:
    def make(tree: Path, at: Path) -> str:
        argument = target.format(at=at)
        words = ["skopeo", "--insecure-policy", "copy", "-q", *options, f"oci:{layered(tree, at)}:lab", argument]
        subprocess.run(words, check=True, capture_output=True)
        return argument

    return make


_OF_UMOCI = (
    _SOCKETS,
    format_limits.attributes(
        "umoci leaves out attributes without a value, which pax takes for removed", lambda _, value: not value
    ),
    format_limits.attributes(
        "umoci leaves out what overlays keep their notes in", lambda name, _: name.startswith(b"trusted.overlay.")
    ),
)


def _squashed(codec: str) -> Callable[[Path, Path], str]:
    def make(tree: Path, at: Path) -> str:
        words = ["mksquashfs", tree, at / "lab.squashfs", "-quiet", "-no-progress", "-comp", codec]
        subprocess.run(words, check=True, capture_output=True)
        return str(at / "lab.squashfs")

    return make


_OF_SQUASHFS = (
    format_limits.attributes("squashfs has no prefix for POSIX ACLs", lambda name, _: name.startswith(b"system.")),
    format_limits.times(
        "squashfs holds seconds in 32 bits, and mksquashfs their last 32", lambda second: second % (1 << 32)
    ),
)

KINDS: dict[str, ArchiveKind] = {
    "a tar (pax)": ArchiveKind(_tar(*_PAX), _OF_PAX),
    "a tar (GNU)": ArchiveKind(_tar(*_GNU), _OF_GNU),
    "a tar (ustar)": ArchiveKind(_tar(*_USTAR, errors=True), (*_OF_GNU, _OF_USTAR, _CUT_TARGETS)),
    "a tar in gzip": ArchiveKind(_tar(*_PAX, "-z"), _OF_PAX),
    "a tar in xz": ArchiveKind(_tar(*_PAX, "-I", "xz -0"), _OF_PAX),
    "a tar in zstd": ArchiveKind(_tar(*_PAX, "-I", "zstd -1"), _OF_PAX),
    "a tar on standard input": ArchiveKind(_tar(*_PAX), _OF_PAX, piped=True),
    "a tar in zstd on standard input": ArchiveKind(_tar(*_PAX, "-I", "zstd -1"), _OF_PAX, piped=True),
    "an OCI layout": ArchiveKind(lambda tree, at: f"oci:{layered(tree, at)}:lab", _OF_UMOCI),
    "an OCI archive": ArchiveKind(_copied("oci-archive:{at}/archive:lab"), _OF_UMOCI),
    "an OCI archive in zstd": ArchiveKind(
        _copied("oci-archive:{at}/archive:lab", "--dest-compress-format", "zstd"), _OF_UMOCI
    ),
    "an archive of docker save": ArchiveKind(_copied("docker-archive:{at}/archive:lab:latest"), _OF_UMOCI),
    **{
        f"squashfs by {codec}": ArchiveKind(_squashed(codec), _OF_SQUASHFS)
        for codec in ("gzip", "xz", "zstd", "lz4", "lzo")
    },
}
