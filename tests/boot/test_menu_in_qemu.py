"""The menu in the real iPXE of QEMU's network cards."""

from __future__ import annotations

import functools
import http.server
import threading
from contextlib import contextmanager

import pytest

from corpus.ipxe_machine import screen
from ltsp.boot.menu import ClientSection, Menu, MenuEntry, MenuOptions
from ltsp.publish.pointer import Pointer

pytestmark = [pytest.mark.boot, pytest.mark.oracle]

HOSTILE = "Lab ; shell || ${ltsp-server} && reboot # \x1b[2J\nshell"
IMAGES = (MenuEntry("lab", HOSTILE), MenuEntry("lab2", "Second lab"))
VERSION = "20260131T174512Z-1a2b3c4d"


@pytest.fixture
def tftp(tmp_path):
    """Entries that print their settings, and fail."""
    for entry in IMAGES:
        (tmp_path / "ltsp" / entry.name).mkdir(parents=True)
        lines = ["#!ipxe", f"echo ENTRY {entry.name} root=${{ltsp-root}}", "echo arguments=[${ltsp-arguments}]"]
        lines += ["echo server=${ltsp-server} arch=${ltsp-arch} END", "exit 1"]
        (tmp_path / "ltsp" / entry.name / "boot.ipxe").write_text("\n".join(lines) + "\n")
    return tmp_path


def put(tftp, menu):
    (tftp / "ltsp/ltsp.ipxe").write_text(menu.text(), encoding="ascii")


@contextmanager
def served(directory):
    """By HTTP on a free port of the loopback."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_the_default_is_taken_after_the_timeout_and_a_hostile_title_is_text(tftp):
    put(tftp, Menu("/srv/ltsp", IMAGES, (MenuEntry("dev", "A chroot"),), MenuOptions(timeout=1500)))
    shown = screen(tftp, "END")
    assert "LTSP server 10.0.2.2, this PC is 52:54:00:12:34:56" in shown
    assert "Lab _ shell __ __ltsp-server_ __ reboot _ _[2J shell" in shown
    assert "Second lab" in shown
    assert "A chroot" in shown
    assert "ENTRY lab root=nfs://10.0.2.2/srv/ltsp/images! arguments=[ ] server=10.0.2.2 arch=x86_64 END" in shown
    assert "iPXE>" not in shown


def test_a_section_by_mac_address_chooses_and_escape_does_not_leave_the_menu(tftp):
    mac = "52:54:00:ab:cd:ef"
    sections = (
        ClientSection((mac,), hostname="pc07", options=MenuOptions(parameters="nomodeset a=b", timeout=0)),
        ClientSection(hostnames=("pc07",), options=MenuOptions("lab2", transport="nbd")),
    )
    put(tftp, Menu("/srv/ltsp", IMAGES, sections=sections))
    shown = screen(tftp, "END", mac, keys=(("Exit iPXE", b"\x1b"), ("Exit iPXE", b"\r")))
    assert "ENTRY lab2 root=nbd://10.0.2.2/ arguments=[nomodeset a=b ] server=10.0.2.2" in shown


@pytest.mark.slow
def test_another_entry_can_be_chosen(tftp):
    put(tftp, Menu("/srv/ltsp", IMAGES, options=MenuOptions(timeout=0)))
    assert "ENTRY lab2" in screen(tftp, "END", keys=(("Exit iPXE", b"\x1b[B\r"),))


@pytest.mark.slow
def test_a_deleted_version_is_reported_and_the_menu_returns(tftp):
    for files in (("client.img", "vmlinuz"), ("initrd.img", "vmlinuz")):
        pointer = Pointer("lab", VERSION, None, f"images/.versions/lab/{VERSION}/image.img", files)
        (tftp / "ltsp/lab/boot.ipxe").write_text(pointer.to_script())
        put(tftp, Menu("/srv/ltsp", IMAGES, options=MenuOptions(timeout=-1)))
        shown = screen(tftp, "Exit iPXE", keys=(("Press a key for the menu", b"\r"),))
        assert f"Version {VERSION} of lab could not be fetched" in shown
        assert "On the server, run ltsp versions lab" in shown
        assert "cannot boot lab" in shown
        assert shown.index("cannot boot lab") < shown.index("LTSP server 10.0.2.2")


def test_with_http_only_the_first_script_comes_by_tftp(tftp):
    with served(tftp) as port:
        put(
            tftp,
            Menu("/srv/ltsp", IMAGES, options=MenuOptions(timeout=-1, transport="auto"), http=True, http_port=port),
        )
        shown = screen(tftp, "END")
    assert f"http://10.0.2.2:{port}/ltsp/ltsp.ipxe... ok" in shown
    assert f"ENTRY lab root=http://10.0.2.2:{port}/images/ arguments=[ ] server=10.0.2.2" in shown
    assert "tftp://10.0.2.2/ltsp/lab" not in shown


@pytest.mark.slow
def test_if_http_does_not_answer_the_menu_continues_by_tftp(tftp):
    with served(tftp) as port:
        pass
    put(tftp, Menu("/srv/ltsp", IMAGES, options=MenuOptions(timeout=-1, transport="auto"), http=True, http_port=port))
    shown = screen(tftp, "END")
    assert f"No menu at http://10.0.2.2:{port}/ltsp/ltsp.ipxe" in shown
    assert "ENTRY lab root=nfs://10.0.2.2/srv/ltsp/images!" in shown
