"""The rules of a run with the built-in lists, tuned."""

from __future__ import annotations

from ltsp.build.exclusions import Rules
from ltsp.transform.exclude import Exclusions, image_excludes
from ltsp.transform.lines import lines
from ltsp.transform.secrets import Secrets, image_secrets
from ltsp.tree.selection import everything


def rules(excludes: str = "", omit_excludes: str = "", secrets: str = "", *, cleanup: bool = True) -> Rules:
    tuned = image_excludes(None, lines(excludes, "ADD"), lines(omit_excludes, "OMIT"))
    rows = image_secrets(add=lines(secrets, "ADD")).rows
    return Rules(
        exclusions=Exclusions(line.text for line in tuned.lines),
        secrets=Secrets(rows, Exclusions(line.text for line in tuned.omitted)),
        cleanup=cleanup,
        parameters=everything,
        exact=(),
        warnings=(),
    )
