"""ltsp ipxe on a server with images and chroots."""

from __future__ import annotations

import io

import pytest

from corpus.ipxe_script import IpxeClient
from corpus.site import Site
from ltsp.build.server_files import Binary
from ltsp.cli.console import ConsoleOptions, make_report
from ltsp.commands.ipxe import ipxe
from ltsp.errors import ConfError, LtspError
from ltsp.host.identity import Identity
from ltsp.publish.pointer import Pointer
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import parse_conf
from ltsp.settings.network_options import IpxeOptions

VERSION = "20260131T174512Z-1a2b3c4d"


class Server:
    def __init__(self, tmp_path):
        self.base, self.tftp = tmp_path / "ltsp", tmp_path / "tftp"
        (self.base / "images").mkdir(parents=True)
        (self.tftp / "ltsp").mkdir(parents=True)
        self.package = tmp_path / "package"
        self.package.mkdir()
        for name in ("undionly.kpxe", "ipxe.efi"):
            (self.package / name).write_text(name)
        self.binaries = (
            Binary("undionly.kpxe", (f"{self.package}/undionly.kpxe",), "ipxe", needed=True),
            Binary("snponly.efi", (f"{self.package}/snponly.efi", f"{self.package}/ipxe.efi"), "ipxe", needed=True),
            Binary("memtest.0", (f"{self.package}/memtest.bin",), "memtest86+"),
        )
        self.menu = self.tftp / "ltsp/ltsp.ipxe"

    def image(self, name, *, kernel=True):
        (self.base / f"images/{name}.img").write_text("an image of somebody's")
        if kernel:
            self.kernel(name)

    def chroot(self, name, *, kernel=True):
        (self.base / name / "proc").mkdir(parents=True)
        if kernel:
            self.kernel(name)

    def kernel(self, name):
        (self.tftp / "ltsp" / name).mkdir()
        (self.tftp / "ltsp" / name / "boot.ipxe").write_text(Pointer(name, VERSION, None).to_script())

    def run(self, conf="", *, overwrite=True, **options):
        ltsp = LtspOptions(base_dir=str(self.base), tftp_dir=str(self.tftp), overwrite=overwrite)
        out = io.StringIO()
        ipxe(
            IpxeOptions(**options),
            ltsp,
            parse_conf(conf.encode(), "ltsp.conf"),
            Identity(),
            make_report(ConsoleOptions(), out, out, {}),
            self.binaries,
        )
        return out.getvalue()

    def client(self, **settings):
        client = IpxeClient({"netX/mac": "52:54:00:12:34:56", "next-server": "10.0.2.2", **settings})
        assert client.run(self.menu.read_text(encoding="ascii")) == "booted"
        return client


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path)


def test_everything_with_a_kernel_is_in_the_menu(server):
    server.image("lab")
    server.image("disk", kernel=False)
    server.chroot("dev")
    server.chroot("raw", kernel=False)
    said = server.run("IPXE_LAB_IMG='Lab; first floor'\n[52:54:00:12:34:56]\nDEFAULT_IMAGE=r_dev\n")
    assert "ltsp kernel disk publishes its own, ltsp kernel --name=disk CHROOT publishes that of a chroot" in said
    client = server.client()
    assert [item for item in client.items if item[0][:1] != "_"] == [
        *(("", "Images"), ("lab", "Lab_ first floor"), ("", "Chroots"), ("r_dev", "r_dev"), ("", "Other"))
    ]
    assert client.chained == ["dev/boot.ipxe"]
    assert client.settings["ltsp-url"] == f"nfs://10.0.2.2{server.base}!dev"


def test_the_second_run_changes_nothing(server):
    server.image("lab")
    assert "wrote" in server.run()
    before = server.menu.stat().st_ino
    said = server.run()
    assert "unchanged" in said
    assert "copied" not in said
    assert server.menu.stat().st_ino == before


def test_a_dry_run_writes_nothing(server):
    server.image("lab")
    said = server.run(dry_run=True)
    assert "#!ipxe" in said
    assert "would copy" in said
    assert [path.name for path in (server.tftp / "ltsp").iterdir()] == ["lab"]


def test_without_overwrite_a_manually_written_menu_is_kept(server):
    server.menu.write_text("#!ipxe\n")
    assert "kept" in server.run(overwrite=False)
    assert server.menu.read_text() == "#!ipxe\n"


def test_missing_binaries_are_copied_from_packages(server):
    server.image("lab")
    (server.tftp / "ltsp/undionly.kpxe").write_text("mine")
    server.run()
    assert (server.tftp / "ltsp/undionly.kpxe").read_text() == "mine"
    assert (server.tftp / "ltsp/snponly.efi").read_text() == "ipxe.efi"
    server.run(binaries="1")
    assert (server.tftp / "ltsp/undionly.kpxe").read_text() == "undionly.kpxe"


def test_memtest_is_in_the_menu_if_it_exists(server):
    server.image("lab")
    server.run()
    assert "_memtest" not in dict(server.client().items)
    (server.package / "memtest.bin").write_text("x")
    server.run()
    assert "_memtest" in dict(server.client().items)


def test_missing_ipxe_is_reported_with_its_package_after_writing_the_menu(server):
    server.image("lab")
    (server.package / "undionly.kpxe").unlink()
    with pytest.raises(LtspError, match=r"iPXE not found \(undionly\.kpxe\)") as failure:
        server.run()
    assert "install the package ipxe" in failure.value.hint
    assert server.menu.exists()
    server.run(binaries="0")


def test_an_invalid_line_of_ltsp_conf_does_not_change_the_menu(server):
    server.image("lab")
    server.run()
    before = server.menu.read_text()
    with pytest.raises(ConfError, match="KERNEL_PARAMETERS"):
        server.run("[52:54:00:12:34:57]\nKERNEL_PARAMETERS='a && shell'\n")
    assert server.menu.read_text() == before


def test_the_http_port_also_applies_to_images_only(server):
    server.image("lab")
    server.run("[clients]\nIMAGE_TRANSPORT=http\n", http_port=8080)
    assert server.client().settings["ltsp-root"] == "http://10.0.2.2:8080/images/"


@pytest.mark.parametrize("section", ["clients", "52:54:00:12:34:56"])
def test_images_loaded_by_ipxe_need_http(server, section):
    server.image("lab")
    conf = f"[{section}]\nIMAGE_TRANSPORT=file\n"
    assert "IMAGE_TRANSPORT=file needs HTTP=1" in server.run(conf)
    assert "IMAGE_TRANSPORT" not in server.run(conf, http=True)


def test_with_http_clients_use_it(server):
    server.image("lab")
    server.run(http=True, http_port=8080)
    assert server.client().chained == ["http://10.0.2.2:8080/ltsp/ltsp.ipxe"]


def test_without_images_the_menu_says_how_to_make_one(server):
    assert "make an image with ltsp image" in server.run()


def test_publishing_an_image_without_menu_entry_is_noted(tmp_path):
    site = Site.make(tmp_path)
    site.system("lab")
    site.system("office")
    assert "menu" not in site.ltsp("image", "lab").stderr
    site.ltsp("ipxe", "--binaries=0")
    assert "menu" not in site.ltsp("image", "lab").stderr
    assert "no entry for office yet: run ltsp ipxe" in site.ltsp("image", "office").stderr
    site.ltsp("ipxe", "--binaries=0")
    assert "menu" not in site.ltsp("kernel", "office").stderr


@pytest.mark.parametrize("address", ["10.0.0.3", "server.example.org"])
def test_the_menu_uses_the_given_server_address(server, address):
    server.image("lab")
    server.run(server=address)
    assert f"set ltsp-server {address}\n" in server.menu.read_text()
