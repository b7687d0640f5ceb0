"""An NBD server for a test: nbdkit, with one file, read-only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.boottest.server import ServerProcess, start_server

PORT = 10809
"""The port assigned by IANA, and the default of clients."""


def arguments(image: str) -> list[str]:
    """The command line of nbdkit(1), whose file plugin serves the file under any export name."""
    return [
        "nbdkit",
        "--foreground",
        "--read-only",
        *("--ipaddr", "127.0.0.1"),
        *("--port", str(PORT)),
        "file",
        # With the key, a path may contain any character. nbdkit(1), "Magic parameters"
        f"file={image}",
    ]


@contextmanager
def serve_image(image: str) -> Iterator[ServerProcess]:
    """Serve an image on the loopback of this thread's private network.

    Raises LtspError if nbdkit is missing or does not start to serve.
    """
    with start_server(arguments(image), PORT, package="nbdkit") as server:
        yield server
