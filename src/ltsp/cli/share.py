"""Writes manual pages and completions for a package: `python -m ltsp.cli.share /usr/share`."""

from __future__ import annotations

import os
import sys

from ltsp.cli import completion, manual


def files() -> dict[str, str]:
    """Texts by path below /usr/share."""
    return {
        **{f"man/man{name[-1]}/{name}": text for name, text in manual.pages().items()},
        "bash-completion/completions/ltsp": completion.bash(),
        "zsh/site-functions/_ltsp": completion.zsh(),
    }


def write(directory: str) -> None:
    for name, text in files().items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m ltsp.cli.share DIRECTORY")
    write(sys.argv[1])
