"""An NFS server for a test: nfs-ganesha, which runs in user space and leaves the kernel's own server alone.

It runs in a private network and with a private /run, where rpcbind has its sockets: what the machine serves otherwise
goes on undisturbed, on the same ports.
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

_PORT = 2049
_PORTMAPPER = 111
_PORTMAPPER_PROGRAM = ("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "rpcbind -f; exit")
"""rpcbind becomes another user, which makes the kernel forget that it is to die with us (PR_SET_PDEATHSIG, prctl(2)).
It dies with the first process of its namespace instead. Not `-w`: that reads what another rpcbind left."""
_INSTALL = (
    "apt install nfs-ganesha nfs-ganesha-vfs rpcbind, then systemctl disable --now nfs-ganesha, which would take the "
    "port of this server's own NFS"
)
_LOG_LINE = re.compile(rb"^\d.*? : epoch .*?\[\S*\] (\w+) :([^:]*) :(\w+) :(.*)$", re.MULTILINE)
"""Date and process, then function, component, level and text. ganesha-log-config(8)"""
_COMPLAINTS = frozenset({b"FATAL", b"MAJ", b"CRIT"})
_NOISE = frozenset({b"SetComponentLogLevel", b"gsh_backtrace"})
_QUOTED = frozenset('"\\\n')
"""Characters that a string of ganesha's configuration cannot hold as they are."""


def ganesha_configuration(directory: str, state: str, squash: str = "No_Root_Squash") -> str:
    """Ganesha's configuration for one directory, read-only, by NFS 3 and 4 over TCP.

    `state` is a directory that it may write; `squash` says who is nobody there: `No_Root_Squash`, `Root_Squash`,
    `All_Squash`. ganesha-config(8), ganesha-export-config(8)

    Raises LtspError if a path cannot be written in it.
    """
    for path in (directory, state):
        if _QUOTED & set(path):
            raise LtspError(f"nfs-ganesha cannot be told of {printable(path)}", "choose a directory with a plain name")
    # Ports of privileged programs are not what QEMU's user network connects from; a grace period would keep clients
    # waiting for 90 seconds after the start. Since 6 it ends where the kernel refuses it PR_SET_IO_FLUSHER (prctl(2)),
    # as it does in a container, unless that is allowed; before, it only warns of a word that it does not know.
    return f"""NFS_CORE_PARAM {{
    Protocols = 3, 4;
    NFS_Port = {_PORT};
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
    RecoveryRoot = "{state}";
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
def serve_directory(directory: str, state: str, squash: str = "No_Root_Squash") -> Iterator[tuple[ServerProcess, ...]]:
    """Export a directory on the loopback of the private network that this thread visits, /run being private too.

    Raises LtspError if a program is missing or does not begin to serve.
    """
    if not supports_file_handles(encode(directory)):
        raise LtspError(
            f"cannot serve {printable(directory)} by NFS: its file system gives no file handles, as the overlay of a "
            "container",
            "give --transport=http; to clients, no NFS server here can serve it either: put it on another file system",
        )
    config = join(state, "ganesha.conf")
    with open(config, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(ganesha_configuration(directory, state, squash))
    if any(command.find(program) is None for program in ("rpcbind", "ganesha.nfsd")):
        raise LtspError("the NFS server of the test, nfs-ganesha, is not installed", _INSTALL)
    arguments = [
        "ganesha.nfsd",
        "-F",
        *("-f", config),
        *("-L", "STDERR"),
        *("-p", join(state, "ganesha.pid")),
        *("-N", "NIV_WARN"),
    ]
    with (
        start_server(_PORTMAPPER_PROGRAM, _PORTMAPPER, name="rpcbind", package="util-linux") as portmapper,
        start_server(arguments, _PORT, package="nfs-ganesha", condense=filter_complaints) as ganesha,
    ):
        yield portmapper, ganesha


def filter_complaints(log: bytes) -> bytes:
    """What ganesha's log says is wrong, without the date, process and place in front of each line.

    Left out are the levels of its log, which it lists first, the lines of a backtrace, which follow the reason of an
    end, and that there is no D-Bus here.
    """
    return b"".join(
        b"%s: %s\n" % (level, text)
        for function, part, level, text in _LOG_LINE.findall(log)
        if level in _COMPLAINTS and function not in _NOISE and part != b"DBUS"
    )
