"""boot.ipxe: the one small file whose replacement switches kernel, initrds and image of a name together.

It is an iPXE script that the menu chains to, and the only truth about which version is current: `current`, NAME.img and
NAME.img.old follow from it and are put right after it by the next run if a kill came between.

iPXE has no quoting, so every word in the script is of a form that needs none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ltsp.publish.places import INITRD, KERNEL
from ltsp.publish.version import is_version

FOREIGN = "foreign"
"""Stands for a version: a NAME.img.old that is not ours."""
_NONE = "none"

_WORD = re.compile(r"[A-Za-z0-9._+/-]+")
_FIRST_COMMENT = re.compile(r"# ltsp: (\S+) is version (\S+), before it (\S+)\n")


@dataclass(frozen=True, slots=True)
class Pointer:
    name: str
    version: str
    before: str | None
    """The version that NAME.img.old names, FOREIGN, or None."""
    image: str = ""
    """Relative to BASE_DIR; empty where the root of the clients is no image."""
    files: tuple[str, ...] = ()
    """Names in the version's TFTP directory."""

    def text(self) -> str:
        """Kernel and initrds are named relative to the script, and so is `image`, for a menu that boots by HTTP."""
        lines = [
            "#!ipxe",
            f"# ltsp: {_word(self.name)} is version {_word(self.version)}, before it {_word(self.before or _NONE)}",
            "# ltsp replaces this file: do not edit it",
        ]
        if self.image:
            lines.append(f"set image ../../{_word(self.image)}")
        if KERNEL not in self.files:
            lines += [f"echo {self.name} has no kernel here: type ltsp kernel {self.name} on the server", "exit 1"]
            return "\n".join(lines) + "\n"
        initrds = sorted((name for name in self.files if name != KERNEL), key=lambda name: (name != INITRD, name))
        arguments = [f"initrd={_word(name)}" for name in initrds]
        if self.image:
            arguments.append(f"ltsp.image={self.image}")
        lines.append(f"kernel {self.version}/{KERNEL} {' '.join(arguments)} ${{ltsp-arguments}}")
        lines += [f"initrd {self.version}/{name}" for name in initrds]
        lines.append("boot")
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> Pointer | None:
        """What a script of ours says of versions; None where it is not ours."""
        match = _FIRST_COMMENT.search(text)
        if match is None or not is_version(match[2]):
            return None
        return cls(match[1], match[2], None if match[3] == _NONE else match[3])


def _word(text: str) -> str:
    assert _WORD.fullmatch(text), text
    return text
