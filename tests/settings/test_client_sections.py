"""Layers of settings for clients from ltsp.conf."""

from __future__ import annotations

import pytest

from ltsp.settings.client_sections import ignored_key_warnings, read_client_settings
from ltsp.settings.conf import parse_conf


def read(text):
    return read_client_settings(parse_conf(text.encode(), "ltsp.conf"))


def plain(layer):
    return {key: setting.value for key, setting in layer.settings.items()}


GOLDEN = """\
TIMEZONE=Europe/Athens
[server]
DNS=1
[common]
SEARCH_DOMAIN=example.org
[clients]
SEARCH_DOMAIN=lab.example.org
INCLUDE=nfs
[52:54:00:12:34:56]
HOSTNAME=pc01
INCLUDE=crt
[B8:27:eb:*|dc:a6:32:*]
HOSTNAME="pi%{MAC}"
[192.168.67.*]
AUTOLOGIN=guest
[PC0*]
HOSTS_A="10.0.0.1 $SEARCH_DOMAIN"
[crt]
X_MODES=800x600
[nfs]
FSTAB_HOME="server:/home /home nfs defaults 0 0"
[image/]
FSTAB_IMAGE=none
[init/lab*]
LOCAL_SWAP=0
[init/]
IMAGE_TO_RAM=1
"""


def test_the_layers_of_a_file():
    settings = read(GOLDEN)
    assert plain(settings.common) == {
        "TIMEZONE": "Europe/Athens",
        "SEARCH_DOMAIN": "lab.example.org",
        "FSTAB_HOME": "server:/home /home nfs defaults 0 0",
        "IMAGE_TO_RAM": "1",
    }
    assert [(layer.title, layer.where, layer.match, plain(layer)) for layer in settings.sections] == [
        ("[52:54:00:12:34:56]", "ltsp.conf:9", ("52:54:00:12:34:56",), {"HOSTNAME": "pc01", "X_MODES": "800x600"}),
        ("[B8:27:eb:*|dc:a6:32:*]", "ltsp.conf:12", ("b8:27:eb:*", "dc:a6:32:*"), {"HOSTNAME": "pi%{MAC}"}),
        ("[192.168.67.*]", "ltsp.conf:14", ("192.168.67.*",), {"AUTOLOGIN": "guest"}),
        ("[PC0*]", "ltsp.conf:16", ("pc0*",), {"HOSTS_A": "10.0.0.1 lab.example.org"}),
        ("[init/lab*]", "ltsp.conf:24", ("lab*",), {"LOCAL_SWAP": "0"}),
    ]
    assert (settings.warnings, settings.faults) == ((), ())


def test_a_section_with_an_invalid_address_causes_a_warning_with_the_right_form():
    settings = read("[clients]\n\n[52-54-00-12-34-56]\nHOSTNAME=pc01\n")
    assert settings.sections == ()
    assert settings.warnings == (
        "ltsp.conf:3: [52-54-00-12-34-56] matches no client: write the MAC address as [52:54:00:12:34:56]",
    )


def test_valid_patterns_apply_even_next_to_invalid_ones():
    settings = read("[52:54:00|pc01]\nHOSTNAME=a\n")
    assert settings.sections[0].match == ("pc01",)
    assert "ltsp.conf:1" in settings.warnings[0]


def test_commands_for_the_client_keep_variables_of_its_shell():
    settings = read("[clients]\nX=1\nPOST_INIT_A=\"echo $HOME ${X} $IP_ADDRESS\"\nPRE_INIT_B='a $b `c`'\n")
    assert plain(settings.common)["POST_INIT_A"] == "echo ${HOME} 1 ${IP_ADDRESS}"
    assert plain(settings.common)["PRE_INIT_B"] == "a $b `c`"
    assert not any(setting.fault for setting in settings.common.settings.values())


def test_the_server_is_filled_in_by_the_client_unless_set():
    assert plain(read("[clients]\nCUPS_SERVER=$SERVER\n").common)["CUPS_SERVER"] == "%{SERVER}"
    assert plain(read("[clients]\nSERVER=10.0.0.1\nCUPS_SERVER=$SERVER\n").common)["CUPS_SERVER"] == "10.0.0.1"


def test_an_unset_variable_is_a_fault_of_the_value():
    setting = read("[clients]\nHOSTS_A=$NOWHERE\n").common.settings["HOSTS_A"]
    assert "$NOWHERE is not set" in setting.fault


CODE = [
    "if false; then HOSTNAME=evil; fi",
    "if false; then\nHOSTNAME=evil\nfi",
    "[ -e /tmp/x ] && HOSTNAME=evil",
    "[[ -e /tmp/x ]] || HOSTNAME=evil",
    "test -e /tmp/x && HOSTNAME=evil",
    "HOSTNAME=evil && reboot",
    "HOSTNAME=evil & A=1",
    "HOSTNAME=evil | cat",
    "HOSTNAME=evil > /tmp/x",
    "HOSTNAME=evil reboot",
    "HOSTNAME=good; reboot",
    "reboot; HOSTNAME=evil",
    "f() { HOSTNAME=evil; }",
    "f() {\nHOSTNAME=evil\n}",
    "function f { HOSTNAME=evil; }",
    "{ HOSTNAME=evil; }",
    "(HOSTNAME=evil)",
    "! HOSTNAME=evil",
    "while :; do HOSTNAME=evil; done",
    "for HOSTNAME in evil; do :; done",
    "case $X in a)\nHOSTNAME=evil;; esac",
    "cat <<EOF\nHOSTNAME=evil\nEOF",
    "cat <<EOF\nit's\nHOSTNAME=evil\nEOF",
    "export HOSTNAME=evil",
    "readonly HOSTNAME=evil",
    "eval HOSTNAME=evil",
    ". /etc/default/names",
    "source /etc/default/names",
    "unset HOSTNAME",
    "`echo HOSTNAME=evil`",
    "$(echo HOSTNAME=evil)",
    "$X",
    "HOSTNAME =evil",
    "A+=b",
    "A[0]=b",
    ":",
]
SECTIONS = [
    *("", "[common]", "[clients]", "[pc01]", "[pc*|lab?]", "[52:54:00:12:34:56]", "[192.168.67.*]", "[set_root_hash]"),
    *("[init/]", "[init/pc01]", "[initrd-bottom/]", "[login/]", "[display/pc01]", "[*/pc01]", "[image/|pc01]"),
]


@pytest.mark.parametrize("code", CODE)
def test_code_among_the_settings_of_clients_is_refused(code):
    """No client would run it, and assignments in it would apply to all."""
    settings = read(f"[clients]\n{code}\nA=1\n")
    assert settings.faults, code
    assert all(fault.startswith("ltsp.conf:2: ") for fault in settings.faults)
    assert "POST_INIT_x='COMMANDS'" in settings.faults[-1] or "HOSTNAME: " in settings.faults[-1]


@pytest.mark.parametrize(
    "value", ["$(hostname)", "`hostname`", '"$(hostname)"', '"a `b`"', "$((1+1))", "${A:-b}", "$1", "(a b)"]
)
@pytest.mark.parametrize("key", ["HOSTNAME", "MINE"])
def test_values_that_need_a_shell_are_refused(key, value):
    (fault,) = read(f"[clients]\n{key}={value}\n").faults
    assert fault.startswith(f"ltsp.conf:2: {key}: ")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("code", ["reboot", "A=$(date)"])
def test_code_is_refused_in_every_section_that_may_be_a_client_s(section, code):
    settings = read(f"A=1\n{section}\n{code}\n")
    assert [fault.partition(": ")[0] for fault in settings.faults] == ["ltsp.conf:3"]


@pytest.mark.parametrize("section", ["[server]", "[image/]", "[ipxe/server]"])
def test_code_in_server_sections_is_left_to_the_server(section):
    assert read(f"{section}\nreboot\n").faults == ()


def test_the_first_command_of_a_section_is_named_and_each_value():
    text = "[clients]\nif a\nA=$(b)\nthen\nB=`c`\nfi\n[pc01]\nfi\n"
    assert [fault.partition(": ")[0] for fault in read(text).faults] == [
        *("ltsp.conf:2", "ltsp.conf:3", "ltsp.conf:5", "ltsp.conf:8"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        "'if a; then b; fi'",
        "'$(date) `date` | cat && (reboot); . /etc/x'",
        "'a\nb\n'",
        '"a; b"',
        "'cat <<E\nit\nE'",
        "reboot",
    ],
)
@pytest.mark.parametrize("key", ["POST_INIT_X", "PRE_INIT_X"])
def test_commands_in_quotes_are_values(key, value):
    settings = read(f"[clients]\n{key}={value}\n")
    assert (settings.faults, settings.common.settings[key].fault) == ((), "")


def test_a_section_instead_of_a_command_is_a_fault():
    """In old releases, each section was a shell function."""
    (fault,) = read("[clients]\nPOST_INIT_A=section_hash\n").faults
    assert fault.startswith("ltsp.conf:2: POST_INIT_A: a section is not a command")


def test_code_instead_of_a_value_is_a_fault_of_the_value():
    """Usually it is a password hash, in which a shell expands `$6` within double quotes."""
    settings = read('[pc1]\nPASSWORDS_A="alice/$6$salt$hash"\nHOSTNAME=$(hostname)\nMINE=$(date)\n')
    (section,) = settings.sections
    assert {key: setting.fault for key, setting in section.settings.items()} == {
        "PASSWORDS_A": "a literal $ needs a backslash or single quotes",
        "HOSTNAME": "command substitution is not supported",
        "MINE": "command substitution is not supported",
    }


def test_an_include_of_a_missing_section_or_a_loop_is_a_fault():
    assert read("[clients]\nINCLUDE=no\n").faults == ("ltsp.conf:2: INCLUDE: no section [no]",)
    assert read("[pc01]\nINCLUDE=a\n[a]\nINCLUDE=a\n").faults == ("ltsp.conf:4: INCLUDE: [a] includes itself",)


def test_exponential_includes_are_limited():
    doubling = "".join(f"[s{n}]\nINCLUDE='s{n + 1} s{n + 1}'\n" for n in range(40))
    settings = read(f"[clients]\nINCLUDE=s0\n{doubling}[s40]\nA=1\n")
    assert any("are included" in fault for fault in settings.faults)


def test_client_keys_without_effect_cause_a_warning():
    settings = read("[clients]\nX_MODES=800x600\nFSTAB_A=x\n[pc01]\nX_MODES=640x480\n")
    assert ignored_key_warnings((settings.common, *settings.sections)) == (
        "ltsp.conf:2: X_MODES has no effect on clients",
        "ltsp.conf:5: X_MODES has no effect on clients",
    )


def test_an_include_of_an_unset_variable_is_a_fault():
    assert "INCLUDE: $WHAT is not set" in read("[pc1]\nINCLUDE=$WHAT\n").faults[0]


def test_too_deeply_nested_sections_are_a_fault():
    chain = "".join(f"[s{n}]\nINCLUDE=s{n + 1}\n" for n in range(200))
    assert any("nested too deeply" in fault for fault in read(f"[clients]\nINCLUDE=s0\n{chain}[s200]\nA=1\n").faults)


def test_values_that_double_each_other_are_limited():
    doubling = "".join(f"A{n + 1}=$A{n}$A{n}\n" for n in range(25))
    settings = read(f"[clients]\nA0=0123456789\n{doubling}")
    assert settings.common.settings["A25"].fault == "the value is too long: the limit is 1048576 characters"
    assert all(len(setting.value) <= 1 << 20 for setting in settings.common.settings.values())


def test_an_included_address_section_still_matches_clients():
    settings = read("[pc1]\nINCLUDE=52:54:00:12:34:56\n[52:54:00:12:34:56]\nHOSTNAME=a\n")
    assert [layer.title for layer in settings.sections] == ["[pc1]", "[52:54:00:12:34:56]"]


@pytest.mark.parametrize("name", ["192.168.67.0/24", "192.168.67.0/255.255.255.0", "pc01|10.0.0.0/8"])
def test_a_network_as_a_section_causes_a_warning(name):
    settings = read(f"[clients]\n[{name}]\nHOSTNAME=a\n")
    assert settings.warnings == (f"ltsp.conf:2: [{name}] matches no client: write a network as [192.168.67.*]",)
