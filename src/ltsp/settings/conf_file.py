"""ltsp.conf on disk: read only if nobody but administrators can write it."""

from __future__ import annotations

from ltsp.errors import ConfError
from ltsp.host import trusted
from ltsp.settings.conf_text import Conf, parse_conf

PATH = "/etc/ltsp/ltsp.conf"
VARIABLE = "LTSP_CONF"
"""The environment variable that names another file."""

_LARGEST = 1 << 20


def read(path: str = PATH, *, required: bool = False) -> Conf:
    """The parsed file; a missing file is empty, unless it is `required`.

    Raises ConfError if others than root and the current user can write it, if it cannot be read, and if it is invalid.
    """
    try:
        return parse_conf(trusted.read(path, _LARGEST), path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise ConfError(f"cannot read {path!a}: {error.strerror}", f"{VARIABLE} names this file") from error
        return Conf(path)
    except OSError as error:
        raise ConfError(f"cannot read {path!a}: {error.strerror}") from error
