"""The unit of systemd that runs `ltsp http` from the start of the server on. systemd.service(5), systemd.exec(5)"""

from __future__ import annotations

from collections.abc import Sequence

from ltsp.errors import LtspError
from ltsp.tree.name import printable

NAME = "ltsp-http.service"


def http_unit(command: Sequence[str]) -> str:
    """The text of the unit; `command` is the absolute path of a program and its arguments.

    The service reads files of root's as root, with no right beyond that to listen on a low port, and writes nothing.

    Raises LtspError if a word cannot be written.
    """
    return (
        "# Made by ltsp http --service: what is changed here gets lost.\n"
        "[Unit]\n"
        "Description=Boot files and images for diskless clients, by HTTP\n"
        "Documentation=man:ltsp-http(8)\n"
        "After=network.target local-fs.target\n"
        "\n"
        "[Service]\n"
        f"ExecStart={' '.join(map(_quote, command))}\n"
        "Restart=on-failure\n"
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
        "NoNewPrivileges=yes\n"
        "ProtectSystem=strict\n"
        "ProtectHome=read-only\n"
        "ProtectKernelModules=yes\n"
        "ProtectKernelTunables=yes\n"
        "ProtectControlGroups=yes\n"
        "PrivateDevices=yes\n"
        "PrivateTmp=yes\n"
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n"
        "RestrictNamespaces=yes\n"
        "LockPersonality=yes\n"
        "SystemCallArchitectures=native\n"
        "LimitNOFILE=65536\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def _quote(word: str) -> str:
    """A word of a command line; `%` begins a specifier and `$` a variable there. systemd.service(5), "Command lines"

    Raises LtspError.
    """
    if not word.isprintable() or not word.isascii():
        raise LtspError(f"a unit of systemd cannot hold {printable(word)}", "choose a directory with a plain name")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
