"""An NBD server for a test: nbdkit, with one file, read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.boottest.server import ServerProcess, start_server

PORT = 10809
"""IANA's, and the one that clients take where no other is named."""


def arguments(image: str) -> list[str]:
    """The command line of nbdkit(1), whose file plugin gives the file under whatever name is asked for."""
    return [
        "nbdkit",
        "--foreground",
        "--read-only",
        *("--ipaddr", "127.0.0.1"),
        *("--port", str(PORT)),
        "file",
        # With the key, a path may hold anything. nbdkit(1), "Magic parameters"
        f"file={image}",
    ]


@contextmanager
def serve_image(image: str) -> Iterator[ServerProcess]:
    """Serve an image on the loopback of the private network that this thread visits.

    Raises LtspError if nbdkit is missing or does not begin to serve.
    """
    with start_server(arguments(image), PORT, package="nbdkit") as server:
        yield server
