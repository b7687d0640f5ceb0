"""ltsp.conf: read only if nobody but administrators can write it. Its parser is imported if there is such a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ltsp.errors import ConfError

if TYPE_CHECKING:
    from ltsp.settings.conf_text import ConfSection

CONF_PATH = "/etc/ltsp/ltsp.conf"
CONF_VARIABLE = "LTSP_CONF"
"""The environment variable that names another file."""

_LARGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Conf:
    path: str
    """For messages."""
    sections: tuple[ConfSection, ...] = ()
    """In the order of the file, the unnamed one first; a name may occur several times."""

    def where(self, line: int) -> str:
        return f"{self.path}:{line}"


def read_conf(path: str = CONF_PATH, *, required: bool = False) -> Conf:
    """The parsed file; a missing file is empty, unless it is `required`.

    Raises ConfError if others than root and the current user can write it, if it cannot be read, and if it is invalid.
    """
    try:
        os.lstat(path)
        from ltsp.host import trusted  # noqa: PLC0415 -- see above

        return parse_conf(trusted.read(path, _LARGEST_FILE), path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise ConfError(f"cannot read {path!a}: {error.strerror}", f"{CONF_VARIABLE} names this file") from error
        return Conf(path)
    except OSError as error:
        raise ConfError(f"cannot read {path!a}: {error.strerror}") from error


def parse_conf(raw: bytes, path: str) -> Conf:
    """Parse a file.

    Raises ConfError with every line that is not valid in a shell either.
    """
    from ltsp.settings.conf_text import parse_sections  # noqa: PLC0415 -- see above

    return Conf(path, parse_sections(raw, path))
