"""An HTTP/1.1 file server on aiohttp: GET and HEAD, ranges, and sendfile(2).

It runs in a thread with its own event loop, as long as its block.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ltsp.errors import LtspError
from ltsp.tree.name import printable

_BACKLOG = 512
"""Connections waiting to be accepted: a room full of PCs is switched on at once."""
_SHUTDOWN_TIMEOUT = 2.0
"""How long the server waits for running transfers when it ends."""

OpenFile = Callable[[str], int]
"""From a request's target to a descriptor of a regular file; raises OSError, FileNotFoundError if there is none."""
Log = Callable[[str], None]
"""Takes a line that is safe to print."""


def open_listener(address: str, port: int) -> socket.socket:
    """A listening socket; port 0 means any free port.

    Raises LtspError if the port is in use or not allowed, or the address is not local.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server(
            (address, port),
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=address == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise LtspError(
            f"cannot listen on {printable(address)} port {port}: {_describe_reason(error)}", _suggest_remedy(error)
        ) from error


def _describe_reason(error: OSError) -> str:
    """The reason without the address that Python appends; errors of name resolution have other numbers."""
    number = error.errno or 0
    return os.strerror(number) if number in errno.errorcode else str(error.strerror)


def _suggest_remedy(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program uses this port: stop it, or choose another port with --http-port"
        case errno.EACCES:
            return "run as root, or choose a port above 1023 with --http-port"
        case _:
            return "give an address of this server with --http-address, or omit it to listen on all addresses"


@contextmanager
def serve_files(listener: socket.socket, open_file: OpenFile, log: Log) -> Iterator[None]:
    """Serve while the block runs. `open_file` and `log` are called in other threads."""
    loop = asyncio.new_event_loop()
    try:
        runner = loop.run_until_complete(_start_runner(_Handler(open_file, log), listener))
        thread = Thread(target=loop.run_forever, name="http")
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(runner.cleanup())
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def _start_runner(handler: _Handler, listener: socket.socket) -> web.ServerRunner:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=_SHUTDOWN_TIMEOUT)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


class _Handler:
    def __init__(self, open_file: OpenFile, log: Log) -> None:
        self._open = open_file
        self._log = log

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        start_time = time.monotonic()
        client = (request.remote or "?").removeprefix("::ffff:")
        request_line = f"{client} {printable(request.method)} {printable(request.raw_path)}"
        try:
            response = await self._answer(request)
        except ConnectionError:
            # Not an error of the server: a client that only wanted the size, or was switched off.
            self._log(f"{request_line} aborted by the client after {time.monotonic() - start_time:.2f} s")
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        sent = response.headers.get("Content-Length", "0") if request.method == "GET" else "0"
        self._log(f"{request_line} {response.status} {sent} bytes {time.monotonic() - start_time:.2f} s")
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        try:
            descriptor = await asyncio.get_running_loop().run_in_executor(None, self._open, request.raw_path)
        except PermissionError:
            return web.Response(status=403)
        except OSError:
            return web.Response(status=404)
        try:
            response = _DescriptorResponse(descriptor)
            await response.prepare(request)
            return response
        finally:
            os.close(descriptor)


class _DescriptorResponse(web.FileResponse):
    """A response from a descriptor: the checked file is sent even if its name changes meanwhile."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(f"/proc/self/fd/{descriptor}", headers={"Content-Type": "application/octet-stream"})

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it once: aiohttp calls this again after the handler, when the descriptor may be another file's."""
        return None if self.prepared else await super().prepare(request)
