"""Removes users, passwords and machine identity from a tree, for `--cleanup`.

The scan has already left out the paths that the list of secrets excludes; here files are truncated and rewritten, and
files that may hold a secret are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ltsp.transform.packages import find_unpackaged
from ltsp.transform.rewrite import CONTENT_TESTS, REWRITERS, Changes, RewriteInput, replace_bytes
from ltsp.transform.secret_rows import UNPACKAGED, Action, SecretRow
from ltsp.transform.secrets import SecretFinding, Secrets
from ltsp.tree.faults import Faults, read_small_file
from ltsp.tree.node import File, Node
from ltsp.tree.tree import Tree

_MAX_TESTED_SIZE = 16 << 20
"""Limit in bytes on the files that tests of rows W read; settings are smaller."""


@dataclass(frozen=True, slots=True)
class CleanupStep:
    """The changes by one row, or by the rows of one rewriter."""

    rule: str
    paths: tuple[str, ...]
    bytes: int
    """Bytes saved."""


@dataclass(frozen=True, slots=True)
class CleanedTree:
    tree: Tree
    steps: tuple[CleanupStep, ...]
    findings: tuple[SecretFinding, ...]
    """Files that stay and may hold a secret."""
    readmitted: tuple[SecretFinding, ...]
    """Files that a row would leave out, if OMIT_IMAGE_EXCLUDES did not let them in."""


def clean_tree(tree: Tree, secrets: Secrets, faults: Faults | None = None) -> CleanedTree:
    """The tree after the rows T and F, and the findings of rows W.

    Files that a row leaves as they are stay the same nodes. Raises LtspError where the accounts make no sense,
    FormatError if a file is too large to be valid, and FileUnreadable.
    """
    faults = Faults() if faults is None else faults
    changes: dict[str, Node | None] = {}
    steps: list[CleanupStep] = []
    for rule, made in _list_changes(tree, secrets, faults):
        new_changes = {path: node for path, node in made.items() if path not in changes}
        if new_changes:
            changes |= new_changes
            steps.append(
                CleanupStep(
                    rule,
                    tuple(new_changes),
                    sum(_content_size(tree.get(path)) - _content_size(new_changes[path]) for path in new_changes),
                )
            )
    cleaned = tree.edit(changes) if changes else tree
    return CleanedTree(
        cleaned, tuple(steps), tuple(find_suspects(cleaned, secrets, faults)), tuple(secrets.find_readmitted(cleaned))
    )


def find_suspects(tree: Tree, secrets: Secrets, faults: Faults) -> list[SecretFinding]:
    """The findings of rows W in the tree, with their tests applied; `--cleanup=0` prints them too."""
    found = [each for each in secrets.findings(tree) if _passes_test(tree, each, faults)]
    paths = {each.path for each in found if each.row.name == UNPACKAGED or each.row.reports_name_anywhere}
    files = find_unpackaged(tree, paths)
    kept = [_attach_files(each, files[each.path]) if each.path in paths else each for each in found]
    return _merge_copies(each for each in kept if each is not None)


def _attach_files(finding: SecretFinding, files: list[str]) -> SecretFinding | None:
    """The finding with its files; None if there are none."""
    return replace(finding, files=len(files), example=files[0]) if files else None


def _merge_copies(found: Iterable[SecretFinding]) -> list[SecretFinding]:
    """One finding for what rows with the same reason name anywhere below a directory of the root: backups come by the
    dozen.
    """
    kept: dict[object, SecretFinding] = {}
    for each in found:
        key = (
            (each.row.reason, each.path.partition("/")[0])
            if each.row.reports_name_anywhere
            else (each.row, each.path, None)
        )
        first = kept.setdefault(key, each)
        if first is not each:
            kept[key] = replace(first, others=(*first.others, each.path))
    return [*kept.values()]


def _list_changes(tree: Tree, secrets: Secrets, faults: Faults) -> list[tuple[str, Changes]]:
    """The changes of each rule."""
    made: list[tuple[str, Changes]] = []
    rewritten: dict[str, list[str]] = {}
    for row, paths in secrets.find_paths_by_row(tree, (Action.EMPTIED, Action.REWRITTEN)).items():
        if row.action is Action.EMPTIED:
            made.append((str(row), _empty_files(tree, row, paths)))
        else:
            rewritten.setdefault(row.name, []).extend(paths)
    for name, paths in rewritten.items():
        made.append((f"F={name}", REWRITERS[name](RewriteInput(tree, paths, faults)) if paths else {}))
    return made


def _empty_files(tree: Tree, row: SecretRow, paths: list[str]) -> Mapping[str, Node | None]:
    """Links are followed only from a path that the row spells out: a log might be a link to other files."""
    resolved = [tree.resolve(path) for path in paths] if row.is_plain else paths
    return {
        path: replace_bytes(file, b"")
        for path in resolved
        if path is not None and isinstance(file := tree.get(path), File) and file.content.size
    }


def _passes_test(tree: Tree, finding: SecretFinding, faults: Faults) -> bool:
    if finding.row.name in {"", UNPACKAGED}:
        return True
    file = tree.follow(finding.path)
    if not isinstance(file, File) or file.content.size > _MAX_TESTED_SIZE:
        return isinstance(file, File)
    return CONTENT_TESTS[finding.row.name](read_small_file(file, finding.path, _MAX_TESTED_SIZE, faults))


def _content_size(node: Node | None) -> int:
    return node.content.size if isinstance(node, File) else 0
