"""Which sections a server reads, in which order, and what it refuses in them."""

from __future__ import annotations

import pytest

from ltsp.errors import ConfError
from ltsp.host.identity import Identity
from ltsp.settings.conf import parse_conf
from ltsp.settings.conf_values import evaluate_settings

SERVER = Identity(("52:54:00:aa:bb:cc",), ("192.168.67.1", "fd00::1"), "server01")


def values(text, applet="image", identity=SERVER):
    return {
        key: setting.value
        for key, setting in evaluate_settings(parse_conf(text.encode(), "conf"), identity, applet).items()
    }


def fault(text, **how):
    with pytest.raises(ConfError) as caught:
        values(text, **how)
    return caught.value.message


def test_sections_are_read_in_a_fixed_order_regardless_of_the_file():
    names = ["image/server*", "image/192.*", "image/52:*", "image/", "server01", "192.*", "52:54:*", "server", "common"]
    text = "".join(f"[{name}]\nLAST={name}\nN_{number}=1\n" for number, name in enumerate(names))
    for number, name in enumerate(names):
        assert values(text)["LAST"] == name
        text = text.replace(f"[{name}]\nLAST={name}\nN_{number}=1\n", "")
    assert values("LAST=unnamed\n" + text)["LAST"] == "unnamed"


def test_equal_sections_are_read_in_the_order_of_the_file():
    assert values("[server]\nA=1\nA=2\n[server]\nA=3")["A"] == "3"


@pytest.mark.parametrize(
    "name", ["clients", "pc01", "52:54:00:*:00", "10.*", "kernel/", "image/pc*", "nothing", "SERVER0?|image"]
)
def test_sections_for_others_are_not_read(name):
    expected = {"A": "1"} if name == "SERVER0?|image" else {}
    assert values(f"[{name}]\nA=1") == expected


@pytest.mark.parametrize("name", ["server", "clients", "common"])
def test_a_machine_named_like_a_role_does_not_match_it(name):
    assert values("[clients]\nA=1", identity=Identity((), (), name)) == {}


@pytest.mark.parametrize("name", ["*/server01", "image/*01", "im*/", "pc01|image/server01", "IMAGE/SERVER01"])
def test_applet_and_host_may_be_globs(name):
    assert values(f"[{name}]\nA=1") == {"A": "1"}


def test_an_address_section_may_set_the_hostname_that_is_looked_for():
    text = "[52:*]\nHOSTNAME=other\n[other]\nA=1\n[server01]\nA=2\n[image/other]\nB=1"
    assert values(text) == {"HOSTNAME": "other", "A": "1", "B": "1"}
    assert values(text.replace("other\n[other", "ltsp%{IP}\n[other"))["A"] == "2"


def test_variables_refer_to_keys_of_earlier_sections():
    text = "[server]\nTFTP_DIR=${BASE}/tftp\n[common]\nBASE=/data\nTWICE=$BASE$BASE"
    assert values(text) == {"BASE": "/data", "TWICE": "/data/data", "TFTP_DIR": "/data/tftp"}


def test_an_unset_variable_is_a_fault_of_its_value_only():
    settings = evaluate_settings(parse_conf(b"A=$LTSP_ROOT/x\nB=$A\nC='$LTSP_ROOT'", "conf"), SERVER, "image")
    assert settings["A"].fault == "$LTSP_ROOT is not set before this line; use single quotes for a literal $"
    assert settings["B"].fault == settings["A"].fault
    assert (settings["C"].value, settings["C"].fault, settings["C"].where) == ("$LTSP_ROOT", "", "conf:3")


def test_include_inserts_a_section():
    text = "[server]\nA=1\nINCLUDE=one\nINCLUDE='two b|c'\nD=$C\n[one]\nA=2\nB=1\n[two]\nINCLUDE=one\nC=1\n[b|c]\nE=1"
    assert values(text) == {"A": "2", "B": "1", "C": "1", "D": "1", "E": "1"}


def test_every_section_of_a_name_is_included():
    assert values("INCLUDE=one\n[one]\nA=1\n[one]\nB=1") == {"A": "1", "B": "1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("INCLUDE=one\n[one]\nINCLUDE=two\n[two]\nINCLUDE=one", "conf:5: INCLUDE: [one] includes itself"),
        ("[server]\nINCLUDE=server", "conf:2: INCLUDE: [server] includes itself"),
        ("\nINCLUDE=none", "conf:2: INCLUDE: no section [none]"),
        (
            "INCLUDE=$X",
            "conf:1: INCLUDE: $X is not set before this line; use single quotes for a literal $",
        ),
        ("[server]\nA=$(id)", "conf:2: command substitution is not supported"),
        ("[server]\nrm x\nA=`id`\n", "conf:2: not an assignment KEY=value"),
        (
            "[common]\nA=`id`\n[image/]\nB=c d",
            "conf:2: command substitution is not supported; conf:4: a value with spaces needs quotes",
        ),
    ],
)
def test_settings_that_a_server_cannot_evaluate_are_refused_with_their_line(text, message):
    assert fault(text) == message


def test_code_in_sections_for_others_is_ignored_by_the_server():
    text = "[clients]\nrm x\nA=$(id)\n[set_root_hash]\nsed 's|a|b|' -i /etc/shadow\n[pc*]\nif true; then\nfi"
    assert values(text) == {}


def test_nested_includes_are_limited():
    tower = "INCLUDE=s0\n" + "".join(f"[s{n}]\nINCLUDE=s{n + 1}\nINCLUDE=s{n + 1}\n" for n in range(40)) + "[s40]\n"
    assert "more than 10000 sections are included" in fault(tower)
    chain = "INCLUDE=s0\n" + "".join(f"[s{n}]\nINCLUDE=s{n + 1}\n" for n in range(2000)) + "[s2000]\n"
    assert "sections are nested too deeply" in fault(chain)


def test_a_value_that_doubles_with_each_line_is_limited():
    text = "A=0123456789\n" + "A=$A$A\n" * 60
    fault = evaluate_settings(parse_conf(text.encode(), "conf"), SERVER, "image")["A"].fault
    assert fault == "the value is too long: the limit is 1048576 characters"
