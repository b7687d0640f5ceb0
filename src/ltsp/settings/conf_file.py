"""ltsp.conf on disk: read only when nobody but an administrator can have written it."""

from __future__ import annotations

from ltsp.errors import ConfError
from ltsp.host import trusted
from ltsp.settings.conf_text import Conf, parse_conf

PATH = "/etc/ltsp/ltsp.conf"
VARIABLE = "LTSP_CONF"
"""The environment variable that names another file."""

_LARGEST = 1 << 20


def read(path: str = PATH, *, required: bool = False) -> Conf:
    """The file, taken apart; one that is missing says nothing, unless it is `required`.

    Raises ConfError when others than root and the user we run as could have written it, when it cannot be read, and
    when it cannot be taken apart.
    """
    try:
        return parse_conf(trusted.read(path, _LARGEST), path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise ConfError(f"cannot read {path!a}: {error.strerror}", f"{VARIABLE} names this file") from error
        return Conf(path)
    except OSError as error:
        raise ConfError(f"cannot read {path!a}: {error.strerror}") from error
