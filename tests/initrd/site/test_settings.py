"""What becomes of settings in a layer of ltsp.img."""

from __future__ import annotations

import pytest

from ltsp.initrd.site.layer import LISTS, build_site_tree
from ltsp.initrd.site.passwords import Accounts
from ltsp.initrd.site.settings import build_common_layer, build_section_layer, server_facts
from ltsp.settings.client_sections import client_settings
from ltsp.settings.conf_text import parse_conf
from ltsp.tree.name import decode
from ltsp.tree.node import File, Symlink


def text_of(node):
    match node:
        case File(content=content):
            return decode(content.data)
        case Symlink(target=target):
            return f"-> {target}"
    raise AssertionError(node)


def section(text, names=("alice", "bob")):
    """The first section's layer, with faults and warnings."""
    settings = client_settings(parse_conf(text.encode("utf-8", "surrogateescape"), "ltsp.conf"))
    faults, warnings = [], []
    accounts = Accounts(frozenset(names), key=b"key")
    first = settings.sections[0]
    made = build_section_layer(first.settings, settings.common.settings, first.match, accounts, faults, warnings)
    return made, faults, warnings


def for_all(text, *, logs_in=False):
    settings = client_settings(parse_conf(text.encode(), "ltsp.conf"))
    faults, warnings = [], []
    made = build_common_layer(settings.common.settings, Accounts(), faults, warnings, logs_in=logs_in)
    assert (faults, warnings) == ([], [])
    return made


def seen(made):
    """A layer as text, to read."""
    lines = [f"match {pattern}" for pattern in made.match]
    lines += [f"env {key}={value}" for key, value in sorted(made.env.items())]
    lines += [f"{name} {entry}" for name in LISTS for entry in getattr(made, name)]
    lines += [f"file {path}: {text_of(node)!r}" for path, node in sorted(made.files.items())]
    lines += [
        f"part {path} {name}: {text!r}" for path, each in sorted(made.parts.items()) for name, text in each.items()
    ]
    lines += [f"template {path}" for path in sorted(made.templates)]
    return [
        line.replace(
            "# Made by `ltsp initrd` from ltsp.conf on the server; changes here are gone after a restart.\\n", "HEAD "
        ).replace("ForwardToSyslog=no", "FOR")
        for line in lines
    ]


GOLDEN = r"""
[52:54:00:*|pc*]
HOSTNAME=pc%{IP}
SERVER=10.0.2.2
DNS_SERVER="10.0.2.3  9.9.9.9"
SEARCH_DOMAIN="lab.example.org example.org"
HOSTS_NFS="192.168.67.10 nfs-server"
FSTAB_HOME="server:/home /home nfs defaults,nolock 0 0"
CRONTAB_OFF="30 15 * * * root poweroff"
TIMEZONE=Europe/Athens
JOURNAL_SIZE=4M
LOCAL_SWAP=0
MASK_SYSTEM_SERVICES="bluetooth foo.timer"
DISABLE_SYSTEM_SERVICES=ssh
KEEP_SYSTEM_SERVICES=apt-daily
MASK_SESSION_SERVICES=obex
CUPS_SERVER=10.0.2.2
AUTOLOGIN=pc/guest
RELOGIN=0
PRE_INIT_A='echo "$x" `y`'
POST_INIT_LN="ln -sf ../ltsp/xorg.conf /etc/X11/xorg.conf"
"""

SEEN = """\
match 52:54:00:*
match pc*
env DNS_SERVER=10.0.2.3 9.9.9.9
env HOSTNAME=pc%{IP}
env SEARCH_DOMAIN=lab.example.org example.org
env SERVER=10.0.2.2
remove etc/xdg/autostart/obex.desktop
mask cups.service
mask cups.path
mask cups.socket
mask cups-browsed.service
mask ltsp-swap.service
mask bluetooth.service
mask foo.timer
disable ssh.service
disable ssh.socket
disable sshd.service
disable sshd.socket
disable sshd@.service
disable ssh@.service
keep apt-daily.service
keep apt-daily.timer
file etc/cups/client.conf: 'HEAD ServerName 10.0.2.2\\n'
file etc/lightdm/lightdm.conf.d/90-ltsp-autologin.conf: 'HEAD [Seat:*]\\nautologin-user=%{HOSTNAME/pc/guest}\\n'
file etc/lightdm/lightdm.conf.d/90-ltsp-relogin.conf: 'HEAD [Seat:*]\\nautologin-user-timeout=0\\n'
file etc/localtime: '-> /usr/share/zoneinfo/Europe/Athens'
file etc/ltsp/autologin: '%{HOSTNAME/pc/guest}\\n'
file etc/ltsp/post-init/POST_INIT_LN: 'ln -sf ../ltsp/xorg.conf /etc/X11/xorg.conf\\n'
file etc/ltsp/pre-init/PRE_INIT_A: 'echo "$x" `y`\\n'
file etc/ltsp/relogin: '0\\n'
file etc/sddm.conf.d/90-ltsp-autologin.conf: 'HEAD [Autologin]\\nUser=%{HOSTNAME/pc/guest}\\n'
file etc/sddm.conf.d/90-ltsp-relogin.conf: 'HEAD [Autologin]\\nRelogin=false\\n'
file etc/systemd/journald.conf.d/ltsp.conf: 'HEAD [Journal]\\nStorage=volatile\\nRuntimeMaxUse=4M\\nFOR\\n'
file etc/systemd/user/obex.service: '-> /dev/null'
file etc/timezone: 'Europe/Athens\\n'
part etc/cron.d/ltsp 00-head: 'HEAD PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\\n'
part etc/cron.d/ltsp CRONTAB_OFF: '30 15 * * * root poweroff\\n'
part etc/fstab FSTAB_HOME: 'server:/home /home nfs defaults,nolock 0 0\\n'
"""


def test_the_layer_of_a_section():
    made, faults, warnings = section(GOLDEN)
    assert (faults, warnings) == ([], [])
    lines = seen(made)
    assert [line for line in lines if "gdm" not in line][: SEEN.count("\n")] == SEEN.splitlines()
    gdm = made.parts["etc/gdm3/daemon.conf"]
    assert gdm == {
        "50-autologin": "[daemon]\nAutomaticLoginEnable=true\n"
        "AutomaticLogin=%{HOSTNAME/pc/guest}\nTimedLogin=%{HOSTNAME/pc/guest}\n",
        "60-relogin": "[daemon]\nTimedLoginEnable=false\nTimedLoginDelay=2\n",
    }
    assert made.parts["etc/hosts"] == {
        "HOSTS_NFS": "192.168.67.10 nfs-server\n",
        "10-name": "127.0.1.1\t%{HOSTNAME}.lab.example.org %{HOSTNAME}\n",
        "20-server": "10.0.2.2\tserver\n",
    }
    assert {"etc/hosts", "etc/ltsp/autologin", "etc/gdm3/daemon.conf"} <= made.templates
    assert "etc/fstab" not in made.templates


def test_what_every_client_gets_without_any_setting():
    made = for_all("")
    assert "apt-daily.timer" in made.unneeded
    assert "dnsmasq.service" in made.unneeded
    assert made.mask == ()
    assert "anydesk.service" in made.disable
    assert made.enable == ("ltsp-post-init.service", "ltsp-swap.service")
    assert made.parts["etc/fstab"]["00-head"].startswith("#")
    assert made.parts["etc/hosts"]["10-name"] == "127.0.1.1\t%{HOSTNAME}\n"
    assert "RuntimeMaxUse=16M" in text_of(made.files["etc/systemd/journald.conf.d/ltsp.conf"])
    assert made.templates == {"etc/hosts"}
    assert not [path for path in made.files if "lightdm" in path or "getty" in path]


def test_what_is_kept_is_neither_masked_nor_disabled():
    made = for_all(
        "[clients]\nKEEP_SYSTEM_SERVICES='apt-daily anydesk e2scrub_all.timer'\nKEEP_SESSION_SERVICES=update-notifier\n"
    )
    assert not {"apt-daily.service", "apt-daily.timer", "e2scrub_all.timer"} & set(made.unneeded)
    assert "apt-daily-upgrade.timer" in made.unneeded
    assert "anydesk.service" not in made.disable
    assert "etc/systemd/user/update-notifier.service" not in made.files
    assert "etc/systemd/user/gnome-software-service.service" in made.files


def test_a_section_keeps_what_all_others_mask():
    made, *_ = section("[clients]\nMASK_SYSTEM_SERVICES=foo\n[pc1]\nKEEP_SYSTEM_SERVICES=foo.service\n")
    assert made.keep == ("foo.service",)


def test_somebody_who_is_logged_in_somewhere_brings_the_console_too():
    made = for_all("[clients]\nAUTOLOGIN=alice\n", logs_in=True)
    assert "agetty --autologin" in text_of(made.files["usr/share/ltsp/getty"])
    assert text_of(made.files["etc/ltsp/relogin"]) == "1\n"
    assert text_of(made.files["etc/ltsp/autologin"]) == "alice\n"


@pytest.mark.parametrize(
    "text",
    [
        "[52:*]\nAUTOLOGIN=pc/guest\n",
        "[pc*]\nAUTOLOGIN=pc/guest\n",
        "[clients]\nHOSTNAME=pc%{IP}\n[52:*]\nAUTOLOGIN=pc/guest\n",
        "[clients]\nHOSTNAME=lab\n[52:*]\nHOSTNAME=room\nAUTOLOGIN=pc/guest\n",
    ],
)
def test_an_account_is_made_of_the_hostname_that_the_client_has_in_the_end(text):
    """It may come from DHCP, and a later section may give another."""
    made, faults, _ = section(text)
    assert faults == []
    assert text_of(made.files["etc/ltsp/autologin"]) == "%{HOSTNAME/pc/guest}\n"
    assert {"etc/ltsp/autologin", "etc/lightdm/lightdm.conf.d/90-ltsp-autologin.conf"} <= made.templates


def test_a_section_takes_back_what_others_add():
    made, faults, _ = section("[clients]\nFSTAB_A='a /a nfs'\n[pc1]\nFSTAB_A=\nAUTOLOGIN=\n")
    assert faults == []
    assert made.parts["etc/fstab"] == {"FSTAB_A": ""}
    assert made.parts["etc/gdm3/daemon.conf"] == {"50-autologin": ""}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("HOSTNAME='a;reboot'", "no hostname"),
        ("HOSTNAME='a b'", "no hostname"),
        ("HOSTNAME=%{X}", "no hostname"),
        ("SERVER=%{SERVER}", "neither an address"),
        ("DNS_SERVER='1.2.3.4 x'", "no address"),
        ("DNS_SERVER=fe80::1%eth0", "no address"),
        ('SEARCH_DOMAIN="a\'b"', "no domain"),
        ("HOSTS_A='10.0.0.1 a\n10.0.0.2 b'", "goes over two lines"),
        ("HOSTS_A='not-an-address a'", "no address and names"),
        ("HOSTS_A=10.0.0.1", "no names"),
        ("HOSTS_A='10.0.0.1 %{NOBODY}'", "clients fill in"),
        ("FSTAB_A='a /b nfs defaults 0 0\n/dev/sda / ext4'", "goes over two lines"),
        ("FSTAB_A='a /b'", "no line of fstab"),
        ("FSTAB_A='a /b nfs x y z'", "something else than numbers"),
        ("FSTAB_A='a b nfs'", "no absolute path"),
        ("CRONTAB_A='* * * * * root'", "no line of crontab"),
        ("CRONTAB_A='* * * * * ro/ot x'", "where the user stands"),
        ("CRONTAB_A='@reboot root x\n* * * * * root y'", "goes over two lines"),
        ("TIMEZONE=../../etc/shadow", "no time zone"),
        ("JOURNAL_SIZE='1M\nSeal=no'", "no size"),
        ("LOCAL_SWAP=yes", "neither 0 nor 1"),
        ("MASK_SYSTEM_SERVICES=../x", "no name of a service"),
        ("KEEP_SYSTEM_SERVICES='a;b'", "no name of a service"),
        ("AUTOLOGIN='a\nb'", "no name of an account"),
        ("AUTOLOGIN='a.*/b'", "neither an account nor OLD/NEW"),
        ("AUTOLOGIN=pc/a/b", "neither an account nor OLD/NEW"),
        ("AUTOLOGIN='pc/a}b'", "neither an account nor OLD/NEW"),
        ("AUTOLOGIN=/guest", "neither an account nor OLD/NEW"),
        ("RELOGIN=2", "neither 0 nor 1"),
        ("CUPS_SERVER='a b'", "neither an address"),
        ("LIGHTDM_CONF=/etc/lightdm", "is a path"),
        ("SDDM_CONF='\x1b[31m'", "holds the character"),
        ("POST_INIT_A='\x01'", "holds the character"),
        ("HOSTS_A=$NOWHERE", "is not set before this line"),
    ],
)
def test_text_that_would_mean_more_than_it_says_is_refused_with_file_and_line(line, says):
    made, faults, _ = section(f"[pc1]\n\n{line}\n")
    assert len(faults) == 1
    assert faults[0].startswith(f"ltsp.conf:3: {line.partition('=')[0]}")
    assert says in faults[0]
    assert made.is_empty


def test_a_password_among_the_options_of_a_mount_is_warned_of():
    _, faults, warnings = section("[pc1]\nFSTAB_A='//s/a /a cifs user=x,password=y 0 0'\n")
    assert faults == []
    assert "whoever can boot can read it" in warnings[0]


def test_settings_of_others_are_no_concern_of_a_layer():
    made, faults, _ = section("[pc1]\nKERNEL_PARAMETERS=quiet\nX_MODES='a;b'\n")
    assert faults == []
    assert made.is_empty


def test_the_server_is_told_once():
    settings = client_settings(parse_conf(b"SERVER=10.0.0.1\n", "ltsp.conf"))
    assert server_facts(settings.common.settings) == {"SERVER": "10.0.0.1"}
    assert server_facts({}) == {}


def test_the_tree_has_the_layers_in_their_places():
    made, *_ = section("[pc1]\nHOSTNAME=a\nHOSTS_A='10.0.0.1 b'\nMASK_SYSTEM_SERVICES=x\nPASSWORDS_A=root/\n")
    tree = build_site_tree({"common": for_all(""), "image/lab": made, "section/0001": made}, {"SERVER": "10.0.0.1"})
    paths = {path for path, _ in tree.walk()}
    assert {"ltsp/site/server", "ltsp/site/common/parts/etc/hosts/10-name", "ltsp/site/image/lab/env"} <= paths
    at = "ltsp/site/section/0001"
    assert text_of(tree.get(f"{at}/match")) == "pc1\n"
    assert text_of(tree.get(f"{at}/env")) == "HOSTNAME='a'\n"
    assert text_of(tree.get(f"{at}/parts/etc/hosts/HOSTS_A")) == "10.0.0.1 b\n"
    assert text_of(tree.get(f"{at}/mask")) == "x.service\n"
    assert text_of(tree.get(f"{at}/shadow")) == "root:\n"
    assert tree.get(f"{at}/shadow").metadata.mode == 0o600
    assert text_of(tree.get("ltsp/site/server")) == "SERVER='10.0.0.1'\n"


def test_swap_and_printing_may_be_taken_back_in_a_section():
    made, faults, _ = section(
        "[clients]\nLOCAL_SWAP=0\n[pc1]\nLOCAL_SWAP=1\nCUPS_SERVER=ignore\nKEEP_SESSION_SERVICES=update-notifier\n"
    )
    assert faults == []
    assert made.keep == made.enable == ("ltsp-swap.service",)
    assert made.mask == ()
    assert made.remove == ("etc/systemd/user/update-notifier.service",)


def test_lines_for_display_managers_follow_ours():
    made, faults, _ = section("[pc1]\nLIGHTDM_CONF='a=b\n\n c=d'\nSDDM_CONF=e=f\nGDM3_CONF=WaylandEnable=false\n")
    assert faults == []
    assert text_of(made.files["etc/lightdm/lightdm.conf.d/95-ltsp.conf"]).endswith("[Seat:*]\na=b\nc=d\n")
    assert text_of(made.files["etc/sddm.conf.d/95-ltsp.conf"]).endswith("[Autologin]\ne=f\n")
    assert made.parts["etc/gdm/custom.conf"] == {"70-more": "[daemon]\nWaylandEnable=false\n"}


def test_a_server_that_has_a_name_only_stays_what_the_client_takes_it_for():
    made, *_ = section("[pc1]\nSERVER=server.example.org\nSEARCH_DOMAIN=\n")
    assert made.parts["etc/hosts"] == {"10-name": "127.0.1.1\t%{HOSTNAME}\n"}
