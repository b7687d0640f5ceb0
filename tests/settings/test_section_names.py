"""Sections whose names resemble a role or an applet, but match computers."""

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
        ("\n[client]\nA=x", "2: [client] matches a computer named client; did you mean [clients]?"),
        ("[sever]", "1: [sever] matches a computer named sever; did you mean [server]?"),
        ("[comon]", "1: [comon] matches a computer named comon; did you mean [common]?"),
        ("[Clients]", "1: [Clients] matches a computer named Clients; did you mean [clients]?"),
        ("[server|pc01]", "1: [server|pc01] matches a computer named server: write [server] as a section of its own"),
        ("[pc01|sever]", "1: [pc01|sever] matches a computer named sever; did you mean [server]?"),
        ("[imge/]", "1: [imge/] has no effect: no applet imge; did you mean [image/]?"),
        (
            "[init-bottom/pc*]",
            "1: [init-bottom/pc*] has no effect: no applet init-bottom; did you mean [initrd-bottom/pc*]?",
        ),
        ("[qwertz/]", "1: [qwertz/] has no effect: no applet qwertz"),
    ],
)
def test_a_name_similar_to_a_role_or_applet_causes_a_warning(text, line):
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
def test_other_names_cause_no_warning(text):
    assert lines(text) == []
