"""The server over real sockets, with the files of a small site."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
import time

import pytest

from ltsp.errors import LtspError
from ltsp.services import http_server
from ltsp.services.http_files import open_http_files

IMAGE = os.urandom(30_000_000)
VERSION = "images/.versions/lab/V"


@pytest.fixture
def site(tmp_path):
    for path, data in {
        "tftp/ltsp/ltsp.ipxe": b"#!ipxe\n",
        "tftp/ltsp/lab/V/vmlinuz": b"kernel",
        f"srv/{VERSION}/image.img": IMAGE,
        f"srv/{VERSION}/manifest.json": b"{}",
        "srv/images/.lab.lock": b"",
        "srv/images/closed.img": b"secret",
        "srv/chroot/etc/shadow": b"secret",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o644)
    (tmp_path / "srv/images/closed.img").chmod(0o640)
    (tmp_path / "tftp/ltsp/lab/current").symlink_to("V")
    (tmp_path / "tftp/ltsp/lab/vmlinuz").symlink_to("current/vmlinuz")
    (tmp_path / "tftp/ltsp/lab/away").symlink_to("../../../srv/chroot/etc/shadow")
    (tmp_path / "tftp/ltsp/lab/absolute").symlink_to(tmp_path / "srv/chroot/etc/shadow")
    (tmp_path / "srv/images/shadow.img").symlink_to("../chroot/etc/shadow")
    os.mkfifo(tmp_path / "tftp/ltsp/fifo")
    return tmp_path


@pytest.fixture
def served(site):
    lines: list[str] = []
    with (
        open_http_files(str(site / "srv"), str(site / "tftp")) as files,
        http_server.open_listener("127.0.0.1", 0) as listener,
        http_server.serve_files(listener, files.open, lines.append),
    ):
        yield listener.getsockname()[1], lines


def ask(served, target, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", served[0], timeout=20)
    try:
        connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    finally:
        connection.close()


def test_boot_files_and_images_are_served(served):
    assert ask(served, "/ltsp/ltsp.ipxe")[:2] == (200, b"#!ipxe\n")
    status, body, headers = ask(served, f"/{VERSION}/image.img")
    assert (status, body == IMAGE, headers["Content-Length"]) == (200, True, "30000000")
    assert headers["Content-Type"] == "application/octet-stream"


def test_links_inside_a_directory_lead_to_versions(served):
    assert ask(served, "/ltsp/lab/vmlinuz")[:2] == (200, b"kernel")


@pytest.mark.parametrize(
    "target",
    [
        "/ltsp/lab/away",
        "/ltsp/lab/absolute",
        "/images/shadow.img",
        "/ltsp/../../srv/chroot/etc/shadow",
        "/images/%2e%2e/chroot/etc/shadow",
        f"/{VERSION}/manifest.json",
        "/images/.lab.lock",
        "/images/",
        "/ltsp/lab/",
        "/ltsp/lab",
        "/ltsp/fifo",
        "/ltsp/missing",
        "/",
    ],
)
def test_nothing_else_is_found(served, target):
    assert ask(served, target)[0] == 404


def test_a_private_image_is_not_served_by_root_either(served, site):
    assert ask(served, "/images/closed.img")[:2] == (403, b"")
    with open_http_files(str(site / "srv"), str(site / "tftp"), public_only=False) as files:
        os.close(files.open("/images/closed.img"))


def test_parts_of_a_file_are_served(served):
    status, body, headers = ask(served, f"/{VERSION}/image.img", Range="bytes=1000000-1000099")
    assert (status, body) == (206, IMAGE[1_000_000:1_000_100])
    assert headers["Content-Range"] == "bytes 1000000-1000099/30000000"
    assert ask(served, f"/{VERSION}/image.img", Range="bytes=-5")[1] == IMAGE[-5:]
    assert ask(served, f"/{VERSION}/image.img", Range="bytes=30000000-")[0] == 416


def test_head_returns_only_the_size(served):
    status, body, headers = ask(served, f"/{VERSION}/image.img", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "30000000")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(served, method):
    assert ask(served, "/ltsp/ltsp.ipxe", method)[0] == 405


def test_each_request_is_a_line(served):
    ask(served, "/ltsp/ltsp.ipxe")
    ask(served, "/images/a%1b%5b2J", "HEAD")
    assert served[1][0].startswith("127.0.0.1 GET /ltsp/ltsp.ipxe 200 7 bytes 0.")
    assert served[1][1].startswith("127.0.0.1 HEAD /images/a%1b%5b2J 404 0 bytes 0.")


def test_a_client_that_goes_away_is_logged_and_is_not_an_error(served, caplog):
    with socket.create_connection(("127.0.0.1", served[0])) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.sendall(f"GET /{VERSION}/image.img HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gone.recv(100)
    assert ask(served, "/ltsp/ltsp.ipxe")[0] == 200
    end = time.monotonic() + 10
    while len(served[1]) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert any(f"/{VERSION}/image.img aborted by the client after 0." in line for line in served[1])
    assert caplog.records == []


def test_a_room_full_of_clients_is_served_at_once(served):
    wrong: list[int] = []

    def fetch(client):
        if ask(served, f"/{VERSION}/image.img")[1] != IMAGE:
            wrong.append(client)

    clients = [threading.Thread(target=fetch, args=(client,)) for client in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert wrong == []


def test_nothing_runs_or_listens_after_the_block(site):
    before = threading.active_count()
    with (
        open_http_files(str(site / "srv"), str(site / "tftp")) as files,
        http_server.open_listener("127.0.0.1", 0) as listener,
    ):
        port = listener.getsockname()[1]
        with http_server.serve_files(listener, files.open, print):
            ask((port, []), "/ltsp/ltsp.ipxe")
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_in_use_is_reported():
    with (
        http_server.open_listener("127.0.0.1", 0) as taken,
        pytest.raises(LtspError, match=r"cannot listen on 127\.0\.0\.1 port") as told,
    ):
        http_server.open_listener("127.0.0.1", taken.getsockname()[1])
    assert told.value.message.endswith("Address already in use")
    assert "--http-port" in told.value.hint


@pytest.mark.parametrize("address", ["192.0.2.99", "no address"])
def test_an_address_of_another_computer_is_reported(address):
    with pytest.raises(LtspError, match="cannot listen on") as told:
        http_server.open_listener(address, 0)
    assert "--http-address" in told.value.hint


def test_the_error_for_a_site_without_images_says_what_to_type(tmp_path):
    with pytest.raises(LtspError, match="ltsp image"), open_http_files(str(tmp_path), str(tmp_path)):
        pass
