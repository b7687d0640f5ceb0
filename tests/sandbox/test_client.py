from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from corpus import reader_session, unprivileged
from corpus.reader_session import Act, Grow, Said, Start
from corpus.tree_strategies import noise
from ltsp.errors import FormatError, ReaderFailed, SourceError
from ltsp.sandbox.client import SandboxReader, start_reader
from ltsp.sandbox.passed_files import PassedFiles
from ltsp.sandbox.protocol import Frame, FrameKind, parse_failure, send_frame
from ltsp.tree.selection import Inclusion


@pytest.fixture(autouse=True)
def tests_on_the_path(monkeypatch):
    tests = str(Path(reader_session.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH")))))


def no_sibling(name):
    raise SourceError(f"there is no {name}", "put it there")


@contextmanager
def started(files=(), open_sibling=no_sibling, *, refuse=False):
    with start_reader(["corpus.reader_session"], may_write=False) as reader:
        reader.open(Start(refuse), files, open_sibling)
        yield reader


def said(process, *asked):
    return process.ask(Act(*asked), Said).texts


def content(tree, path):
    with tree.get(path).content.open() as stream:
        return stream.read(tree.get(path).content.size)


def test_trees_and_contents_come_as_they_are():
    with started() as process:
        tree = process.tree(Grow())
        file = tree.get("a")
        assert file is tree.get("same")
        assert file.metadata == reader_session.FILE
        assert content(tree, "a") == noise(3 << 20)
        assert content(tree, "empty") == b""
        assert [content(tree, f"many/n{number}") for number in (0, 7, 1999)] == [b"0", b"7", b"1999"]


def test_which_directories_are_looked_into_is_asked_many_at_once():
    asked = []

    def select(path, directory):
        asked.append((path, directory))
        return Inclusion.EMPTIED if path == "home" else Inclusion.ALL

    names = [f"d{number}" for number in range(20_000)]
    with started() as process:
        assert "home-True" in process.tree(Grow(ask=("home", "usr"))).root.entries
        tree = process.tree(Grow(ask=("home", "usr", *names)), select)
        assert list(tree.root.entries)[:3] == ["home-False", "usr-True", "d0-True"]
        assert asked[0] == ("home", True)
        with pytest.raises(FormatError, match="invalid reply"):
            process.tree(Grow(ask=("invalid",)), select)


def test_what_is_left_out_is_not_in_the_tree():
    select = lambda path, _directory: Inclusion.NOTHING if path in {"a", "many"} else Inclusion.ALL  # noqa: E731
    with started() as process:
        tree = process.tree(Grow(), select)
    assert "same" in tree.root.entries
    assert not {"a", "many"} & set(tree.root.entries)


def test_holes_stay_holes():
    with started() as process:
        tree = process.tree(Grow())
        with tree.get("sparse").content.open() as stream:
            assert stream.hole_size() == 0
            assert stream.read(10) == b"x" * 10
            assert stream.hole_size() == 5 << 20
            stream.skip(5 << 20)
            assert stream.read(100) == b"xxx"
            assert stream.read(1) == b""
        assert content(tree, "sparse") == b"x" * 10 + bytes(5 << 20) + b"xxx"


def test_few_contents_in_many_pieces_are_read_from_their_places_and_the_others_are_asked_for(tmp_path):
    """Inodes of a disk may share their map: a few megabytes of them would make a table of billions of places here."""
    (tmp_path / "file").write_bytes(noise(2000))
    with (tmp_path / "file").open("rb") as file, started([file]) as process:
        tree = process.tree(Grow(in_pieces=300))
        places = [len(getattr(node.content, "extents", ())) for _, node in tree.walk()]
        assert len(places) == 300
        assert places[0] == 1000
        assert sum(places) <= 65536 + 4 * 300
        assert places[-1] == 0
        assert content(tree, "n0") == content(tree, "n299") == noise(2000)[::2]


def test_several_contents_are_read_at_once_and_some_not_to_their_end():
    with started() as process:
        tree = process.tree(Grow())
        with tree.get("a").content.open() as one, tree.get("a").content.open() as other:
            assert one.read(100) == noise(3 << 20)[:100]
            assert other.read(3 << 20) == noise(3 << 20)
        found = []
        threads = [threading.Thread(target=lambda: found.append(content(tree, "a"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [noise(3 << 20)] * 8
        assert len(process.idle_channels) <= 9


def test_other_files_are_asked_for(tmp_path):
    (tmp_path / "main").write_text("main")
    (tmp_path / "backing").write_text("behind it")
    with (
        (tmp_path / "main").open("rb") as file,
        (tmp_path / "backing").open("rb") as backing,
        started(
            [file], lambda name: open(os.dup(backing.fileno()), "rb") if name == "backing" else no_sibling(name)
        ) as process,
    ):
        assert said(process, "read") == ("main",)
        assert said(process, "sibling", "backing") == ("behind it",)
        with pytest.raises(SourceError, match="there is no other"):
            said(process, "sibling", "other")
        assert said(process, "read") == ("",)


def test_errors_come_with_their_kind_and_are_safe_to_print():
    with pytest.raises(SourceError, match="it is refused: ask otherwise"), started(refuse=True):
        pass
    with started() as process, pytest.raises(SourceError) as caught:
        said(process, "escape")
    assert caught.value.message.isprintable()


def test_a_process_out_of_memory_reports_it_and_continues():
    with started() as process:
        with pytest.raises(FormatError, match="more memory than any valid source"):
            said(process, "eat")
        assert said(process, "still there") == ("still there",)


def test_a_reply_that_is_not_the_expected_message_is_refused():
    with started() as process, pytest.raises(FormatError, match="the sandbox worker returned an invalid reply"):
        said(process, "lie")


def test_a_process_that_dies_is_reported():
    with started() as process, pytest.raises(FormatError, match=r"its reader process .* exit status 3"):
        said(process, "die")


def test_a_process_that_hangs_is_reported_and_ended():
    with started() as process:
        process.control.settimeout(0.5)
        with pytest.raises(FormatError, match="has not answered"):
            said(process, "hang")


def test_a_file_that_is_too_short_is_an_error():
    with started() as process:
        tree = process.tree(Grow(lie=True))
        with pytest.raises(FormatError, match="does not have the size"):
            content(tree, "liar")
        assert content(tree, "many/n5") == b"5"


@pytest.mark.root
def test_the_process_has_no_rights():
    with started() as process:
        uid, gid, groups, written = said(process, "rights")
    assert (uid, gid, groups) == ("65534", "65534", "[]")
    assert written != "written"


REACH = """
import os, socket, sys
from corpus.reader_session import Act, Said, Start
from ltsp.sandbox.client import start_reader
with socket.create_server(("127.0.0.1", 0)) as server:
    request = Act("reach", sys.argv[1], server.getsockname()[1], os.getpid())
    with start_reader(["corpus.reader_session"], may_write=False) as process:
        process.open(Start(), [])
        print(*process.ask(request, Said).texts, sep="\\n")
"""


@pytest.mark.root
@pytest.mark.parametrize("who", ["root", "user", "container"])
def test_the_process_reaches_nothing_for_any_user(tmp_path, who):
    """An ordinary user's own files, too, which becoming nobody would keep from it."""
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("anybody's")
    unprivileged.given(tmp_path)
    through = {"root": (), "user": unprivileged.as_user(tmp_path), "container": unprivileged.in_container(tmp_path)}[
        who
    ]
    command = [*through, sys.executable, "-c", REACH, tmp_path / "file"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 3
    assert all(said), said


@pytest.mark.parametrize("payload", [b"[1", b"[" * 100_000, b"\xff", b"{}", b"[1,2]"])
def test_an_invalid_failure_is_an_invalid_reply(payload):
    with pytest.raises(FormatError, match="invalid reply"):
        raise parse_failure(Frame(FrameKind.FAILURE, payload))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (FrameKind.DATA, b"data"),
        (FrameKind.CONTENT_REQUEST, b'["ContentRequest", 0]'),
        (FrameKind.OPEN, b'["Start", false]'),
        (FrameKind.TREE_RECORDS, b"[]"),
        (FrameKind.ANSWER, b""),
        (FrameKind.ANSWER, b'["Done"]'),
        (FrameKind.ANSWER, b'["Said", ["text"], "unknown"]'),
        (FrameKind.ANSWER, b'["Said", [3]]'),
        (FrameKind.FAILURE, b'["Failure", "SystemExit", "now"]'),
        (FrameKind.FAILURE, b'["Failure", 3, "message", "hint"]'),
        (FrameKind.FILE_REQUEST, b'["FileRequest", 3]'),
        (FrameKind.FILE_REQUEST, b'["FileRequest"]'),
        (FrameKind.ENTER_REQUEST, b'["EnterRequest", [1]]'),
        (FrameKind.ENTER_REQUEST, b'["EnterRequest", "path"]'),
    ],
)
def test_a_forged_frame_is_an_invalid_reply(kind, payload):
    ours, theirs = socket.socketpair()
    with ours, theirs, PassedFiles() as files:
        send_frame(theirs, kind, payload)
        theirs.shutdown(socket.SHUT_WR)
        reader = SandboxReader(ours, None, files, no_sibling)
        with pytest.raises(ReaderFailed, match="the sandbox worker returned an invalid reply"):
            reader.ask(Act("read"), Said)


@pytest.mark.parametrize("batch", [b"", b"null", b"3", b'"text"', b"{}", b"[[]]", b"[3]", b"[" * 100_000, b"\xff"])
def test_a_forged_batch_of_records_is_an_invalid_tree(batch):
    ours, theirs = socket.socketpair()
    with ours, theirs, PassedFiles() as files:
        send_frame(theirs, FrameKind.TREE_RECORDS, batch)
        send_frame(theirs, FrameKind.ANSWER, b'["Done"]')
        with pytest.raises(ReaderFailed, match="the sandbox worker returned an invalid reply"):
            SandboxReader(ours, None, files).tree(Grow())


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(FrameKind.HOLE, b'["Hole", 0]'), (FrameKind.HOLE, b'["Hole", -5]'), (FrameKind.ANSWER, b'["Done"]')],
)
def test_a_forged_frame_in_place_of_a_content_is_an_invalid_reply(kind, payload):
    ours, theirs = socket.socketpair()
    with theirs, PassedFiles() as files:
        reader = SandboxReader(ours, None, files, idle_channels=[ours])
        send_frame(theirs, kind, payload)
        content = reader._make_content(0, 10, 10, ())
        with pytest.raises(ReaderFailed, match="invalid reply"), content.open() as stream:
            stream.read(10)


def test_a_frame_past_the_limit_is_an_invalid_reply():
    ours, theirs = socket.socketpair()
    with theirs, PassedFiles() as files:
        theirs.sendall(struct.pack("<cQ", b"!", (1 << 30) + 1))
        with ours, pytest.raises(ReaderFailed, match="invalid reply"):
            SandboxReader(ours, None, files).ask(Act("read"), Said)
