"""The services that clients do not run: the list, words of ltsp.conf, and units of images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from corpus.dict_tree import make_tree
from ltsp.initrd.site import services
from ltsp.initrd.site.services import (
    ServicePolicy,
    find_service,
    has_unit,
    list_units_by_policy,
    units_to_disable,
    units_to_keep,
)

LIST = Path(services.__file__).parent.with_name("lists") / "client.services"
MASKED = set(list_units_by_policy(ServicePolicy.MASKED))


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
def test_services_for_users_run(unit):
    assert unit not in MASKED
    assert unit not in list_units_by_policy(ServicePolicy.DISABLED)


def test_each_unit_is_on_one_row_and_each_row_has_a_reason_and_a_source():
    twice = [unit for unit, times in Counter(u for s in services.read_services() for u in s.units).items() if times > 1]
    assert twice == []
    assert all(service.reason and service.units for service in services.read_services())
    text = LIST.read_text()
    rows = [row for row in text.split("\n") if row and not row.startswith((" ", "#", "="))]
    assert len(rows) == len(services.read_services())
    blocks = text.replace("\n ", "  ").split("\n")
    assert all("#" in block for block in blocks if block and not block.startswith(("#", "=")))


def test_a_socket_goes_with_what_it_starts():
    """One whose service is masked would be a failed unit on each client."""
    for service in services.read_services():
        sockets = [unit for unit in service.units if unit.endswith(".socket")]
        assert not sockets or any(unit.endswith(".service") for unit in service.units), service


@pytest.mark.parametrize("word", ["mysql", "mariadb", "mysqld.service", "mariadb.socket"])
def test_one_name_of_a_service_keeps_all_of_its_units(word):
    units = set(units_to_keep([word]))
    assert {"mysql.service", "mariadb.service", "mysql@.service", "mariadb.socket", "mariadb@.service"} <= units
    assert "postgresql.service" not in units


def test_services_whose_names_begin_alike_are_kept_one_by_one():
    assert units_to_keep(["apt-daily"]) == ("apt-daily.service", "apt-daily.timer")
    assert set(units_to_keep(["docker", "postgresql"])) >= {"docker.socket", "postgresql@.service"}
    assert "containerd.service" not in units_to_keep(["docker"])


def test_a_name_that_is_on_no_row_means_the_units_of_that_name():
    assert find_service("foo") is None
    assert units_to_keep(["foo"]) == ("foo.service", "foo.timer", "foo.socket", "foo.path", "foo@.service")
    assert units_to_keep(["foo.mount"]) == ("foo.mount",)
    assert units_to_disable(["foo", "foo.timer"]) == ("foo.service", "foo.timer")


@pytest.mark.parametrize("word", ["ssh", "sshd.service"])
def test_a_service_is_masked_with_the_socket_that_starts_it(word):
    assert {"ssh.service", "ssh.socket", "sshd.service", "sshd.socket"} <= set(units_to_disable([word]))


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
def test_a_unit_is_in_an_image_if_systemd_would_find_it(entries, there):
    assert has_unit(make_tree(entries), "x.service") is there
