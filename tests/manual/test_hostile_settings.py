"""What ltsp.conf cannot say to clients: one line that names file, line and key, and the menu and ltsp.img as before."""

from __future__ import annotations

import pytest

from corpus.error_checks import command_refused
from corpus.site import Site

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Clients boot `lab` already."""
    site = Site.make(tmp_path_factory.mktemp("site"))
    site.system("lab")
    site.ltsp("image", "lab", "--ionice=")
    site.ltsp("ipxe")
    site.ltsp("initrd")
    return site


def refused(site, applet, conf, *says):
    site.conf.write_text(conf)
    return command_refused(site, applet, status=1, says=[f"{site.conf}:2: ", *says])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("KERNEL_PARAMETERS='quiet && shell'", "contains '&'"),
        ("KERNEL_PARAMETERS='quiet; shell'", "contains ';'"),
        ("KERNEL_PARAMETERS='quiet ${netX/mac}'", "contains '$'"),
        ('KERNEL_PARAMETERS="quiet $(reboot)"', "command substitution is not supported"),
        ("KERNEL_PARAMETERS='quiet # not'", "contains '#'"),
        ("MENU_TIMEOUT='5000 && shell'", "is not a number of milliseconds"),
        ("IMAGE_TRANSPORT='nfs;shell'", "is not one of"),
    ],
)
def test_what_would_be_a_command_of_ipxe_is_refused(site, line, fault):
    refused(site, "ipxe", f"[clients]\n{line}\n", line.partition("=")[0], fault)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("HOSTNAME='pc; reboot'", "is not a hostname"),
        ("HOSTNAME='pc\nroot::0:0'", "is not a hostname"),
        ('HOSTNAME="pc$(reboot)"', "command substitution is not supported"),
        ("FSTAB_A='a /b nfs\n/dev/sda1 /etc ext4'", "has more than one line"),
        ("FSTAB_A='a ../etc nfs'", "is not an absolute path"),
        ("HOSTS_A='10.0.0.1 a\n10.0.0.2 bank'", "has more than one line"),
        ("CRONTAB_A='* * * * * root a\n* * * * * root b'", "has more than one line"),
        ("MASK_SYSTEM_SERVICES='../../etc/passwd'", "is not a unit name"),
        ("TIMEZONE=../../../etc/shadow", "is not a time zone"),
        ("DNS_SERVER='10.0.0.1;reboot'", "is not an address"),
        ("SEARCH_DOMAIN='lab; reboot'", "is not a domain"),
        ("AUTOLOGIN='guest --skip-login'", "is not an account name"),
        ('PASSWORDS_A="alice/$6$salt$hash"', "a literal $ needs a backslash or single quotes"),
    ],
)
def test_what_would_be_more_than_a_value_on_a_client_is_refused(site, line, fault):
    key = line.partition("=")[0]
    refused(
        site,
        "initrd",
        f"[52:54:00:12:34:56]\n{line}\n",
        key,
        fault,
        "put text in single quotes; ltsp.img was not changed",
    )


def test_a_title_is_text_whatever_it_holds(site):
    site.conf.write_text("[server]\nIPXE_LAB_IMG='Lab; shell || reboot ${net0/mac}\nshell'\n")
    site.ltsp("ipxe")
    menu = (site.tftp / "ltsp/ltsp.ipxe").read_text()
    assert "item lab Lab_ shell __ reboot __net0/mac_ shell\n" in menu


@pytest.mark.parametrize("applet", ["ipxe", "initrd"])
@pytest.mark.parametrize(
    ("section", "right"),
    [
        ("52:54:00:12:34", "a MAC address has six pairs, as in [52:54:00:12:34:56]"),
        ("52:54:00:12:34:5g", "a MAC address has six pairs, as in [52:54:00:12:34:56]"),
        ("52-54-00-12-34-56", "write the MAC address as [52:54:00:12:34:56]"),
        ("5254.0012.3456", "write the MAC address as [52:54:00:12:34:56]"),
        ("192.168.67.256", "256 is too large for an IPv4 address"),
    ],
)
def test_a_section_that_no_client_can_match_is_warned_of_and_the_others_hold(site, applet, section, right):
    site.conf.write_text(f"[{section}]\nHOSTNAME=pc1\nKERNEL_PARAMETERS=single\n[52:54:00:00:00:02]\nHOSTNAME=pc2\n")
    said = site.ltsp(applet).stderr
    assert f"warning: {site.conf}:1: [{section}] matches no client: {right}" in said
    add_on, menu = ((site.tftp / "ltsp" / name).read_bytes() for name in ("ltsp.img", "ltsp.ipxe"))
    assert b"pc1" not in add_on + menu
    assert b"single" not in add_on + menu
    assert b"pc2" in (add_on if applet == "initrd" else menu)
