"""Write the manual pages and completions for a package: `python -m tools.share /usr/share`."""

from __future__ import annotations

import sys
from pathlib import Path

from tools import completion, manual


def files() -> dict[str, str]:
    """Texts by path below /usr/share."""
    return {
        **{f"man/man{name[-1]}/{name}": text for name, text in manual.pages().items()},
        "bash-completion/completions/ltsp": completion.bash(),
        "zsh/site-functions/_ltsp": completion.zsh(),
    }


def write(directory: str) -> None:
    for name, text in files().items():
        path = Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.share DIRECTORY")
    write(sys.argv[1])
