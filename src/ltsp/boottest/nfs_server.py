"""An NFS server for a test: nfs-ganesha, which runs in user space and leaves the kernel's own server alone.

It runs in a private network and with a private /run, where rpcbind has its sockets, so the machine's own servers run on
undisturbed, on the same ports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import join

from ltsp.boottest.server import ServerProcess, start_server
from ltsp.errors import LtspError
from ltsp.host import command
from ltsp.host.system_call import supports_file_handles
from ltsp.tree.name import encode, printable

_NFS_PORT = 2049
_PORTMAPPER_PORT = 111
_PORTMAPPER_COMMAND = ("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "rpcbind -f; exit")
"""rpcbind changes its user, which clears PR_SET_PDEATHSIG (prctl(2)), so it would outlive this process. Instead, it
dies with the first process of its PID namespace. Not `-w`: that reads the state of another rpcbind."""
_INSTALL_HINT = (
    "apt install nfs-ganesha nfs-ganesha-vfs rpcbind, then systemctl disable --now nfs-ganesha, which would use the "
    "port of this server's own NFS"
)
_LOG_LINE = re.compile(rb"^\d.*? : epoch .*?\[\S*\] (\w+) :([^:]*) :(\w+) :(.*)$", re.MULTILINE)
"""Date and process, then function, component, level and text. ganesha-log-config(8)"""
_ERROR_LEVELS = frozenset({b"FATAL", b"MAJ", b"CRIT"})
_IGNORED_FUNCTIONS = frozenset({b"SetComponentLogLevel", b"gsh_backtrace"})
_FORBIDDEN_CHARACTERS = frozenset('"\\\n')
"""Characters that a string in ganesha's configuration cannot contain."""


def format_ganesha_configuration(directory: str, state_directory: str, squash: str = "No_Root_Squash") -> str:
    """Ganesha's configuration for one directory, read-only, by NFS 3 and 4 over TCP.

    `state_directory` is a directory that ganesha may write to; `squash` is `No_Root_Squash`, `Root_Squash` or
    `All_Squash`. ganesha-config(8), ganesha-export-config(8)

    Raises LtspError if ganesha cannot use a path.
    """
    for path in (directory, state_directory):
        if _FORBIDDEN_CHARACTERS & set(path):
            raise LtspError(
                f"nfs-ganesha cannot serve {printable(path)}: its path contains a quote, a backslash or a line break",
                "choose a directory whose path has only letters, digits and ._+,:@%=/-",
            )
    # QEMU's user network does not connect from privileged ports; a grace period would keep clients waiting for 90
    # seconds after the start. Without Allow_Set_IO_Flusher_Fail, ganesha 6 ends if the kernel refuses
    # PR_SET_IO_FLUSHER (prctl(2)), as in a container; earlier releases only warn of the unknown word.
    return f"""NFS_CORE_PARAM {{
    Protocols = 3, 4;
    NFS_Port = {_NFS_PORT};
    Enable_NLM = false;
    Enable_RQUOTA = false;
    mount_path_pseudo = true;
    Allow_Set_IO_Flusher_Fail = true;
}}
NFS_KRB5 {{
    Active_krb5 = false;
}}
NFSv4 {{
    Graceless = true;
    RecoveryRoot = "{state_directory}";
}}
EXPORT {{
    Export_Id = 1;
    Path = "{directory}";
    Pseudo = "{directory}";
    Access_Type = RO;
    Squash = {squash};
    PrivilegedPort = false;
    SecType = sys;
    Transports = TCP;
    FSAL {{
        Name = VFS;
    }}
}}
"""


@contextmanager
def serve_directory(
    directory: str, state_directory: str, squash: str = "No_Root_Squash"
) -> Iterator[tuple[ServerProcess, ...]]:
    """Export a directory on the loopback of this thread's private network, with a private /run.

    Raises LtspError if a program is missing or does not start to serve.
    """
    if not supports_file_handles(encode(directory)):
        raise LtspError(
            f"cannot serve {printable(directory)} by NFS: its file system has no file handles (such as the overlay of "
            "a container)",
            "use --transport=http, or move the directory to another file system, which NFS needs for real clients too",
        )
    config = join(state_directory, "ganesha.conf")
    with open(config, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(format_ganesha_configuration(directory, state_directory, squash))
    if any(command.find_program(program) is None for program in ("rpcbind", "ganesha.nfsd")):
        raise LtspError("nfs-ganesha, the NFS server of the test, is not installed", _INSTALL_HINT)
    arguments = [
        "ganesha.nfsd",
        "-F",
        *("-f", config),
        *("-L", "STDERR"),
        *("-p", join(state_directory, "ganesha.pid")),
        *("-N", "NIV_WARN"),
    ]
    with (
        start_server(_PORTMAPPER_COMMAND, _PORTMAPPER_PORT, name="rpcbind", package="util-linux") as portmapper,
        start_server(arguments, _NFS_PORT, package="nfs-ganesha", condense_log=extract_log_errors) as ganesha,
    ):
        yield portmapper, ganesha


def extract_log_errors(log: bytes) -> bytes:
    """The errors in ganesha's log, without the date, process and function of each line.

    Left out are the list of log levels at the start, backtraces, which follow the reason, and complaints about D-Bus.
    """
    return b"".join(
        b"%s: %s\n" % (level, text)
        for function, component, level, text in _LOG_LINE.findall(log)
        if level in _ERROR_LEVELS and function not in _IGNORED_FUNCTIONS and component != b"DBUS"
    )
