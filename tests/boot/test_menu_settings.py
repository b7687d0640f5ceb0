from __future__ import annotations

from ipaddress import ip_address

import pytest

from ltsp.boot.menu import DEFAULT_TIMEOUT, INITRDS, TRANSPORTS, ClientSection, MenuOptions
from ltsp.boot.menu_settings import entry_title, read_menu_settings, title_key
from ltsp.errors import ConfError
from ltsp.host.identity import Identity
from ltsp.settings.conf import parse_conf
from ltsp.settings.conf_keys import CONF_KEYS
from ltsp.settings.conf_values import evaluate_settings

LABELS = ("lab", "lab2", "r_dev")


def read(text):
    conf = parse_conf(text.encode(), "ltsp.conf")
    return read_menu_settings(conf, evaluate_settings(conf, Identity(), "ipxe"), LABELS)


def test_the_server_section_applies_to_all_clients():
    settings = read("[server]\nDEFAULT_IMAGE=lab2\nKERNEL_PARAMETERS='nomodeset quiet'\nMENU_TIMEOUT=0\n")
    assert settings.options == MenuOptions("lab2", "nomodeset quiet", 0)
    assert settings.sections == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[common]\nMENU_TIMEOUT=1\n[server]\nMENU_TIMEOUT=2\n", 2),
        ("[common]\nMENU_TIMEOUT=1\n[clients]\nMENU_TIMEOUT=3\n", 3),
        ("[clients]\nMENU_TIMEOUT=3\n[server]\nMENU_TIMEOUT=2\n", 3),
        ("MENU_TIMEOUT=-1\n", -1),
        ("MENU_TIMEOUT=\n", None),
    ],
)
def test_settings_of_clients_override_those_of_the_server(text, expected):
    assert read(text).options.timeout == expected


def test_sections_match_by_address_and_name_and_include_others():
    settings = read(
        "[slow]\nMENU_TIMEOUT=9000\nIMAGE_TRANSPORT=http\n"
        "[52:54:00:AA:bb:01|10.0.2.15|pc07]\nINCLUDE=slow\nHOSTNAME=pc01\nDEFAULT_IMAGE=r_dev\nCLIENT_INITRD=distro\n"
    )
    assert settings.sections == (
        ClientSection(
            ("52:54:00:aa:bb:01",),
            (ip_address("10.0.2.15"),),
            ("pc07",),
            hostname="pc01",
            options=MenuOptions("r_dev", None, 9000, "http", "distro"),
        ),
    )
    assert settings.warnings == ()


def test_sections_without_menu_settings_are_left_out():
    assert read("[52:54:00:aa:bb:01]\nAUTOLOGIN=user01\n[pc*]\nHOSTNAME=x\n").sections == ()


def test_a_section_for_all_clients_has_no_conditions():
    (section,) = read("[*]\nMENU_TIMEOUT=7\nHOSTNAME=same\n").sections
    assert section == ClientSection(matches_all=True, options=MenuOptions(timeout=7))


@pytest.mark.parametrize("pattern", ["b8:27:eb:*", "192.168.67.*", "pc*"])
def test_patterns_that_ipxe_cannot_match_cause_a_warning(pattern):
    settings = read(f"[{pattern}]\nDEFAULT_IMAGE=lab2\n")
    assert settings.sections == ()
    (warning,) = settings.warnings
    assert warning.startswith("ltsp.conf:1: iPXE has no patterns")
    assert pattern in warning


def test_an_invalid_mac_address_causes_a_warning():
    settings = read("[52:54:00:12:34]\nDEFAULT_IMAGE=lab2\n")
    assert settings.sections == ()
    (warning,) = settings.warnings
    assert warning.startswith("ltsp.conf:1: [52:54:00:12:34]")
    assert "[52:54:00:12:34:56]" in warning


def test_the_title_of_a_missing_image_causes_a_warning():
    (warning,) = read("[server]\nIPXE_LAB2_IMG=here\nIPXE_LABB2_IMG=gone\nIPXE_OTHER=1\n").warnings
    assert warning == "ltsp.conf:3: IPXE_LABB2_IMG: the menu has no such entry; did you mean IPXE_LAB2_IMG?"


def test_a_missing_default_image_causes_a_warning():
    settings = read("[server]\n\nDEFAULT_IMAGE=gone\n")
    assert settings.options.default is None
    assert settings.warnings == ("ltsp.conf:3: DEFAULT_IMAGE: the menu has no entry 'gone', only lab, lab2, r_dev",)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("KERNEL_PARAMETERS='quiet ; shell'", "KERNEL_PARAMETERS: 'quiet ; shell' contains ';'"),
        ("KERNEL_PARAMETERS='${net0/ip}'", "contains '\\$'"),
        ("MENU_TIMEOUT=5s", "MENU_TIMEOUT: '5s' is not a number of milliseconds"),
        ("MENU_TIMEOUT=-2", "MENU_TIMEOUT: '-2' is not a number"),
        ("MENU_TIMEOUT=99999999999999", "MENU_TIMEOUT: "),
        ("IMAGE_TRANSPORT=ftp", "IMAGE_TRANSPORT: 'ftp' is not one of nfs, http, nbd, file, auto"),
        ("CLIENT_INITRD=dracut", "CLIENT_INITRD: 'dracut' is not one of ltsp, distro"),
        ("DEFAULT_IMAGE=$NOTHING", "DEFAULT_IMAGE: \\$NOTHING is not set"),
    ],
)
@pytest.mark.parametrize("section", ["server", "52:54:00:12:34:56"])
def test_invalid_values_are_refused_by_file_and_line(section, line, fault):
    with pytest.raises(ConfError, match=f"^ltsp.conf:2: .*{fault}"):
        read(f"[{section}]\n{line}\n")


def test_all_faults_are_reported_at_once():
    with pytest.raises(ConfError, match=r"ltsp\.conf:1: .*; ltsp\.conf:3: "):
        read("MENU_TIMEOUT=x\n[52:54:00:12:34:56]\nKERNEL_PARAMETERS='#'\n")


def test_titles_are_found_by_the_name_of_the_entry():
    conf = parse_conf(b"IPXE_LAB_IMG='Lab, first floor'\nIPXE_R_DEV_IMG=Chroot\nIPXE_X86_64_IMG=\n", "ltsp.conf")
    server = evaluate_settings(conf, Identity(), "ipxe")
    assert [entry_title(label, server) for label in ("lab", "r_dev", "x86_64", "lab2")] == [
        *("Lab, first floor", "Chroot", "x86_64", "lab2")
    ]
    assert title_key("debian-12.5") == "IPXE_DEBIAN_12_5_IMG"


def test_the_declared_keys_have_the_choices_and_defaults_of_the_menu():
    declared = {name: keys for keys in CONF_KEYS for name in keys.names}
    assert declared["IMAGE_TRANSPORT"].value == "|".join(TRANSPORTS)
    assert declared["CLIENT_INITRD"].value == "|".join(INITRDS)
    assert declared["MENU_TIMEOUT"].default == str(DEFAULT_TIMEOUT)
