"""Configuration of nginx for what `ltsp http` serves, for sites that have nginx already."""

from __future__ import annotations

import re
from os.path import join

from ltsp.errors import LtspError
from ltsp.services.http_layout import SERVED, ServedArea
from ltsp.tree.name import printable

_PLAIN = re.compile(r"/[A-Za-z0-9._+,:@%=/-]*")
"""nginx expands `$` even in quotes, and has no way to write it."""


def nginx_configuration(base_dir: str, tftp_dir: str, port: int) -> str:
    """A server block.

    Raises LtspError if a directory's name cannot be written in it.
    """
    directories = {ServedArea.LTSP: join(tftp_dir, "ltsp"), ServedArea.IMAGES: join(base_dir, "images")}
    for directory in directories.values():
        if not _PLAIN.fullmatch(directory):
            raise LtspError(
                f"nginx cannot be told of {printable(directory)}",
                "choose a directory with a plain name, or use ltsp http",
            )
    locations = "".join(_location(area, directory) for area, directory in directories.items())
    return (
        "# Made by ltsp http --nginx: what clients boot from. Everything else is not found.\n"
        "# Where another file has a server for this port, as sites-enabled/default of Debian, nginx takes that one:\n"
        "# remove it there.\n"
        "server {\n"
        f"    listen {port};\n"
        f"    listen [::]:{port};\n"
        "    sendfile on;\n"
        "    tcp_nopush on;\n"
        "    default_type application/octet-stream;\n"
        "    types { }\n"
        f"{locations}"
        "    location / {\n"
        "        return 404;\n"
        "    }\n"
        "}\n"
    )


def _location(area: ServedArea, directory: str) -> str:
    """A link in it may lead to a file of the same owner, as those to versions do."""
    return (
        f'    location ~ "^/{area.value}/({SERVED[area]})$" {{\n'
        f"        alias {directory}/$1;\n"
        f"        disable_symlinks if_not_owner from={directory};\n"
        "    }\n"
    )
