"""Which services clients do not run: the list, what the words of ltsp.conf mean by it, and what an image has of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from corpus.planted import planted
from ltsp.initrd.site import services
from ltsp.initrd.site.services import Fate, default_units, is_in, kept, service_of, switched_off

LIST = Path(services.__file__).with_name("lists") / "client.services"
MASKED = set(default_units(Fate.MASKED))


@pytest.mark.parametrize(
    "unit",
    [
        *("apache2.service", "httpd.service", "nginx.service", "mysql.service", "mysqld.service", "mariadb.service"),
        *("postgresql.service", "postgresql@.service", "mysql@.service", "docker.service", "docker.socket"),
        *("libvirtd.service", "libvirtd.socket", "virtqemud.socket", "virtnetworkd-admin.socket", "containerd.service"),
        *("slapd.service", "named.service", "squid.service", "smbd.service", "redis-server.service", "postfix.service"),
        *("dnsmasq.service", "isc-dhcp-server.service", "nfs-server.service", "tftpd-hpa.service"),
    ],
)
def test_popular_servers_are_masked(unit):
    assert unit in MASKED


@pytest.mark.parametrize(
    "unit",
    [
        *("ssh.service", "ssh.socket", "cups.service", "cups-browsed.service", "snapd.service", "winbind.service"),
        *("NetworkManager.service", "systemd-networkd.service", "gdm.service", "sssd.service", "cron.service"),
        *("avahi-daemon.service", "polkit.service", "veyon.service", "rpcbind.service", "docker-desktop.service"),
    ],
)
def test_what_people_at_a_client_want_runs(unit):
    assert unit not in MASKED
    assert unit not in default_units(Fate.DISABLED)


def test_each_unit_is_on_one_row_and_each_row_has_a_reason_and_a_source():
    twice = [unit for unit, times in Counter(u for s in services.services() for u in s.units).items() if times > 1]
    assert twice == []
    assert all(service.reason and service.units for service in services.services())
    text = LIST.read_text()
    rows = [row for row in text.split("\n") if row and not row.startswith((" ", "#", "="))]
    assert len(rows) == len(services.services())
    blocks = text.replace("\n ", "  ").split("\n")
    assert all("#" in block for block in blocks if block and not block.startswith(("#", "=")))


def test_a_socket_goes_with_what_it_starts():
    """One whose service is masked would be a failed unit on each client."""
    for service in services.services():
        sockets = [unit for unit in service.units if unit.endswith(".socket")]
        assert not sockets or any(unit.endswith(".service") for unit in service.units), service


@pytest.mark.parametrize("word", ["mysql", "mariadb", "mysqld.service", "mariadb.socket"])
def test_one_name_of_a_service_keeps_all_that_belongs_to_it(word):
    units = set(kept([word]))
    assert {"mysql.service", "mariadb.service", "mysql@.service", "mariadb.socket", "mariadb@.service"} <= units
    assert "postgresql.service" not in units


def test_services_whose_names_begin_alike_are_kept_one_by_one():
    assert kept(["apt-daily"]) == ("apt-daily.service", "apt-daily.timer")
    assert set(kept(["docker", "postgresql"])) >= {"docker.socket", "postgresql@.service"}
    assert "containerd.service" not in kept(["docker"])


def test_a_name_that_is_on_no_row_means_the_units_of_that_name():
    assert service_of("foo") is None
    assert kept(["foo"]) == ("foo.service", "foo.timer", "foo.socket", "foo.path", "foo@.service")
    assert kept(["foo.mount"]) == ("foo.mount",)
    assert switched_off(["foo", "foo.timer"]) == ("foo.service", "foo.timer")


@pytest.mark.parametrize("word", ["ssh", "sshd.service"])
def test_a_service_is_taken_away_with_the_socket_that_starts_it(word):
    assert {"ssh.service", "ssh.socket", "sshd.service", "sshd.socket"} <= set(switched_off([word]))


@pytest.mark.parametrize(
    ("entries", "there"),
    [
        ({}, False),
        ({"usr/lib/systemd/system/x.service": ""}, True),
        ({"lib": "-> usr/lib", "usr/lib/systemd/system/x.service": "-> y.service"}, True),
        ({"usr/local/lib/systemd/system/x.service": ""}, True),
        ({"etc/systemd/system/x.service": ""}, True),
        ({"usr/lib/systemd/system/x.service": "", "etc/systemd/system/x.service": "-> /dev/null"}, False),
        ({"etc/init.d/x": "#!/bin/sh\n"}, True),
        ({"usr/lib/systemd/system/x@.service": ""}, False),
        ({"usr/lib/systemd/user/x.service": ""}, False),
    ],
)
def test_a_unit_is_in_an_image_where_systemd_would_find_it(entries, there):
    assert is_in(planted(entries), "x.service") is there
