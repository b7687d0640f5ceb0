"""The rewriters for rows `F=NAME` of the secrets, and the tests for rows `W=NAME`.

A rewriter takes the files of its rows and returns their new contents. It sees the tree, so links are resolved inside
the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ltsp.errors import FileUnreadable, LtspError
from ltsp.transform.accounts import (
    LOGIN_DEFS,
    AccountSelection,
    IdRanges,
    clean_group,
    clean_gshadow,
    clean_passwd,
    clean_shadow,
    clean_subordinate_ids,
    find_kept_groups,
    make_gshadow,
    make_shadow,
)
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults, read_small_file
from ltsp.tree.node import Directory, File, Metadata, Node, Symlink
from ltsp.tree.tree import Tree

MAX_FILE_SIZE = 64 << 20
"""Limit in bytes on files to rewrite; enough for an account file with a million users."""

_CONTENT_DEPENDENT_XATTRS = frozenset({"security.capability", "security.ima", "security.evm"})
"""Attributes that depend on the content of a file."""


@dataclass(frozen=True, slots=True)
class RewriteInput:
    """The input of a rewriter."""

    tree: Tree
    paths: Sequence[str]
    """The paths of its rows: patterns without wildcards as they are, even if no such file exists; else matches."""
    faults: Faults

    def read(self, path: str, substitute: bytes | None = None) -> bytes | None:
        """The content of the regular file that a path leads to; None if there is none.

        `substitute` stands for those of a file that we may not read, where such files are passed over.
        """
        file = self.tree.follow(path)
        if not isinstance(file, File):
            return None
        if substitute is not None and self.faults.skip_unreadable and _is_unreadable(file):
            return substitute
        return read_small_file(file, path, MAX_FILE_SIZE, self.faults)


def _is_unreadable(file: File) -> bool:
    try:
        with file.content.open():
            return False
    except PermissionError:
        return True


Changes = Mapping[str, Node | None]
"""Changes for `Tree.edit`, without unchanged files."""

Rewriter = Callable[[RewriteInput], Changes]


def replace_bytes(file: File, data: bytes) -> File:
    """The file with new content; mode, owner, time and attributes that do not depend on the content stay."""
    xattrs = tuple(pair for pair in file.metadata.xattrs if pair[0] not in _CONTENT_DEPENDENT_XATTRS)
    return replace(file, metadata=replace(file.metadata, xattrs=xattrs), content=Bytes(data))


def _make_file_rewriter(function: Callable[[bytes], bytes]) -> Rewriter:
    """A rewriter that treats each file separately."""

    def rewrite(source: RewriteInput) -> Changes:
        changes: dict[str, Node | None] = {}
        for path in source.paths:
            data = source.read(path)
            if data is not None:
                changes |= _change_file(source.tree, path, data, function(data))
        return changes

    return rewrite


def _change_file(tree: Tree, path: str, old: bytes, new: bytes) -> Changes:
    """The change to the file that a path leads to, if any."""
    resolved = tree.resolve(path)
    file = None if resolved is None else tree.get(resolved)
    return {resolved: replace_bytes(file, new)} if resolved and isinstance(file, File) and new != old else {}


# Accounts

_ACCOUNT_FILES = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
_SUBSTITUTES: Mapping[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "shadow": lambda texts: make_shadow(texts.get("passwd", b"")),
    "gshadow": lambda texts: make_gshadow(texts.get("group", b"")),
}


_EXTRAUSERS_DIRECTORY = "var/lib/extrausers"
"""Where libnss-extrausers keeps more accounts; `extrausers` in nsswitch.conf."""


@dataclass(frozen=True, slots=True)
class _SystemAccounts:
    """The accounts in all account files of a system."""

    id_ranges: IdRanges
    accounts: AccountSelection
    groups: frozenset[bytes]
    """Those that stay."""

    @classmethod
    def of(cls, source: RewriteInput) -> _SystemAccounts:
        settings = [source.read(path) for path in LOGIN_DEFS]
        id_ranges = IdRanges.parse(text for text in settings if text is not None)
        passwd, group = (
            b"\n".join(source.read(f"{directory}/{name}") or b"" for directory in ("etc", _EXTRAUSERS_DIRECTORY))
            for name in ("passwd", "group")
        )
        accounts = AccountSelection.parse(passwd, id_ranges)
        return cls(id_ranges, accounts, find_kept_groups(group, accounts, id_ranges))

    def remove_users(self, name: str, text: bytes) -> bytes:
        """An account file of that name."""
        match name:
            case "passwd":
                return clean_passwd(text, self.id_ranges)
            case "group":
                return clean_group(text, self.accounts, self.id_ranges)
            case "shadow":
                return clean_shadow(text, self.accounts)
            case "gshadow":
                return clean_gshadow(text, self.accounts, self.groups)
            case _:
                return clean_subordinate_ids(text, self.accounts, self.id_ranges)


def _rewrite_accounts(source: RewriteInput) -> Changes:
    """Raises LtspError if passwd is missing, or two account files are the same file.

    Of shadow and gshadow nothing stays but the names, and those are in files that anybody may read.
    """
    for name in ("passwd", "group"):
        _check_readable(source, name)
    if not isinstance(source.tree.follow("etc/passwd"), File):
        raise LtspError(
            "no etc/passwd in the image", "add it to the source, or leave accounts as they are with --cleanup=0"
        )
    return _rewrite_accounts_in("etc", source)


def _rewrite_extra_accounts(source: RewriteInput) -> Changes:
    """Raises LtspError if two account files are the same file."""
    return _rewrite_accounts_in(_EXTRAUSERS_DIRECTORY, source)


def _rewrite_accounts_in(directory: str, source: RewriteInput) -> Changes:
    tree = source.tree
    texts: dict[str, bytes] = {}
    for name in _ACCOUNT_FILES:
        substitute = _SUBSTITUTES[name](texts) if name in _SUBSTITUTES else None
        if (text := source.read(f"{directory}/{name}", substitute)) is not None:
            texts[name] = text
    names_by_node: dict[int, str] = {}
    for name in texts:
        other = names_by_node.setdefault(id(tree.follow(f"{directory}/{name}")), name)
        if other != name:
            raise LtspError(
                f"{directory}/{other} and {directory}/{name} are the same file",
                "make them separate files in the source",
            )
    system_accounts = _SystemAccounts.of(source)
    changes: dict[str, Node | None] = {}
    for name, text in texts.items():
        path = f"{directory}/{name}"
        if path in source.paths:
            changes |= _change_file(tree, path, text, system_accounts.remove_users(name, text))
    return changes


def _check_readable(source: RewriteInput, name: str) -> None:
    """Raises FileUnreadable if passwd or group cannot be read: without them the image would not work."""
    file = source.tree.follow(f"etc/{name}")
    if name in {"passwd", "group"} and isinstance(file, File) and _is_unreadable(file):
        raise FileUnreadable(
            f"cannot read /etc/{name}: Permission denied", f"make it readable by everyone: chmod 644 SOURCE/etc/{name}"
        )


# Identity


def _reset_machine_id(source: RewriteInput) -> Changes:
    """An empty file, which systemd fills at each boot; without it, systemd would treat every boot as the first.

    machine-id(5)
    """
    changes: dict[str, Node | None] = {}
    for path in source.paths:
        directory, _, name = path.rpartition("/")
        parent = source.tree.resolve(directory)
        parent_node = None if parent is None else source.tree.get(parent)
        if not isinstance(parent_node, Directory):
            continue
        old = parent_node.entries.get(name)
        if isinstance(old, Directory) or (
            isinstance(old, File) and not old.content.size and old.metadata.mode == 0o444
        ):
            continue
        if isinstance(old, Symlink):
            changes |= _empty_target(source.tree, path)
        xattrs = old.metadata.xattrs if isinstance(old, File) else ()
        metadata = Metadata(0o444, mtime=(parent_node if old is None else old).metadata.mtime, xattrs=xattrs)
        changes[f"{parent}/{name}".lstrip("/")] = File(metadata, Bytes(b""))
    return changes


def _link_machine_id(source: RewriteInput) -> Changes:
    changes: dict[str, Node | None] = {}
    for path in source.paths:
        file = source.tree.get(path)
        if isinstance(file, File):
            changes[path] = Symlink(Metadata(0o777, mtime=file.metadata.mtime), "/etc/machine-id")
        elif source.tree.resolve(path) != source.tree.resolve("etc/machine-id"):
            changes |= _empty_target(source.tree, path)
    return changes


def _empty_target(tree: Tree, path: str) -> Changes:
    """Truncate the file that a link leads to, if there is one."""
    resolved = tree.resolve(path)
    file = None if resolved is None else tree.get(resolved)
    return {resolved: replace_bytes(file, b"")} if resolved and isinstance(file, File) and file.content.size else {}


# Network

_LOCAL_ADDRESS = re.compile(rb"127\.0\.0\.1|::1|fe00::0|ff0[02]::[0-3]")
_LOCAL_NAME = re.compile(rb"localhost[46]?(\.localdomain[46]?)?|ip6-(localhost|loopback|localnet|mcastprefix|all\w+)")
_LOCAL_HOSTS = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def _keep_localhost(text: bytes) -> bytes:
    """The lines of localhost with only its own names, added if missing. hosts(5)"""
    lines: list[bytes] = []
    for line in text.split(b"\n"):
        address, *names = line.partition(b"#")[0].split() or [b""]
        local = [name for name in names if _LOCAL_NAME.fullmatch(name)]
        if local and _LOCAL_ADDRESS.fullmatch(address):
            lines.append(line if line.split() == [address, *local] else address + b"\t" + b" ".join(local))
    return b"".join(line + b"\n" for line in lines) or _LOCAL_HOSTS


def _count_lost_hosts(text: bytes) -> int:
    """Lines for other machines than this one."""
    addresses = (line.partition(b"#")[0].split()[:1] for line in text.split(b"\n"))
    return sum(bool(each) and re.match(rb"127\.|::1$|f[ef]0", each[0]) is None for each in addresses)


_STUB_RESOLVER = "../run/systemd/resolve/stub-resolv.conf"


def _restore_stub_resolver(source: RewriteInput) -> Changes:
    """Return to systemd-resolved's stub, which `ltsp dnsmasq --dns` disables and bypasses in resolv.conf."""
    changes: dict[str, Node | None] = {}
    for path in source.paths:
        file = source.tree.get(path)
        if not isinstance(file, File) or b"DNSStubListener" not in read_small_file(
            file, path, MAX_FILE_SIZE, source.faults
        ):
            continue
        changes[path] = None
        link = source.tree.get("etc/resolv.conf")
        if isinstance(link, Symlink) and link.target.lstrip("./").endswith("run/systemd/resolve/resolv.conf"):
            changes["etc/resolv.conf"] = replace(link, target=_STUB_RESOLVER)
    return changes


_CHAP = re.compile(
    rb"[ \t]*#?[ \t]*(node\.session|discovery\.sendtargets)\.auth\.(username|password)(_in)?[ \t]*=.*\n?"
)


def _strip_chap(text: bytes) -> bytes:
    """Remove CHAP names and passwords, also in comments. iscsid.conf of open-iscsi"""
    return _CHAP.sub(b"", text)


def _keep_comments(text: bytes) -> bytes:
    """Only the comments, without those that could contain a password."""
    lines = text.split(b"\n")
    return b"".join(line + b"\n" for line in lines if line.startswith(b"#") and b"://" not in line and b"@" not in line)


REWRITERS: Mapping[str, Rewriter] = {
    "accounts": _rewrite_accounts,
    "comments": _make_file_rewriter(_keep_comments),
    "extra-accounts": _rewrite_extra_accounts,
    "hosts": _make_file_rewriter(_keep_localhost),
    "iscsid": _make_file_rewriter(_strip_chap),
    "machine-id": _reset_machine_id,
    "machine-id-link": _link_machine_id,
    "resolver": _restore_stub_resolver,
}
"""Rewriters by the name in a row `F=NAME`."""

LOSS_COUNTERS: Mapping[str, tuple[str, Callable[[bytes], int]]] = {
    "comments": ("printer", lambda text: len(re.findall(rb"(?m)^[ \t]*<(?:Default)?Printer[ \t]", text))),
    "hosts": ("line", _count_lost_hosts),
}
"""By the name of a rewriter: counts the removed entries that clients may miss."""

CONTENT_TESTS: Mapping[str, Callable[[bytes], bool]] = {
    "hashes": lambda text: (
        re.search(rb"(?m)^[\w.@+-]{1,256}\$?:!*(?:\$\w+[$,][^:\s]+|[./0-9A-Za-z]{13}):", text) is not None
    ),
    "keytab": lambda text: text[:2] in {b"\5\1", b"\5\2"},
    "password": lambda text: re.search(rb"(?im)^[ \t-]*(?:auth)?pass(?:word)?\b", text) is not None,
    "private-key": lambda text: re.search(rb"PRIVATE KEY-----|(?m:^[ \t]*PrivateKey[ \t]*=)", text) is not None,
    "url-password": lambda text: re.search(rb"://[^/\s:@]*:[^/\s@]+@", text) is not None,
}
"""Tests by the name in a row `W=NAME`: whether the content of a file looks like a secret."""
