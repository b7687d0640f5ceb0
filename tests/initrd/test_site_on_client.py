"""ltsp.img applied by the client's shell code to a root, in a directory entered with chroot(2)."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from ltsp.cpio import newc
from ltsp.initrd.site.image_layer import ImageAccountFacts, build_image_layer
from ltsp.initrd.site.layer import build_site_tree
from ltsp.initrd.site.passwords import Accounts
from ltsp.initrd.site.settings import build_common_layer, build_section_layer, server_facts
from ltsp.settings.client_sections import read_client_settings
from ltsp.settings.conf import parse_conf
from ltsp.tree.node import Metadata

pytestmark = [pytest.mark.root, pytest.mark.oracle]

SHELL = Path(__file__).parent.parent.parent / "src/ltsp/initrd/client"
CONF = """\
[clients]
FSTAB_HOME="server:/home /home nfs defaults,nolock 0 0"
FSTAB_TMP="tmpfs /scratch tmpfs size=10% 0 0"
MASK_SYSTEM_SERVICES=bluetooth
CRONTAB_OFF="30 15 * * * root poweroff"
[52:54:00:*]
HOSTNAME=pc%{IP}
SEARCH_DOMAIN=lab.example.org
HOSTS_NFS="192.168.67.10 nfs"
FSTAB_TMP=
KEEP_SYSTEM_SERVICES="bluetooth apt-daily"
AUTOLOGIN=pc/guest
PRE_INIT_A='echo "$0" >>/pre'
POST_INIT_A=false
POST_INIT_B='echo "$HOSTNAME" >/post'
[192.168.67.2?]
HOSTS_PRINTER="192.168.67.11 printer"
RELOGIN=0
TIMEZONE=Europe/Athens
PASSWORDS_A='root/YWJj alice/'
[pc20]
FSTAB_DATA="server:/data /data nfs ro 0 0"
LOCAL_SWAP=0
[pc21]
HOSTNAME=wrong
"""
_CONFIGURE = """
export LTSP=/run/ltsp/client INIT=
$LTSP/bin/busybox --install $LTSP/bin
exec $LTSP/bin/busybox sh $LTSP/sh/configure.sh
"""
FACTS = (
    "IMAGE=lab\nROOT=nfs://192.168.67.1/srv\nSERVER=192.168.67.1\nINTERFACE=eth0\nMAC=52:54:00:12:34:56\n"
    "IP=192.168.67.20\nPREFIX=24\nGATEWAY=192.168.67.1\nDNS=192.168.67.1\nDOMAIN=\nSEARCH=\nHOST=\n"
)


@pytest.fixture
def root(tmp_path, busybox):
    """A root with accounts, units and what an image has of its own, after the client has laid the add-on over it."""
    for name in ("dev", "etc/systemd/system/multi-user.target.wants", "etc/gdm3", "sbin", "bin", "run/ltsp/work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dev/null").write_text("")
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/shadow").write_text("root:!:::::::\n")
    (tmp_path / "etc/shadow").chmod(0o640)
    (tmp_path / "etc/gdm3/daemon.conf").write_text("[daemon]\nWaylandEnable=false\n")
    (tmp_path / "etc/hosts").write_text("10.9.9.9 old\n")
    for name in ("dnsmasq.service", "apt-daily.service", "apt-daily.timer", "docker.service", "docker.socket"):
        (tmp_path / "usr/lib/systemd/system").mkdir(parents=True, exist_ok=True)
        (tmp_path / "usr/lib/systemd/system" / name).write_text("")
    os.symlink("/lib/anydesk", tmp_path / "etc/systemd/system/multi-user.target.wants/anydesk.service")
    shutil.copy(busybox, tmp_path / "bin/busybox")
    for name in ("bin/sh", "sbin/init"):
        os.symlink("/bin/busybox", tmp_path / name)
    client = tmp_path / "run/ltsp/client"
    shutil.copytree(SHELL, client / "sh")
    (client / "bin").mkdir()
    shutil.copy(busybox, client / "bin/busybox")
    _unpack(_archive(), client)
    (tmp_path / "run/ltsp/facts").write_text(FACTS)
    done = subprocess.run(
        ["unshare", "--uts", "--fork", "chroot", tmp_path, "/run/ltsp/client/bin/busybox", "sh", "-c", _CONFIGURE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr, done.stdout + done.stderr
    return tmp_path


def _archive():
    settings = read_client_settings(parse_conf(CONF.encode(), "ltsp.conf"))
    shared = settings.common.settings
    accounts = Accounts(frozenset({"alice"}), key=b"key")
    faults, warnings = [], []
    sections = [
        build_section_layer(each.settings, shared, each.match, accounts, faults, warnings) for each in settings.sections
    ]
    base = build_common_layer(shared, accounts, faults, warnings, has_autologin=True)
    assert (faults, warnings) == ([], [])
    facts = ImageAccountFacts(
        {"etc/gdm3/daemon.conf": b"[daemon]\nWaylandEnable=false"},
        {"etc/shadow": Metadata(0o640), "etc/passwd": Metadata(0o644)},
        "plasma.desktop",
    )
    merged = {
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
        "etc/shadow": b"root:!:::::::\nalice:!:::::::\n",
    }
    image = build_image_layer(facts, merged, (), has_autologin=True)
    numbered = {f"section/{number:04}": each for number, each in enumerate(sections, 1)}
    return build_site_tree({"common": base, "image/lab": image, **numbered}, server_facts(shared))


def _unpack(tree, client):
    archive = client / "ltsp.img"
    with archive.open("wb") as output:
        newc.write_archive(tree, output)
    scratch = client / "unpacked"
    scratch.mkdir()
    with archive.open("rb") as packed:
        subprocess.run(["cpio", "-idm", "--quiet"], stdin=packed, cwd=scratch, check=True)
    (scratch / "ltsp/site").rename(client / "site")


def test_a_client_gets_the_layers_that_match_it(root):
    etc = root / "etc"
    assert (etc / "hostname").read_text() == "pc20\n"
    hosts = [line.split() for line in (etc / "hosts").read_text().splitlines() if not line.startswith("#")]
    assert ["127.0.1.1", "pc20.lab.example.org", "pc20"] in hosts
    assert ["192.168.67.1", "server"] in hosts
    assert ["192.168.67.10", "nfs"] in hosts
    assert ["192.168.67.11", "printer"] in hosts
    assert not any("old" in line for line in hosts)
    fstab = [line for line in (etc / "fstab").read_text().splitlines() if not line.startswith("#")]
    assert fstab == ["server:/data /data nfs ro 0 0", "server:/home /home nfs defaults,nolock 0 0"]
    assert "30 15 * * * root poweroff\n" in (etc / "cron.d/ltsp").read_text()
    assert os.readlink(etc / "localtime") == "/usr/share/zoneinfo/Europe/Athens"


def test_units_are_masked_and_kept(root):
    units = root / "etc/systemd/system"
    for name in ("dnsmasq.service", "docker.service", "docker.socket"):
        assert os.readlink(units / name) == "/dev/null"
    assert not os.path.lexists(units / "mysql.service")  # the image has none
    assert os.readlink(units / "ltsp-swap.service") == "/dev/null"
    for name in ("bluetooth.service", "apt-daily.service", "apt-daily.timer"):
        assert not os.path.lexists(units / name)
    assert not os.path.lexists(units / "multi-user.target.wants/anydesk.service")
    assert (units / "sysinit.target.wants/ltsp-post-init.service").is_symlink()


def test_accounts_have_the_passwords_of_their_section(root):
    shadow = (root / "etc/shadow").read_text().splitlines()
    assert shadow[0].startswith("root:$6$")
    assert shadow[1] == "alice::::::::"
    assert stat.S_IMODE((root / "etc/shadow").stat().st_mode) == 0o640


def test_each_display_manager_gets_the_user_to_log_in(root):
    assert (root / "etc/ltsp/autologin").read_text() == "guest20\n"
    assert (root / "etc/ltsp/relogin").read_text() == "0\n"
    assert (root / "etc/gdm3/daemon.conf").read_text() == (
        "[daemon]\nWaylandEnable=false\n"
        "[daemon]\nAutomaticLoginEnable=true\nAutomaticLogin=guest20\nTimedLogin=guest20\n"
        "[daemon]\nTimedLoginEnable=false\nTimedLoginDelay=2\n"
    )
    lightdm = root / "etc/lightdm/lightdm.conf.d"
    assert "autologin-user=guest20\n" in (lightdm / "90-ltsp-autologin.conf").read_text()
    assert "autologin-user-timeout=0\n" in (lightdm / "90-ltsp-relogin.conf").read_text()
    assert "Session=plasma.desktop\n" in (root / "etc/sddm.conf.d/80-ltsp-session.conf").read_text()


def test_commands_run_in_the_root_before_the_system_starts(root):
    assert (root / "pre").read_text() == "/etc/ltsp/pre-init/PRE_INIT_A\n"


def entered(root, *command):
    """What a command prints that is run in the root, where agetty(8) and getent(1) are scripts."""
    for name, text in (("agetty", 'echo agetty "$@"'), ("getent", '[ "$2" = guest20 ]')):
        (root / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (root / "bin" / name).chmod(0o755)
    environment = {"PATH": f"{os.environ['PATH']}:/bin:/run/ltsp/client/bin", "HOSTNAME": "pc20"}
    return subprocess.run(["chroot", root, *command], env=environment, capture_output=True, text=True, check=False)


def test_the_console_logs_in_once_if_relogin_is_off(root):
    getty = ("/bin/sh", "/usr/share/ltsp/getty", "tty1", "linux")
    assert entered(root, *getty).stdout == "agetty --autologin guest20 --noclear tty1 linux\n"
    assert entered(root, *getty).stdout == "agetty --noclear tty1 linux\n"
    (root / "etc/ltsp/relogin").write_text("1\n")
    assert entered(root, *getty).stdout == "agetty --autologin guest20 --noclear tty1 linux\n"
    (root / "etc/systemd/system/display-manager.service").write_text("")
    assert entered(root, *getty).stdout == "agetty --noclear tty1 linux\n"


def test_commands_at_system_start_continue_after_a_failure(root):
    unit = (root / "usr/lib/systemd/system/ltsp-post-init.service").read_text().replace("\\\n", "")
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    command = start.partition("'")[2].rstrip("'").replace("$$", "$")
    done = entered(root, "/bin/sh", "-c", command)
    assert done.returncode == 1
    assert "/etc/ltsp/post-init/POST_INIT_A failed" in done.stderr
    assert (root / "post").read_text() == "pc20\n"
