"""The table of secrets: a canary at each of its rows, and the tuning of the list."""

import re

import pytest

from corpus.planted import data, paths, planted
from ltsp.errors import ConfError
from ltsp.transform.cleanup import clean
from ltsp.transform.exclude import Exclusions, image_excludes
from ltsp.transform.lines import lines
from ltsp.transform.secrets import Action, Secrets, image_secrets
from ltsp.transform.selection import combined
from ltsp.tree.content import Bytes
from ltsp.tree.node import File, Metadata
from ltsp.tree.selection import Take

CANARY = "CANARY-7f3a"
PASSWD = "root:x:0:0::/root:/bin/sh\n"

_GONE = """
    etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- etc/shadow.org etc/shadow.dpkg-old
    etc/passwd.bak etc/group~ etc/gshadow.dpkg-dist etc/passwd.ucf-old etc/foo.conf.ucf-old etc/subuid.bak
    etc/nshadow etc/security/opasswd home/alice/notes home/alice/.ssh/id_rsa home/.ecryptfs/alice
    root/.bash_history root/.ssh/id_rsa var/lib/AccountsService/users/alice var/lib/sudo/lectured/alice
    var/lib/fprint/alice/1 var/lib/systemd/linger/alice var/lib/systemd/home/local.private
    var/lib/systemd/random-seed var/lib/urandom/random-seed boot/efi/loader/random-seed efi/loader/random-seed
    var/lib/systemd/credential.secret etc/machine-info etc/hostid etc/hostname etc/ssh/ssh_host_rsa_key
    etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_ecdsa_key.pub etc/lvm/devices/system.devices
    etc/mdadm/mdadm.conf etc/blkid.tab etc/blkid/blkid.tab etc/udev/rules.d/70-persistent-net.rules
    etc/iscsi/initiatorname.iscsi etc/nvme/hostid etc/nvme/hostnqn etc/popularity-contest.conf
    var/lib/whoopsie/whoopsie-id etc/sysconfig/hw-uuid swapfile var/swap swap.img hiberfil.sys data/active.swap
    etc/NetworkManager/system-connections/home.nmconnection etc/netplan/90-NM-1234.yaml
    etc/netplan/50-cloud-init.yaml etc/network/interfaces.d/50-cloud-init
    etc/network/interfaces.d/50-cloud-init.cfg etc/systemd/network/10-cloud-init-eth0.network
    var/lib/NetworkManager/secret_key var/lib/NetworkManager/seen-bssids var/lib/NetworkManager/timestamps
    var/lib/NetworkManager/internal-1-eth0.lease var/lib/iwd/home.psk etc/wpa_supplicant/wpa_supplicant.conf
    var/lib/bluetooth/AA/BB/info var/lib/connman/wifi/settings etc/wireguard/wg0.conf etc/openvpn/client/a.key
    etc/ipsec.secrets etc/ipsec.d/private/a.pem etc/swanctl/private/a.pem etc/ppp/chap-secrets
    etc/ppp/pap-secrets var/lib/tailscale/tailscaled.state var/lib/zerotier-one/identity.secret
    var/lib/dhcp/dhclient.leases var/lib/dhcp3/dhclient.eth0.leases var/lib/dhclient/a.leases
    var/lib/misc/dnsmasq.leases var/lib/dhcpd/dhcpd.leases etc/exports etc/exports.d/home.exports
    var/lib/nfs/rmtab etc/krb5.keytab var/lib/samba/account_policy.tdb var/lib/samba/private/secrets.tdb
    var/lib/sss/db/cache_x.ldb var/lib/sss/secrets/a var/lib/sss/mc/passwd etc/libnss-ldap.secret
    etc/pam_ldap.secret etc/ldap.secret etc/ipa/default.conf var/lib/ipa-client/sysrestore/x
    var/lib/krb5kdc/principal var/kerberos/krb5kdc/p var/lib/ldap/data.mdb etc/smbcredentials etc/samba/creds
    etc/davfs2/secrets etc/rsyncd.secrets etc/cryptsetup-keys.d/root.key etc/ssl/private/ssl-cert-snakeoil.key
    etc/ssl/private/own.key etc/ssl/private/sub/own.key etc/pki/tls/private/a.key
    etc/letsencrypt/live/a/privkey.pem etc/cups/ssl/a.key etc/cups/printers.conf.O etc/cups/subscriptions.conf
    etc/cups/subscriptions.conf.O etc/cups/printers.conf.bak etc/cups/cupsd.bak var/spool/cups/d00001-001
    etc/xrdp/key.pem etc/xrdp/rsakeys.ini var/lib/x2go/x2go_sessions etc/x2go/passwords etc/x2go/a/b/passwords
    etc/x2go/x2gosql/passwords/x2gouser etc/epoptes/server.key etc/mysql/debian.cnf etc/postfix/sasl_passwd
    etc/postfix/sasl_passwd.db etc/exim4/passwd.client etc/opendkim/keys/a/default.private etc/munge/munge.key
    etc/ceph/ceph.client.admin.keyring etc/salt/pki/minion/minion.pem etc/puppetlabs/puppet/ssl/a
    etc/chef/client.pem etc/zabbix/psk etc/gitlab-runner/config.toml etc/freeradius/3.0/clients.conf
    etc/bind/rndc.key etc/snmp/snmpd.conf etc/redis/redis.conf var/lib/puppet/ssl/a
    var/lib/jenkins/secrets/master.key var/lib/tor/keys/a var/lib/fwupd/pki/secret.key var/lib/snmp/snmpd.conf
    etc/ltsp/ltsp.conf etc/ltsp/ssh/known_hosts var/lib/mysql/ibdata1 var/lib/postgresql/15/main/base/1
    var/lib/redis/dump.rdb var/lib/docker/overlay2/a var/lib/containerd/a var/lib/lxd/a var/lib/incus/a
    var/lib/libvirt/images/vm.qcow2 var/lib/machines/m.raw var/lib/portables/a etc/docker/key.json
    etc/kubernetes/admin.conf etc/libvirt/secrets/a.xml var/lib/cloud/instance/user-data.txt
    var/lib/cloud/data/x var/log/cloud-init.log var/log/cloud-init-output.log etc/apt/auth.conf
    etc/apt/auth.conf.d/esm var/lib/ubuntu-advantage/private/token.json etc/pki/consumer/key.pem
    etc/pki/entitlement/1-key.pem var/lib/snapd/device/private-keys-v1/a var/log/journal/abc/system.journal
    var/log/installer/syslog var/log/apt/history.log var/log/private/a/b var/lib/systemd/coredump/core.a
    var/crash/_usr_bin_x.crash var/spool/abrt/a/coredump var/lib/apport/coredump/a var/spool/cron/crontabs/alice
    var/spool/cron/alice var/spool/cron/atjobs/a var/spool/at/a var/spool/mail/alice
    var/spool/postfix/deferred/a var/spool/exim4/input/a var/mail/alice var/cache/debconf/passwords.dat-old
    var/cache/debconf/config.dat-old var/backups/shadow.bak var/lib/apt/lists/a var/cache/apt/archives/a.deb
    var/cache/dnf/a var/cache/yum/a var/cache/zypp/a tmp/a tmp/.X11-unix/a var/tmp/a run/secrets/a dev/shm/a
    proc/1/environ sys/a mnt/usb/a media/usb/a srv/www/a etc/.git/config etc/.pwd.lock etc/.netrc
"""
GONE = _GONE.split()
_EMPTIED = """
    etc/fstab etc/crypttab var/log/syslog var/log/auth.log var/log/.hidden var/cache/debconf/passwords.dat
    var/cache/debconf/config.dat
"""
EMPTIED = _EMPTIED.split()
REWRITTEN = {
    "etc/passwd": PASSWD + f"alice:x:1000:1000:{CANARY}:/home/alice:\nbob:{CANARY}:5:5::/:\n",
    "etc/group": f"root:x:0:\nadm:{CANARY}:4:\nalice:x:1000:{CANARY}\n",
    "etc/shadow": f"root:$6$a${CANARY}:1::::::\n",
    "etc/gshadow": f"root:$6$a${CANARY}::\n",
    "etc/subuid": "alice:1:2\n",
    "etc/subgid": "alice:1:2\n",
    "etc/machine-id": f"{CANARY}\n",
    "var/lib/dbus/machine-id": f"{CANARY}\n",
    "etc/hosts": f"127.0.0.1 localhost {CANARY}\n127.0.1.1 {CANARY}\n10.0.0.1 {CANARY} # {CANARY}\n# {CANARY}\n",
    "etc/iscsi/iscsid.conf": (
        f"node.startup = manual\nnode.session.auth.password = {CANARY}\n#node.session.auth.password_in = {CANARY}\n"
        f"discovery.sendtargets.auth.username={CANARY}\n"
    ),
    "etc/cups/printers.conf": f"# Printer configuration file\n<Printer a>\nDeviceURI smb://{CANARY}@host/a\n",
    "etc/systemd/resolved.conf.d/ltsp.conf": f"# {CANARY}\n[Resolve]\nDNSStubListener=no\n",
}
_NAMED = """
    etc/sudoers.d/alice etc/skel/.netrc etc/skel/.ssh/id_rsa etc/skel/.gnupg/a etc/skel/.aws/credentials
    etc/skel/.pgpass etc/skel/.my.cnf etc/skel/.git-credentials etc/skel/.bash_history
    etc/skel/.docker/config.json etc/skel/.kube/config etc/skel/.config/rclone/rclone.conf
    etc/skel/.local/share/keyrings/login.keyring etc/sssd/sssd.conf etc/nslcd.conf etc/autofs_ldap_auth.conf
    boot/grub/grub.cfg boot/grub2/grub.cfg etc/grub.d/40_custom opt/vendor/licence.key opt/key
    usr/local/etc/app.conf usr/local/bin/tool var/www/html/config.php var/lib/snapd/state.json
"""
NAMED = _NAMED.split()
TESTED = {
    "etc/apt/sources.list": f"deb https://user:{CANARY}@repo.example/debian stable main\n",
    "etc/apt/sources.list.d/a.sources": f"URIs: https://user:{CANARY}@repo.example/\n",
    "etc/apt/apt.conf": f'Acquire::http::Proxy "http://user:{CANARY}@proxy:3128";\n',
    "etc/apt/apt.conf.d/80proxy": f'Acquire::http::Proxy "http://user:{CANARY}@proxy:3128";\n',
    "etc/environment": f"http_proxy=http://user:{CANARY}@proxy:3128\n",
    "etc/yum.repos.d/a.repo": f"baseurl=https://user:{CANARY}@repo.example/\n",
}
KEPT = ["var/lib/dpkg/status", "var/lib/dpkg/info/a.list", "var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/.rpm.lock"]


def everything():
    plain = dict.fromkeys([*GONE, *EMPTIED, *NAMED, *KEPT], f"{CANARY}\n")
    return planted(plain | REWRITTEN | TESTED | {"etc/sudoers.d/README": "read me\n"})


def built_in(**tuning):
    return Secrets(image_secrets(swaps=["data/active.swap"], **tuning).rows)


def holding(tree):
    return {path for path in paths(tree) if CANARY.encode() in (data(tree, path) or b"")}


def test_there_are_enough_canaries():
    assert len(GONE) + len(EMPTIED) + len(REWRITTEN) + len(NAMED) + len(TESTED) >= 170


def test_no_canary_is_left_that_is_not_named_by_the_table_alone():
    """Without any exclusions: the table holds on its own."""
    secrets = built_in()
    cleaned = clean(everything().select(secrets.take), secrets)
    assert holding(cleaned.tree) == {*NAMED, *TESTED, *KEPT}


def test_no_canary_is_left_that_is_not_named_by_a_real_run():
    secrets = built_in()
    exclusions = Exclusions(line.text for line in image_excludes(None, iter(()), iter(())).lines)
    cleaned = clean(everything().select(combined(exclusions.take, secrets.take)), secrets)
    assert holding(cleaned.tree) == {*NAMED, *TESTED, *KEPT}


def test_each_canary_that_stays_is_named():
    secrets = built_in()
    cleaned = clean(everything().select(secrets.take), secrets)
    named = [finding.path for finding in cleaned.findings]
    for path in [*NAMED, *TESTED]:
        assert any(path == found or path.startswith(found + "/") for found in named), path
    assert named == sorted(named)
    assert "etc/sudoers.d/README" not in named


@pytest.mark.parametrize("path", GONE)
def test_each_path_that_goes_has_a_row_that_says_so(path):
    assert built_in().rule(path) is not None


@pytest.mark.parametrize("path", KEPT)
def test_the_package_database_stays_whatever_a_row_says(path):
    secrets = built_in(add=lines("X var/lib/*  everything\n", "ADD_IMAGE_SECRETS"))
    assert secrets.take("var/lib", True) is Take.ALL
    assert secrets.take("var/lib/other", True) is Take.EMPTIED
    assert secrets.take(path, False) is Take.ALL


def test_directories_that_are_left_out_stay_empty():
    secrets = built_in()
    kept = paths(everything().select(secrets.take))
    assert {"var/lib/mysql", "etc/letsencrypt", "home", "var/spool/cron/crontabs", "var/log/apt", "etc/munge"} <= kept
    assert secrets.take("etc/letsencrypt", True) is Take.EMPTIED
    assert secrets.take("home", True) is Take.EMPTIED


def test_what_clients_make_for_themselves_is_told():
    rows = image_secrets().rows
    assert {row.pattern for row in rows if row.action is Action.MADE_BY_CLIENT} >= {
        "etc/ssh/ssh_host_*",
        "etc/iscsi/initiatorname.iscsi",
        "etc/nvme/hostid",
        "etc/ssl/private/ssl-cert-snakeoil.key",
    }


def test_every_row_of_the_list_has_its_own_pattern_and_a_reason():
    rows = image_secrets().rows
    assert len({row.pattern for row in rows}) == len(rows)
    assert all(row.reason for row in rows)


def test_a_path_that_an_omitted_exclusion_lets_in_is_free_of_its_row_and_said():
    omitted = image_excludes(None, iter(()), lines("home/*\netc/ssh/ssh_host_*\n", "OMIT_IMAGE_EXCLUDES")).omitted
    secrets = Secrets(image_secrets().rows, Exclusions(line.text for line in omitted))
    cleaned = clean(everything().select(secrets.take), secrets)
    assert "home/alice/.ssh/id_rsa" in paths(cleaned.tree)
    assert "root/.ssh/id_rsa" not in paths(cleaned.tree)
    said = {finding.path for finding in cleaned.let_in}
    assert said == {"home/.ecryptfs", "home/alice", *(path for path in GONE if path.startswith("etc/ssh/"))}


def test_an_odd_swap_file_is_matched_by_its_very_name():
    secrets = Secrets(image_secrets(swaps=["/data/a[1]*.swap"]).rows)
    assert secrets.take("data/a[1]*.swap", False) is Take.NOTHING
    assert secrets.take("data/a1x.swap", False) is Take.ALL


def test_rows_are_tuned_by_their_pattern():
    tuned = image_secrets(
        add=lines("K etc/ltsp  our own\nW etc/extra  look\n", "ADD_IMAGE_SECRETS"),
        omit=lines("etc/hostname\nX   etc/hostid\nX etc/nothing\n", "OMIT_IMAGE_SECRETS"),
    )
    by_pattern = {row.pattern: row for row in tuned.rows}
    assert by_pattern["etc/ltsp"].action is Action.KEPT
    assert by_pattern["etc/extra"].reason == "look"
    assert "etc/hostname" not in by_pattern
    assert "etc/hostid" not in by_pattern
    (warning,) = tuned.warnings
    assert warning.startswith("OMIT_IMAGE_SECRETS, line 3: X etc/nothing is not in the list")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("Q etc/x", "a row is an action"),
        ("X", "a row is an action"),
        ("F etc/x", "F=NAME is one of accounts"),
        ("F=magic etc/x", "F=NAME is one of accounts"),
        ("X=hosts etc/x", "X=NAME is one of none"),
        ("W=magic etc/x", "W=NAME is one of url-password"),
        ("X /etc/x", "/etc/x begins with /"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(row, fault):
    with pytest.raises(ConfError, match=re.escape(f"/etc/ltsp/image.secrets, line 2: {fault}")):
        image_secrets(lines(f"X etc/a  good\n{row}\n", "/etc/ltsp/image.secrets"))


def test_a_file_with_a_control_character_in_its_name_is_shown_safely():
    secrets = built_in()
    tree = planted({"etc/passwd": PASSWD, "opt/a\n\x1b[31m": File(Metadata(0o644), Bytes(b"x"))})
    (finding,) = clean(tree, secrets).findings
    assert str(finding) == "/opt/a\\n\\x1b[31m: licences and passwords of programs"
