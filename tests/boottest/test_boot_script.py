from __future__ import annotations

from dataclasses import replace

from ltsp.boottest.boot_script import BootScript

IMAGE = "images/.versions/lab/V/image.img"
ROOT = "nfs://10.0.2.2/srv/ltsp/images!.versions/lab/V/image.img"
SCRIPT = BootScript(
    name="lab",
    transport="nfs",
    base_url="tftp://10.0.2.2/",
    http_url="",
    report_url="tftp://10.0.2.2/report.img",
)


def test_the_menu_gets_the_choices_of_a_person():
    assert SCRIPT.through_menu() == (
        "#!ipxe\n"
        "set ltsp-server 10.0.2.2\n"
        "set ltsp-transport nfs\n"
        "set ltsp-choice lab\n"
        "set ltsp-extra console=tty0 console=ttyS0 initrd=report.img\n"
        "initrd --name report.img tftp://10.0.2.2/report.img\n"
        "chain tftp://10.0.2.2/ltsp/ltsp.ipxe\n"
    )


def test_a_menu_fetched_by_http_continues_by_http():
    by_http = replace(SCRIPT, base_url="http://10.0.2.2/", http_url="http://10.0.2.2", extra="ltsp.debug")
    text = by_http.through_menu()
    assert "set ltsp-http http://10.0.2.2\n" in text
    assert "set ltsp-extra console=tty0 console=ttyS0 ltsp.debug initrd=report.img\n" in text


def test_one_version_boots_without_a_menu():
    assert SCRIPT.boot_version("V", IMAGE, ROOT, "ab12", ["client.img", "ltsp.img"]) == (
        "#!ipxe\n"
        "kernel tftp://10.0.2.2/ltsp/lab/V/vmlinuz rdinit=/ltsp/init initrd=client.img initrd=ltsp.img "
        "initrd=report.img ltsp.image=images/.versions/lab/V/image.img "
        "ltsp.root=nfs://10.0.2.2/srv/ltsp/images!.versions/lab/V/image.img ltsp.sha256=ab12 ltsp.server=10.0.2.2 "
        "BOOTIF=01-${netX/mac:hexhyp} console=tty0 console=ttyS0\n"
        "initrd tftp://10.0.2.2/ltsp/lab/V/client.img\n"
        "initrd tftp://10.0.2.2/ltsp/ltsp.img\n"
        "initrd --name report.img tftp://10.0.2.2/report.img\n"
        "boot\n"
    )


def test_an_image_that_the_firmware_loads_becomes_a_file():
    loaded = replace(SCRIPT, transport="file", http_url="http://10.0.2.2")
    assert "initrd http://10.0.2.2/images/.versions/lab/V/image.img /image.img\nboot\n" in loaded.boot_version(
        "V", IMAGE, "file:/image.img", "", []
    )
