"""Warnings for keys that are unknown, or have no effect in their section."""

from __future__ import annotations

import pytest

from ltsp.host.identity import Identity
from ltsp.settings.conf_keys import Side, side_of, warnings
from ltsp.settings.conf_text import parse_conf

SERVER = Identity(("52:54:00:aa:bb:cc",), (), "server01")


def lines(text):
    return [line.removeprefix("conf:") for line in warnings(parse_conf(text.encode(), "conf"), SERVER)]


@pytest.mark.parametrize(
    ("key", "side"),
    [
        ("BACKUP", Side.SERVER),
        ("COMPRESSION", Side.SERVER),
        ("IPXE_X86_32_IMG", Side.SERVER),
        ("PRE_IMAGE_X", Side.SERVER),
        ("POST_INIT_X", Side.CLIENTS),
        ("POST_INITRD_BOTTOM_X", Side.BOTH),
        ("PRE_SERVICE_X", Side.BOTH),
        ("FSTAB_NFS", Side.CLIENTS),
        ("BASE_DIR", Side.BOTH),
        ("INCLUDE", Side.BOTH),
        ("NAME", Side.NOBODY),
        ("JSON", Side.NOBODY),
        ("FSTAB", Side.NOBODY),
    ],
)
def test_keys_have_readers(key, side):
    assert side_of(key) == side


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[clients]\nAUTOLGIN=x", "2: unknown key AUTOLGIN; did you mean AUTOLOGIN?"),
        ("[server]\ncompression=zstd", "2: unknown key compression; did you mean COMPRESSION?"),
        ("PRE_IMGE_CLEAN=x", "1: unknown key PRE_IMGE_CLEAN; did you mean PRE_IMAGE_CLEAN?"),
        ("QWERTZ=x", "1: unknown key QWERTZ"),
        ("A_B=x", "1: unknown key A_B"),
        ("[clients]\nBACKUP=0", "2: BACKUP has no effect in [clients], which is not for the server"),
        ("[server]\nAUTOLOGIN=x", "2: AUTOLOGIN has no effect in [server], which is not for clients"),
        ("[image/]\nAUTOLOGIN=x", "2: AUTOLOGIN has no effect in [image/], which is not for clients"),
        ("[10.0.*]\nBACKUP=0", "2: BACKUP has no effect in [10.0.*], which is not for the server"),
        ("[pc01]\nBACKUP=0", "2: BACKUP has no effect in [pc01], which is not for the server"),
        ("[clients]\nINCLUDE=a\n[a]\nBACKUP=0", "4: BACKUP has no effect in [a], which is not for the server"),
        ("[server]\nINCLUDE=a\n[a]\nAUTOLOGIN=x", "4: AUTOLOGIN has no effect in [a], which is not for clients"),
    ],
)
def test_a_key_without_effect_causes_a_warning(text, line):
    assert lines(text) == [line]


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
    assert lines(text) == []
