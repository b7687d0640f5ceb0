"""Layers of settings for clients, as ltsp.conf gives them."""

from __future__ import annotations

import pytest

from ltsp.settings.client_sections import client_settings, without_effect
from ltsp.settings.conf_text import parse


def read(text):
    return client_settings(parse(text.encode(), "ltsp.conf"))


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


def test_a_section_with_a_bad_address_is_warned_of_with_its_line_and_the_right_form():
    settings = read("[clients]\n\n[52-54-00-12-34-56]\nHOSTNAME=pc01\n")
    assert settings.sections == ()
    assert settings.warnings == (
        "ltsp.conf:3: [52-54-00-12-34-56] is no client's: a MAC address is written [52:54:00:12:34:56]",
    )


def test_of_several_patterns_the_good_ones_hold():
    settings = read("[52:54:00|pc01]\nHOSTNAME=a\n")
    assert settings.sections[0].match == ("pc01",)
    assert "ltsp.conf:1" in settings.warnings[0]


def test_commands_for_the_client_keep_what_only_its_shell_knows():
    settings = read("[clients]\nX=1\nPOST_INIT_A=\"echo $HOME ${X} $IP_ADDRESS\"\nPRE_INIT_B='a $b `c`'\n")
    assert plain(settings.common)["POST_INIT_A"] == "echo ${HOME} 1 ${IP_ADDRESS}"
    assert plain(settings.common)["PRE_INIT_B"] == "a $b `c`"
    assert not any(setting.fault for setting in settings.common.settings.values())


def test_the_server_is_what_the_client_takes_it_for_unless_it_is_set():
    assert plain(read("[clients]\nCUPS_SERVER=$SERVER\n").common)["CUPS_SERVER"] == "%{SERVER}"
    assert plain(read("[clients]\nSERVER=10.0.0.1\nCUPS_SERVER=$SERVER\n").common)["CUPS_SERVER"] == "10.0.0.1"


def test_a_variable_that_nobody_sets_is_a_fault_of_the_value():
    setting = read("[clients]\nHOSTS_A=$NOWHERE\n").common.settings["HOSTS_A"]
    assert "$NOWHERE is not set" in setting.fault


def test_commands_among_the_settings_are_warned_of():
    settings = read("[clients]\nPOST_INIT_A=section_hash\n[hash]\nsed -i s/a/b/ /etc/shadow\n")
    assert [warning.partition(": ")[0] for warning in settings.warnings] == ["ltsp.conf:2", "ltsp.conf:4"]


def test_code_in_the_place_of_a_value_is_a_fault_of_the_value():
    """Mostly it is the hash of a password, in which double quotes leave `$6` to the shell."""
    settings = read('[pc1]\nPASSWORDS_A="alice/$6$salt$hash"\nHOSTNAME=$(hostname)\nMINE=$(date)\n')
    (section,) = settings.sections
    assert {key: setting.fault for key, setting in section.settings.items()} == {
        "PASSWORDS_A": "a $ that means itself needs a backslash or single quotes",
        "HOSTNAME": "command substitution is not done here",
    }
    assert len(settings.warnings) == 1


def test_an_include_that_leads_nowhere_or_in_circles_is_a_fault():
    assert read("[clients]\nINCLUDE=no\n").faults == ("ltsp.conf:2: INCLUDE: there is no section [no]",)
    assert read("[pc01]\nINCLUDE=a\n[a]\nINCLUDE=a\n").faults == ("ltsp.conf:4: INCLUDE: [a] includes itself",)


def test_includes_without_end_are_bounded():
    doubling = "".join(f"[s{n}]\nINCLUDE='s{n + 1} s{n + 1}'\n" for n in range(40))
    settings = read(f"[clients]\nINCLUDE=s0\n{doubling}[s40]\nA=1\n")
    assert any("are included" in fault for fault in settings.faults)


def test_keys_that_no_client_acts_on_yet_are_warned_of():
    settings = read("[clients]\nX_MODES=800x600\nFSTAB_A=x\n[pc01]\nX_MODES=640x480\n")
    assert without_effect((settings.common, *settings.sections), ["FSTAB_*"]) == (
        "ltsp.conf:2: X_MODES has no effect on clients yet",
        "ltsp.conf:5: X_MODES has no effect on clients yet",
    )


def test_an_include_by_a_variable_that_nobody_sets_is_a_fault():
    assert "INCLUDE: $WHAT is not set" in read("[pc1]\nINCLUDE=$WHAT\n").faults[0]


def test_sections_nested_without_measure_are_a_fault():
    chain = "".join(f"[s{n}]\nINCLUDE=s{n + 1}\n" for n in range(200))
    assert any("nested too deeply" in fault for fault in read(f"[clients]\nINCLUDE=s0\n{chain}[s200]\nA=1\n").faults)


def test_values_that_double_each_other_are_bounded():
    doubling = "".join(f"A{n + 1}=$A{n}$A{n}\n" for n in range(25))
    settings = read(f"[clients]\nA0=0123456789\n{doubling}")
    assert settings.common.settings["A25"].fault == "the value is too long"
    assert all(len(setting.value) <= 1 << 20 for setting in settings.common.settings.values())


def test_a_section_that_is_included_by_its_address_stays_a_client_s():
    settings = read("[pc1]\nINCLUDE=52:54:00:12:34:56\n[52:54:00:12:34:56]\nHOSTNAME=a\n")
    assert [layer.title for layer in settings.sections] == ["[pc1]", "[52:54:00:12:34:56]"]


@pytest.mark.parametrize("name", ["192.168.67.0/24", "192.168.67.0/255.255.255.0", "pc01|10.0.0.0/8"])
def test_a_network_as_a_section_is_warned_of(name):
    settings = read(f"[clients]\n[{name}]\nHOSTNAME=a\n")
    assert settings.warnings == (f"ltsp.conf:2: [{name}] is no client's: a network is written [192.168.67.*]",)
