from __future__ import annotations

import os
import socket

import pytest

from ltsp.host import command, namespaces

pytestmark = pytest.mark.root


def namespace():
    return os.readlink("/proc/thread-self/ns/net")


def test_a_visited_network_has_a_loopback_where_every_port_is_free():
    with namespaces.enter_network_namespace():
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        with socket.create_server(("127.0.0.1", 80)) as server, socket.create_connection(("127.0.0.1", 80)):
            server.accept()[0].close()


def test_programs_of_the_visit_are_in_it_and_the_visitor_goes_home():
    before = namespace()
    with namespaces.enter_network_namespace():
        there = namespace()
        assert command.run(["readlink", "/proc/self/ns/net"]).stdout.decode().strip() == there != before
    assert namespace() == before


def test_the_visitor_goes_home_after_a_failure_too():
    before = namespace()
    with pytest.raises(RuntimeError), namespaces.enter_network_namespace():
        raise RuntimeError
    assert namespace() == before
