"""The configuration of a client without site settings, in a directory entered with chroot(2)."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from corpus.diskless import CLIENT

pytestmark = pytest.mark.root

FACTS = (
    "IMAGE=lab\nSERVER=192.168.67.1\nINTERFACE=eth0\nMAC=52:54:00:12:34:56\nIP=192.168.67.20\nPREFIX=24\n"
    "GATEWAY=192.168.67.1\nDNS=192.168.67.1 192.168.67.2\nDOMAIN=lab.example\nSEARCH=\nHOST=\n"
)
SCRIPT = """
/run/ltsp/client/bin/busybox --install /run/ltsp/client/bin
INIT= exec /run/ltsp/client/bin/busybox sh /run/ltsp/client/sh/configure.sh
"""


@pytest.fixture
def client(tmp_path, busybox):
    """A root with the files that are named, by their path; calling the answer configures the client."""
    for name in ("dev", "etc", "sbin", "run/ltsp/work", "run/ltsp/client/sh", "run/ltsp/client/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dev/null").touch()
    (tmp_path / "run/ltsp/facts").write_text(FACTS)
    shutil.copy("/bin/true", tmp_path / "sbin/init")
    shutil.copy(busybox, tmp_path / "run/ltsp/client/bin")
    for part in CLIENT.glob("*.sh"):
        shutil.copy(part, tmp_path / "run/ltsp/client/sh")

    def configure(**files: str):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
            (tmp_path / path).chmod(0o755)
        command = ["unshare", "--uts", "chroot", tmp_path, "/run/ltsp/client/bin/busybox", "sh", "-c", SCRIPT]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("", "")
        return tmp_path

    return configure


def test_a_client_has_a_name_an_id_and_an_init(client):
    root = client()
    assert (root / "etc/hostname").read_text() == "ltsp20\n"
    assert (root / "etc/hosts").read_text() == "127.0.1.1\tltsp20\n"
    assert len((root / "etc/machine-id").read_text()) == 33
    assert (root / "run/ltsp/work/init").read_text() == "/sbin/init\n"
    assert "HOSTNAME=ltsp20\n" in (root / "run/ltsp/facts").read_text()


def test_networkd_renews_the_lease_if_the_image_has_it_and_the_site_does_not_mask_it(client):
    unit = "lib/systemd/system/systemd-networkd.service"
    files = {unit: "[Install]\nWantedBy=multi-user.target\n"}
    root = client(**files)
    enabled = root / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    assert str(enabled.readlink()) == f"/{unit}"
    root = client(**files, **{"run/ltsp/client/site/common/mask": "systemd-networkd.service\n"})
    assert str((root / "etc/systemd/system/systemd-networkd.service").readlink()) == "/dev/null"


def test_networkd_requests_no_lease_with_a_static_address_and_keeps_the_sites_name_servers(client):
    network = client() / "run/systemd/network/00-ltsp.network"
    assert "DHCP=ipv4\n" in network.read_text()
    assert network.read_text().count("UseDNS=no\n") == 2
    client(**{"run/ltsp/facts": FACTS.replace("DNS=192.168.67.1 192.168.67.2", "DNS=") + "DHCP=no\n"})
    assert "DHCP=no\n" in network.read_text()
    assert network.read_text().count("UseDNS=yes\n") == 2


def test_whatever_manages_the_network_leaves_the_card_of_the_root_alone(client):
    root = client(**{"etc/network/interfaces": "auto eth0\niface eth0 inet dhcp\n"})
    assert "iface eth0 inet manual\n" in (root / "etc/network/interfaces").read_text()
    assert "dhcp" not in (root / "etc/network/interfaces").read_text()
    assert "KeepConfiguration=yes\n" in (root / "run/systemd/network/00-ltsp.network").read_text()


def test_name_servers_of_the_lease_go_into_resolv_conf_and_networkmanager_leaves_it(client):
    root = client()
    expected = "nameserver 192.168.67.1\nnameserver 192.168.67.2\nsearch lab.example\n"
    assert (root / "etc/resolv.conf").read_text() == expected
    assert (root / "run/NetworkManager/conf.d/00-ltsp.conf").read_text() == "[main]\ndns=none\n"


def test_systemd_resolved_gets_the_name_servers(client, tmp_path):
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    root = client(**{"usr/lib/systemd/systemd-resolved": ""})
    assert (root / "etc/resolv.conf").is_symlink()
    told = (root / "run/systemd/resolved.conf.d/ltsp.conf").read_text()
    assert told == "[Resolve]\nDNS=192.168.67.1 192.168.67.2\nDomains=lab.example\n"


SSH = {"usr/bin/ssh-keygen": "", "usr/lib/systemd/system/ssh.service": "[Service]\n"}


def test_a_client_with_ssh_and_no_host_key_makes_its_own(client):
    root = client(**SSH)
    unit = (root / "etc/systemd/system/ltsp-ssh-keys.service").read_text()
    assert "ExecStart=/usr/bin/ssh-keygen -A\n" in unit
    assert "Before=ssh.service " in unit
    assert [path.name for path in (root / "etc/systemd/system").glob("*.wants")] == ["ssh.service.wants"]


def test_host_keys_of_the_image_stay(client):
    root = client(**SSH, **{"etc/ssh/ssh_host_ed25519_key": "key"})
    assert not (root / "etc/systemd/system/ltsp-ssh-keys.service").exists()


@pytest.mark.parametrize("used", [True, False])
def test_a_snakeoil_certificate_is_made_if_a_server_uses_it(client, used):
    setting = "SSLCertificateKeyFile /etc/ssl/private/ssl-cert-snakeoil.key\n" if used else "no key\n"
    root = client(
        **{
            "usr/sbin/make-ssl-cert": "",
            "etc/apache2/sites-enabled/ssl.conf": setting,
            "usr/lib/systemd/system/apache2.service": "[Service]\n",
        }
    )
    assert (root / "etc/systemd/system/apache2.service.wants/ltsp-snakeoil.service").is_symlink() == used


def test_units_are_enabled_as_their_install_section_says(client):
    """Units that name each other are each enabled once."""
    site = {
        "run/ltsp/client/site/common/enable": "a.service\ngetty@tty2.service\n",
        "run/ltsp/client/site/common/disable": "c.service\n",
        "run/ltsp/client/site/common/mask": "d.service\n",
        "usr/lib/systemd/system/a.service": "[Install]\nWantedBy = multi-user.target x.target\nAlso=b.socket\n"
        "Alias=z.service\n",
        "usr/lib/systemd/system/b.socket": "[Install]\nRequiredBy=sockets.target\nAlso=a.service\n",
        "usr/lib/systemd/system/getty@.service": "[Install]\nWantedBy=getty.target\n",
        "etc/systemd/system/x.target.wants/c.service": "",
    }
    root = client(**site)
    units = root / "etc/systemd/system"
    names = sorted(str(path.relative_to(units)) for path in units.rglob("*") if path.is_symlink())
    assert names == [
        "d.service",
        "getty.target.wants/getty@tty2.service",
        "multi-user.target.wants/a.service",
        "sockets.target.requires/b.socket",
        "x.target.wants/a.service",
        "z.service",
    ]
    assert str((units / "getty.target.wants/getty@tty2.service").readlink()) == "/usr/lib/systemd/system/getty@.service"
    assert not (units / "x.target.wants/c.service").exists()


def test_links_of_the_image_never_lead_a_layer_out_of_the_root(client, tmp_path):
    """The image's /etc/motd is a link to what would be the initrd's own shell."""
    (tmp_path / "etc/motd").symlink_to("/run/ltsp/client/sh/message.sh")
    before = (tmp_path / "run/ltsp/client/sh/message.sh").read_text()
    root = client(**{"run/ltsp/client/site/common/files/etc/motd": "hello\n"})
    assert (root / "etc/motd").read_text() == "hello\n"
    assert not (root / "etc/motd").is_symlink()
    assert (tmp_path / "run/ltsp/client/sh/message.sh").read_text() == before


def test_units_that_no_client_needs_are_masked_if_the_image_has_them(client):
    layer = "run/ltsp/client/site/common"
    units = ["a.service", "b.socket", "c.service", "d@.service", "e.service", "absent.service", "kept.service"]
    root = client(
        **{
            f"{layer}/unneeded": "".join(f"{unit}\n" for unit in units),
            f"{layer}/mask": "made-by-a-generator.mount\n",
            "run/ltsp/client/site/image/lab/keep": "kept.service\n",
            "usr/lib/systemd/system/a.service": "",
            "lib/systemd/system/b.socket": "",
            "usr/local/lib/systemd/system/c.service": "",
            "etc/systemd/system/d@.service": "",
            "etc/init.d/e": "",
            "usr/lib/systemd/system/kept.service": "",
        }
    )
    masked = {path.name for path in (root / "etc/systemd/system").iterdir() if path.is_symlink()}
    assert masked == {"a.service", "b.socket", "c.service", "d@.service", "e.service", "made-by-a-generator.mount"}
    assert {str((root / "etc/systemd/system" / name).readlink()) for name in masked} == {"/dev/null"}
