"""Sections that are called nearly as a role or an applet, and would be taken for computers."""

from __future__ import annotations

import pytest

from ltsp.host.identity import Identity
from ltsp.settings.conf_text import parse_conf
from ltsp.settings.section_names import warnings

SERVER = Identity(("52:54:00:aa:bb:cc",), (), "serveur")


def lines(text):
    return [line.removeprefix("conf:") for line in warnings(parse_conf(text.encode(), "conf"), SERVER)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n[client]\nA=x", "2: [client] means a computer called client; did you mean [clients]?"),
        ("[sever]", "1: [sever] means a computer called sever; did you mean [server]?"),
        ("[comon]", "1: [comon] means a computer called comon; did you mean [common]?"),
        ("[Clients]", "1: [Clients] means a computer called Clients; did you mean [clients]?"),
        ("[server|pc01]", "1: [server|pc01] means a computer called server: [server] has a section of its own"),
        ("[pc01|sever]", "1: [pc01|sever] means a computer called sever; did you mean [server]?"),
        ("[imge/]", "1: [imge/] has no effect: there is no applet imge; did you mean [image/]?"),
        (
            "[init-bottom/pc*]",
            "1: [init-bottom/pc*] has no effect: there is no applet init-bottom; did you mean [initrd-bottom/pc*]?",
        ),
        ("[qwertz/]", "1: [qwertz/] has no effect: there is no applet qwertz"),
    ],
)
def test_a_name_that_was_meant_for_another_is_warned_of(text, line):
    assert lines(text) == [line]


@pytest.mark.parametrize(
    "text",
    [
        *("[server]\n[clients]\n[common]", "[server01]\n[client2]", "[client*]", "[pc01|teacher|simon]"),
        *("[image/]\n[init/pc*]\n[*/pc*]", "[52:54:00:*]", "[192.168.67.0/24]", "[serveur]"),
        "[clients]\nINCLUDE=client\n[client]\nA=x",
        "[clients]\nINCLUDE=sever\n[sever|other]\nA=x",
    ],
)
def test_other_names_are_not(text):
    assert lines(text) == []
