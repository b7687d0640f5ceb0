from __future__ import annotations

import json
import socket
import struct
import threading
import zlib

import pytest

from ltsp.boottest.monitor import QemuMonitor, to_png
from ltsp.errors import FormatError, LtspError


def test_a_pixmap_becomes_a_png_with_the_same_pixels():
    pixels = bytes(range(2 * 3 * 3))
    picture = to_png(b"P6\n3 2\n255\n" + pixels)
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">IIBBBBB", picture[16:29]) == (3, 2, 8, 2, 0, 0, 0)
    start = picture.index(b"IDAT")
    (size,) = struct.unpack(">I", picture[start - 4 : start])
    assert zlib.decompress(picture[start + 4 : start + 4 + size]) == b"\0" + pixels[:9] + b"\0" + pixels[9:]


def test_pixels_that_look_like_blanks_are_pixels():
    assert to_png(b"P6\n1 1\n255\n\n\n\n")


@pytest.mark.parametrize("pixmap", [b"", b"P5\n1 1\n255\nx", b"P6\n1 1\n255\nxx", b"P6\n1 1\n65535\nxxxxxx"])
def test_another_file_is_not_a_pixmap(pixmap):
    with pytest.raises(FormatError):
        to_png(pixmap)


def conversation(answers):
    """A monitor whose other side greets, and answers each command with the next lines."""
    ours, theirs = socket.socketpair()
    asked = []

    def talk():
        with theirs, theirs.makefile("rwb", buffering=0) as stream:
            stream.write(b'{"QMP": {"version": {}}}\r\n')
            for answer in answers:
                asked.append(json.loads(stream.readline()))
                stream.write(answer)

    thread = threading.Thread(target=talk)
    thread.start()
    return ours, asked, thread


def test_events_between_the_answers_are_passed_over():
    ours, asked, thread = conversation([b'{"return": {}}\n', b'{"event": "RESUME"}\n{"return": {}}\n'])
    with ours:
        QemuMonitor(ours).screenshot("/tmp/x.ppm")
        thread.join()
    assert asked == [
        {"execute": "qmp_capabilities", "arguments": {}},
        {"execute": "screendump", "arguments": {"filename": "/tmp/x.ppm"}},
    ]


def test_a_monitor_that_ends_is_reported():
    ours, _, thread = conversation([b'{"return": {}}\n{"ret'])
    with ours:
        with pytest.raises(LtspError, match="cannot take a screenshot"):
            QemuMonitor(ours).screenshot("/tmp/x.ppm")
        thread.join()


def test_a_refusal_gives_the_reason():
    ours, _, thread = conversation(
        [b'{"return": {}}\n', b'{"error": {"class": "GenericError", "desc": "no screen"}}\n']
    )
    with ours:
        with pytest.raises(LtspError, match="no screen"):
            QemuMonitor(ours).screenshot("/tmp/x.ppm")
        thread.join()
