"""A server of a boot test that fails says why, in the words of its own log."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ltsp.boottest import nfs_server, server
from ltsp.boottest.nfs_server import extract_log_errors
from ltsp.boottest.server import start_server
from ltsp.boottest.servers import enter_private_network
from ltsp.errors import LtspError

GANESHA = b"""\
30/11/2026 16:01:39 : epoch 6b0d9de3 : vm : nfs-ganesha-3283[main] SetComponentLogLevel :LOG :NULL :LOG: Changing log level of COMPONENT_XPRT from NIV_EVENT to NIV_WARN
30/11/2026 16:01:39 : epoch 6b0d9de3 : vm : nfs-ganesha-3283[main] load_rados_config :CONFIG :WARN :Missing RADOS URLs backend library
30/11/2026 16:01:39 : epoch 6b0d9de3 : vm : nfs-ganesha-3283[main] gsh_dbus_pkginit :DBUS :CRIT :dbus_bus_get failed
30/11/2026 16:01:39 : epoch 6b0d9de3 : vm : nfs-ganesha-3283[main] nfs_Init :NFS STARTUP :EVENT :starts
30/11/2026 16:01:39 : epoch 6b0d9de3 : vm : nfs-ganesha-3283[main] main :MAIN :FATAL :Failed to PR_SET_IO_FLUSHER with EPERM.
30/11/2026 16:01:39 : epoch 6b0d9de3 : vm : nfs-ganesha-3283[main] gsh_backtrace :NFS STARTUP :MAJ :ganesha.nfsd(main+0xb0e) [0x561cc8179ede]
"""  # noqa: E501 -- as 6.5 writes it
LISTENS = """
import socket, sys
server = socket.create_server(("127.0.0.1", 2049))
server.accept()
print("the disk is gone", file=sys.stderr)
sys.exit(3)
"""


def test_ganeshas_log_is_reduced_to_its_errors():
    assert extract_log_errors(GANESHA) == b"FATAL: Failed to PR_SET_IO_FLUSHER with EPERM.\n"


@pytest.mark.root
def test_a_file_system_that_nfs_cannot_serve_is_named(tmp_path):
    for name in ("lower", "upper", "work", "images"):
        (tmp_path / name).mkdir()
    options = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    with enter_private_network():
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", tmp_path / "images"], check=True)
        with (
            pytest.raises(LtspError, match="has no file handles") as raised,
            nfs_server.serve_directory(str(tmp_path / "images"), str(tmp_path)),
        ):
            pytest.fail("it is served")
    assert raised.value.hint.startswith("use --transport=http")


@pytest.mark.root
def test_a_server_that_ends_at_once_is_named_with_its_last_lines():
    program = (sys.executable, "-c", "import sys; sys.exit('no such export')")
    with (
        enter_private_network(),
        pytest.raises(LtspError, match=r"^server failed with exit status 1: no such export$"),
        start_server(program, 2049, package="", name="server"),
    ):
        pytest.fail("it does not listen")


@pytest.mark.root
def test_a_server_that_never_listens_is_named_with_its_last_lines(monkeypatch):
    monkeypatch.setattr(server, "_START_TIMEOUT", 1.0)
    program = ("sh", "-c", "echo waiting for a disk; exec sleep 100")
    with (
        enter_private_network(),
        pytest.raises(LtspError, match=r"^server is not listening on port 2049 after 1 seconds: waiting for a disk"),
        start_server(program, 2049, package="", name="server"),
    ):
        pytest.fail("it does not listen")


@pytest.mark.root
def test_a_server_that_ends_later_has_failed():
    with (
        enter_private_network(),
        start_server((sys.executable, "-c", LISTENS), 2049, package="", name="server") as running,
    ):
        failure = running.exit_error(30)
        assert failure is not None
        assert failure.message == "server failed with exit status 3: the disk is gone"
        assert running.log == ("the disk is gone",)
