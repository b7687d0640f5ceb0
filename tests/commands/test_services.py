"""ltsp nfs, dnsmasq and dhcp-snippet, with fake programs on the PATH."""

from __future__ import annotations

import io
import json

import pytest

from ltsp.cli.console import ConsoleOptions, make_report
from ltsp.commands.dhcp_snippet import dhcp_snippet
from ltsp.commands.dnsmasq import dnsmasq, parse_nameservers
from ltsp.commands.http import http
from ltsp.commands.nfs import nfs
from ltsp.errors import LtspError, UsageError
from ltsp.host import systemd
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import DhcpSnippetOptions, DnsmasqOptions, HttpOptions, NfsOptions

LINKS = [{"ifname": "eth0", "addr_info": [{"local": "192.168.1.5", "prefixlen": 24, "scope": "global"}]}]


class Server:
    def __init__(self, tmp_path, monkeypatch):
        self.bin = tmp_path / "bin"
        self.bin.mkdir()
        self.calls = tmp_path / "calls"
        self.calls.touch()
        self.etc = tmp_path / "etc"
        self.ltsp = LtspOptions(base_dir="/srv/ltsp", tftp_dir=str(tmp_path / "tftp"))
        (tmp_path / "tftp/ltsp").mkdir(parents=True)
        self.has_links(LINKS)
        for name in ("exportfs", "dnsmasq", "systemctl"):
            self.program(name, f'echo "{name} $*" >> {self.calls}')
        monkeypatch.setenv("PATH", f"{self.bin}:/usr/bin:/bin")

    def program(self, name, script):
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def has_links(self, links):
        self.program("ip", f"echo '{json.dumps(links)}'")

    def run(self, applet, *arguments, **keywords):
        out, err = io.StringIO(), io.StringIO()
        applet(*arguments, make_report(ConsoleOptions(), out, err, {}), **keywords)
        return out.getvalue() + err.getvalue()

    def started(self):
        said = self.calls.read_text().splitlines()
        self.calls.write_text("")
        return said


@pytest.fixture
def server(tmp_path, monkeypatch):
    return Server(tmp_path, monkeypatch)


def test_exports_are_reloaded_only_if_they_changed(server):
    path = server.etc / "exports.d/ltsp-nfs.exports"
    assert "wrote" in server.run(nfs, NfsOptions(), server.ltsp, path=str(path))
    assert path.read_text().splitlines()[-2].startswith("/srv/ltsp/images 192.168.1.0/24(ro,")
    assert server.started() == ["exportfs -ra"]
    assert "unchanged" in server.run(nfs, NfsOptions(), server.ltsp, path=str(path))
    assert server.started() == []
    server.run(nfs, NfsOptions(nfs_tftp=False), server.ltsp, path=str(path))
    assert server.started() == ["exportfs -ra"]


def test_a_dry_run_shows_the_difference_and_writes_nothing(server):
    path = server.etc / "exports.d/ltsp-nfs.exports"
    said = server.run(nfs, NfsOptions(dry_run=True), server.ltsp, path=str(path))
    assert "/srv/ltsp/images 192.168.1.0/24(" in said
    assert not path.exists()
    server.run(nfs, NfsOptions(), server.ltsp, path=str(path))
    before = path.read_text()
    said = server.run(nfs, NfsOptions(nfs_home=True, dry_run=True), server.ltsp, path=str(path))
    assert [line for line in said.splitlines() if line.startswith("+/")] == [
        "+/home 192.168.1.0/24(rw,root_squash,no_subtree_check,insecure)"
    ]
    assert path.read_text() == before
    assert server.started() == ["exportfs -ra"]


def test_without_overwrite_a_file_of_the_administrator_is_kept(server):
    path = server.etc / "exports.d/ltsp-nfs.exports"
    path.parent.mkdir(parents=True)
    path.write_text("mine\n")
    ltsp = LtspOptions(base_dir="/srv/ltsp", tftp_dir=server.ltsp.tftp_dir, overwrite=False)
    assert "kept" in server.run(nfs, NfsOptions(), ltsp, path=str(path))
    assert path.read_text() == "mine\n"
    assert server.started() == []


def test_menus_that_mount_the_base_directory_are_named(server, tmp_path):
    (tmp_path / "tftp/ltsp/old.ipxe").write_text("kernel vmlinuz root=/dev/nfs nfsroot=1.2.3.4:/srv/ltsp\n")
    said = server.run(nfs, NfsOptions(), server.ltsp, path=str(server.etc / "x"))
    assert "old.ipxe mount /srv/ltsp, which is not exported: delete that menu, or run ltsp nfs --export=base" in said
    said = server.run(nfs, NfsOptions(export="base"), server.ltsp, path=str(server.etc / "x"))
    assert "can read every chroot" in said
    assert "old.ipxe" not in said


def test_a_server_without_network_exports_nothing(server):
    server.has_links([])
    with pytest.raises(LtspError, match="no IPv4 network"):
        server.run(nfs, NfsOptions(), server.ltsp, path=str(server.etc / "x"))
    assert not (server.etc / "x").exists()


@pytest.mark.parametrize("running", [True, False])
def test_dnsmasq_is_restarted_if_systemd_runs(server, monkeypatch, running):
    monkeypatch.setattr(systemd, "is_running", lambda: running)
    path = server.etc / "dnsmasq.d/ltsp-dnsmasq.conf"
    server.run(dnsmasq, DnsmasqOptions(), server.ltsp, path=str(path))
    assert server.started() == (["systemctl restart dnsmasq"] if running else [])
    assert "dhcp-range=192.168.1.0,proxy,255.255.255.0" in path.read_text().splitlines()
    assert "unchanged" in server.run(dnsmasq, DnsmasqOptions(), server.ltsp, path=str(path))
    assert server.started() == []


def test_dns_servers_are_addresses(server):
    with pytest.raises(UsageError, match="'router' is not an IPv4 address; '::1'"):
        server.run(dnsmasq, DnsmasqOptions(dns_server=("router", "::1")), server.ltsp, path=str(server.etc / "x"))


def test_loopback_resolvers_are_not_given_to_clients():
    named = ["127.0.0.53", "9.9.9.9", "fe80::1", "9.9.9.9", ""]
    text = "# nameserver 1.1.1.1\noptions rotate\n" + "".join(f"nameserver {address}\n" for address in named)
    assert parse_nameservers(text) == ("9.9.9.9",)


def test_settings_for_another_dhcp_server_contain_this_servers_address(server):
    assert "next-server 192.168.1.5;" in server.run(dhcp_snippet, "isc", DhcpSnippetOptions())
    assert "next-server 10.1.1.1;" in server.run(dhcp_snippet, "isc", DhcpSnippetOptions(server="10.1.1.1"))


def test_an_unknown_dhcp_server_and_an_ambiguous_address_are_refused(server):
    with pytest.raises(UsageError, match="choose one of dnsmasq, isc, kea"):
        server.run(dhcp_snippet, "fritzbox", DhcpSnippetOptions())
    with pytest.raises(UsageError, match="is not an IPv4 address"):
        server.run(dhcp_snippet, "isc", DhcpSnippetOptions(server="x"))
    server.has_links([*LINKS, {"ifname": "b", "addr_info": [{"local": "10.0.0.1", "prefixlen": 8, "scope": "global"}]}])
    with pytest.raises(LtspError, match=r"192\.168\.1\.5, 10\.0\.0\.1: give it with --server"):
        server.run(dhcp_snippet, "isc", DhcpSnippetOptions())


def test_http_becomes_a_service_that_is_restarted_when_its_unit_changed(server, monkeypatch):
    monkeypatch.setattr(systemd, "is_running", lambda: True)
    path = str(server.etc / "ltsp-http.service")
    again = ["systemctl daemon-reload", "systemctl enable ltsp-http.service"]

    assert f"would write {path}" in server.run(http, HttpOptions(service=True, dry_run=True), server.ltsp, path=path)
    assert server.started() == []
    assert f"wrote {path}" in server.run(http, HttpOptions(service=True), server.ltsp, path=path)
    assert server.started() == [*again, "systemctl restart ltsp-http.service"]
    assert f"unchanged {path}" in server.run(http, HttpOptions(service=True), server.ltsp, path=path)
    assert server.started() == [*again, "systemctl start ltsp-http.service"]
    server.run(http, HttpOptions(service=True, http_port=8080), server.ltsp, path=path)
    assert server.started() == [*again, "systemctl restart ltsp-http.service"]
    assert '"--http-port=8080"' in (server.etc / "ltsp-http.service").read_text()


def test_a_dry_run_of_the_http_server_itself_is_refused(server):
    with pytest.raises(UsageError, match="--dry-run requires --service"):
        server.run(http, HttpOptions(dry_run=True), server.ltsp)
