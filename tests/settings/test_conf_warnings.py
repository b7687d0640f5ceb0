"""Warnings about lines of ltsp.conf without effect: unknown or misplaced keys, and sections with a wrong name."""

from __future__ import annotations

import pytest

from ltsp.host.identity import Identity
from ltsp.settings.conf import parse_conf
from ltsp.settings.conf_warnings import key_warnings, section_warnings


def key_lines(text):
    return without_path(
        key_warnings(parse_conf(text.encode(), "conf"), Identity(("52:54:00:aa:bb:cc",), (), "server01"))
    )


def section_lines(text):
    return without_path(section_warnings(parse_conf(text.encode(), "conf"), Identity((), (), "serveur")))


def without_path(lines):
    return [line.removeprefix("conf:") for line in lines]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[clients]\nAUTOLGIN=x", "2: unknown key AUTOLGIN; did you mean AUTOLOGIN?"),
        ("[server]\ncompression=zstd", "2: unknown key compression; did you mean COMPRESSION?"),
        ("PRE_IMGE_CLEAN=x", "1: unknown key PRE_IMGE_CLEAN; did you mean PRE_IMAGE_CLEAN?"),
        ("QWERTZ=x", "1: unknown key QWERTZ"),
        ("A_B=x", "1: unknown key A_B"),
        ("[clients]\nBACKUP=0", "2: BACKUP has no effect in [clients]: only the server reads it; move it to [server]"),
        ("[server]\nAUTOLOGIN=x", "2: AUTOLOGIN has no effect in [server]: only clients read it; move it to [clients]"),
        ("[image/]\nAUTOLOGIN=x", "2: AUTOLOGIN has no effect in [image/]: only clients read it; move it to [clients]"),
        ("[10.0.*]\nBACKUP=0", "2: BACKUP has no effect in [10.0.*]: only the server reads it; move it to [server]"),
        ("[pc01]\nBACKUP=0", "2: BACKUP has no effect in [pc01]: only the server reads it; move it to [server]"),
        (
            "[clients]\nINCLUDE=a\n[a]\nBACKUP=0",
            "4: BACKUP has no effect in [a]: only the server reads it; move it to [server]",
        ),
        (
            "[server]\nINCLUDE=a\n[a]\nAUTOLOGIN=x",
            "4: AUTOLOGIN has no effect in [a]: only clients read it; move it to [clients]",
        ),
    ],
)
def test_a_key_without_effect_causes_a_warning(text, line):
    assert key_lines(text) == [line]


@pytest.mark.parametrize(
    "text",
    [
        "BACKUP=0\nAUTOLOGIN=x",
        "[common]\nBACKUP=0\nAUTOLOGIN=x",
        "[server]\nBACKUP=0\nNAT=1\nDEFAULT_IMAGE=x",
        "[clients]\nFSTAB_NFS=x\nHOSTNAME=y\nKERNEL_PARAMETERS=z",
        "[server01]\nBACKUP=0\nAUTOLOGIN=x",
        "[52:*]\nBACKUP=0",
        "[init/pc*]\nAUTOLOGIN=x",
        "[server]\nINCLUDE=a\n[a]\nINCLUDE=b\n[b]\nBACKUP=0",
        "[pc*]\nINCLUDE=crt\n[crt]\nX_HORIZSYNC=28.0-87.0",
        "[server]\nINCLUDE=10.*\n[10.*]\nBACKUP=0\nAUTOLOGIN=x",
        "MINE=/data\nBASE_DIR=$MINE/ltsp",
    ],
)
def test_a_key_with_effect_causes_no_warning(text):
    assert key_lines(text) == []


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
    assert section_lines(text) == [line]


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
    assert section_lines(text) == []
