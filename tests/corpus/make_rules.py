"""The rules of a run with the built-in lists, tuned."""

from __future__ import annotations

from ltsp.build.exclusions import ExclusionRules
from ltsp.transform.exclude import Exclusions, tune_image_excludes
from ltsp.transform.rules import parse_lines
from ltsp.transform.secret_rows import tune_image_secrets
from ltsp.transform.secrets import Secrets
from ltsp.tree.selection import select_all


def rules(excludes: str = "", omit_excludes: str = "", secrets: str = "", *, cleanup: bool = True) -> ExclusionRules:
    tuned = tune_image_excludes(None, parse_lines(excludes, "ADD"), parse_lines(omit_excludes, "OMIT"))
    rows = tune_image_secrets(add=parse_lines(secrets, "ADD")).rows
    return ExclusionRules(
        exclusions=Exclusions(line.text for line in tuned.lines),
        secrets=Secrets(rows, Exclusions(line.text for line in tuned.omitted)),
        cleanup=cleanup,
        mksquashfs_selection=select_all,
        exact_paths=(),
        warnings=(),
    )
