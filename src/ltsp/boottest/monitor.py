"""QEMU's monitor (QMP): screenshots of the guest."""

from __future__ import annotations

import json
import re
import socket
import struct
import zlib
from typing import Any

from ltsp.errors import FormatError, LtspError

_TIMEOUT = 20.0
"""A busy QEMU may be slow, but one that hangs must not block the run."""
_MAX_ANSWER_SIZE = 1 << 20
"""Maximum bytes of an answer."""
_PPM_HEADER = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s")
"""ppm(5). QEMU writes no comments."""


class QemuMonitor:
    """A QMP session on a connected socket. docs/interop/qmp-spec.txt of QEMU"""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._greeted = False
        self._rest = b""

    def screenshot(self, path: str) -> None:
        """Write a screenshot to a file, as a portable pixmap: the only format that every QEMU supports.

        Raises LtspError if QEMU fails to.
        """
        self._connection.settimeout(_TIMEOUT)
        try:
            if not self._greeted:
                self._receive("QMP")
                self._execute("qmp_capabilities", {})
                self._greeted = True
            self._execute("screendump", {"filename": path})
        except (OSError, ValueError) as error:
            raise LtspError(f"cannot take a screenshot: QEMU's monitor failed: {error}") from error

    def _execute(self, command: str, arguments: dict[str, str]) -> None:
        self._connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        answer = self._receive("return", "error")
        if "error" in answer:
            raise LtspError(f"QEMU refused {command}: {answer['error'].get('desc', '')}")

    def _receive(self, *keys: str) -> dict[str, Any]:
        """The next object with one of the keys; events in between are skipped."""
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if not newline:
                piece = self._connection.recv(1 << 16)
                if not piece or len(self._rest) > _MAX_ANSWER_SIZE:
                    raise OSError("connection closed")
                self._rest += piece
                continue
            self._rest = rest
            answer = json.loads(line)
            if isinstance(answer, dict) and any(key in answer for key in keys):
                return answer


def to_png(pixmap: bytes) -> bytes:
    """A binary portable pixmap (ppm(5), P6, 8 bits) as PNG.

    Raises FormatError if it is not one.
    """
    head = _PPM_HEADER.match(pixmap)
    columns, rows = (int(head[1]), int(head[2])) if head else (0, 0)
    pixels = pixmap[head.end() :] if head else b""
    if head is None or len(pixels) != 3 * columns * rows:
        raise FormatError("QEMU wrote an invalid screenshot: not a PPM image")
    # Filter type 0 before each row. PNG specification, 9.2
    filtered = b"".join(b"\0" + pixels[3 * columns * row : 3 * columns * (row + 1)] for row in range(rows))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(filtered)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
