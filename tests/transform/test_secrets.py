"""The table of secrets: a canary at each of its rows, and the tuning of the list."""

import re
from dataclasses import replace

import pytest

from corpus.dict_tree import data, make_tree, paths
from ltsp.errors import ConfError
from ltsp.transform.cleanup import clean_tree
from ltsp.transform.exclude import Exclusions, tune_image_excludes
from ltsp.transform.rules import parse_lines
from ltsp.transform.secret_rows import Action, tune_image_secrets
from ltsp.transform.secrets import Secrets
from ltsp.tree.content import Bytes
from ltsp.tree.node import File, Metadata
from ltsp.tree.selection import Inclusion, combine_selections

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
    boot/firstrun.sh boot/wpa_supplicant.conf boot/firmware/userconf.txt boot/firmware/user-data
    boot/firmware/network-config
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
    etc/security/opasswd.old var/lib/AccountsService/icons/alice etc/userdb/alice.user etc/tcb/alice/shadow
    var/lib/extrausers/shadow- var/lib/misc/shadow.db var/db/passwd.db var/cache/nscd/passwd var/db/nscd/passwd
    var/lib/systemd/tpm2-srk-public-key.pem etc/lvm/backup/vg etc/mdadm.conf
    etc/iscsi/nodes/a/default .swapfile var/swapfile var/swap.img swap/swapfile pagefile.sys
    var/lib/swapspace/8 etc/ssl/certs/ssl-cert-snakeoil.pem etc/veyon/keys/private/teacher/key
    etc/italc/keys/private/teacher/key .Trash-1000/files/a .Trash/1000/files/a etc/wpa_supplicant.conf
    etc/hostapd/hostapd.conf etc/nebula/host.key etc/openfortivpn/config etc/vpnc/a.conf etc/tinc/a/rsa_key.priv
    etc/http.keytab etc/security/keytabs/a etc/samba/smbpasswd etc/samba/secrets.tdb etc/dovecot/private/dovecot.pem
    etc/dbconfig-common/a.conf etc/phpmyadmin/config-db.php etc/postfix/sasl/sasl_passwd.db
"""
_OF_TOOLS = """
    timeshift/snapshots/2026-01-05_10-00-01/localhost/etc/shadow timeshift-btrfs/snapshots/a/@/etc/shadow
    .snapshots/1/snapshot/etc/shadow @snapshots/1/snapshot/etc/shadow var/.snapshots/1/snapshot/lib/a
    btrbk_snapshots/@.20260105/etc/shadow _btrbk_snap/@.20260105/etc/shadow @apt-snapshot-2026-01-05/etc/shadow
    ostree/repo/objects/00/a.file sysroot/ostree/repo/objects/00/a.file boot/lost+found/#12 usr/lost+found/#12
    .zfs/snapshot/a/etc/shadow
    var/lib/snapd/snapshots/1_firefox.zip var/lib/snapd/cache/a casper-rw
    var/cache/rsnapshot/daily.0/localhost/etc/shadow backintime/host/root/1/last_snapshot/backup/etc/shadow
    etc/backintime/config etc/borgmatic/config.yaml etc/borgmatic.d/a.yaml var/lib/borg/repo/data/0/1
    etc/restic/password var/lib/restic/data/00/a var/cache/restic/a/index/b etc/duply/home/conf
    var/cache/duplicity/a/b.sigtar var/lib/backuppc/pc/a/0/fetc etc/backuppc/config.pl bacula/backup/vol1
    etc/bacula/bacula-dir.conf etc/bareos/bareos-dir.d/a var/lib/bacula/a etc/amanda/daily/disklist
    var/lib/amanda/vtapes/a var/spool/burp/a/current/data etc/burp/burp.conf var/urbackup/a/b
    var/lib/urbackup/server_ident.priv etc/backup.d/20.mysql var/lib/automysqlbackup/daily/a
    var/lib/autopostgresqlbackup/a var/lib/docker-engine/a var/snap/docker/common/var-lib-docker/a var/lib/nerdctl/a
    var/lib/buildkit/a var/lib/containers/storage/overlay/a/diff/etc/shadow etc/containers/auth.json var/lib/cni/a
    var/lib/lxc/web/rootfs/etc/shadow var/cache/lxc/debian/a var/snap/lxd/common/lxd/disks/default.img
    var/cache/incus/a var/lib/machines.raw var/lib/kubelet/pki/a etc/rancher/k3s/k3s.yaml
    var/lib/rancher/k3s/server/token var/lib/etcd/member/a var/snap/microk8s/common/var/lib/a
    var/lib/libvirt/qemu/save/vm.save var/lib/libvirt/swtpm/a/tpm2 var/lib/libvirt/boot/a etc/libvirt/qemu/vm.xml
    var/lib/xen/save/a var/lib/vz/images/100/a var/lib/virtualbox/vm.vdi var/lib/VirtualBox/vm.vdi
    var/snap/multipass/common/data/a var/lib/multipass/a vagrant/Vagrantfile var/lib/schroot/chroots/sid/etc/shadow
    var/lib/schroot/union/overlay/a var/lib/sbuild/sbuild-key.sec var/cache/sbuild/a.tar var/cache/pbuilder/base.tgz
    var/cache/pbuilder/base.cow/etc/shadow var/lib/mock/a/root/etc/shadow var/cache/mock/a/root_cache/a
    var/cache/mkosi/a var/lib/osbuild-composer/a var/cache/osbuild-worker/a var/cache/kiwi/a
    var/lib/cobbler/settings etc/cobbler/settings.yaml var/spool/apt-mirror/mirror/a var/cache/apt-cacher-ng/a
    var/cache/approx/a var/lib/mysql-files/a var/lib/mysql-keyring/keyring var/lib/pgsql/data/a
    var/lib/valkey/dump.rdb etc/valkey/valkey.conf var/lib/mongo/a var/lib/mongodb/a var/lib/influxdb/a
    var/lib/prometheus/a var/lib/grafana/grafana.db var/lib/elasticsearch/a var/lib/opensearch/a
    var/lib/rabbitmq/.erlang.cookie etc/gitlab/gitlab-secrets.json var/opt/gitlab/a etc/gitea/app.ini
    etc/forgejo/app.ini var/lib/gitea/a var/lib/forgejo/a
"""
"""Of the table of tools; below, those whose names have blanks, and those that settings files name."""
NAMING = {
    "etc/docker/daemon.json": '{"data-root": "/data/docker"}',
    "var/snap/docker/current/config/daemon.json": '{"graph": "/data/old//docker/"}',
    "etc/containerd/config.toml": 'version = 2\nroot = "/data/containerd"  # moved\n',
    "etc/containers/storage.conf": '[storage]\ngraphroot = "/data/containers"\n#imagestore = "/opt"\n',
    "etc/lxc/lxc.conf": "lxc.lxcpath = /data/lxc\n",
    "etc/fstab": (
        f"UUID=1 / btrfs subvol=@ 0 0 # {CANARY}\n/data/swap/one none swap defaults 0 0\n"
        "/data/swap\\040two none swap sw,pri=5\n"
        "#/opt/key none swap\n/dev/sda2 none swap\n/usr none swap\n/data none swap\n"
        "//nas/a /mnt/a cifs ro,credentials=/data/nas.credentials,uid=0 0 0\n"
        "//nas/b /mnt/b cifs cred=/data/other\\040one\n"
        "nas:/ /mnt/c ceph name=a,secretfile=/data/ceph.secret\n"
        "a@nas:/ /mnt/d fuse.sshfs IdentityFile=/data/nas.key,_netdev\n"
        "#//nas/e /mnt/e cifs credentials=/opt/key\n"
        "//nas/f /mnt/f cifs credentials=/usr/bin/true,nocredentials=/opt/key\n"
    ),
    "etc/crypttab": (
        f"# {CANARY}\na UUID=1 /data/disk.key luks,discard\nb /dev/sdb2 none luks\nc /dev/sdc - \n"
        "swap /dev/sdd1 /dev/urandom swap\nd /dev/sdd2 /opt/key:UUID=2\ne /dev/sde\n#f UUID=3 /opt/key\n"
    ),
    "etc/my.cnf": "[client]\nsocket=/opt/key\n[mysqld]\ndatadir=/data/mysql\n",
    "etc/my.cnf.d/server.cnf": "[mysqld]\ndatadir\t=  '/data/mysql one'  # moved\n#datadir=/opt\n",
    "etc/mysql/mariadb.conf.d/50-server.cnf": "[mariadb]\ndatadir = /data/mariadb/\n",
    "etc/postgresql/15/main/postgresql.conf": "data_directory = '/data/postgresql'\t# (change requires restart)\n",
    "etc/mongod.conf": "storage:\n  dbPath: /data/mongodb\n",
    "etc/ldap/slapd.conf": 'database mdb\ndirectory\t"/data/ldap"\n',
    "etc/openldap/slapd.d/cn=config/olcDatabase={1}mdb.ldif": "olcDbDirectory: /data/openldap\n",
    "etc/redis/redis.conf": f"requirepass {CANARY}\ndir /data/redis\n# dir /opt/key\ndir ./\n",
    "etc/redis.conf": 'DIR "/data/redis-old"\n',
    "etc/valkey/valkey.conf": "  dir '/data/valkey/'\ndirs /opt/key\n",
    "etc/elasticsearch/elasticsearch.yml": "path.data: /data/elastic\npath.logs: /opt/key\n",
    "etc/opensearch/opensearch.yml": "path.data: /data/opensearch  # moved\n",
    "etc/libvirt/storage/pool.xml": (
        "<pool type='dir'>\n  <source><path>/opt/key</path></source>\n"
        "  <target>\n    <path>/data/pool</path>\n    <permissions/></target>\n</pool>\n"
    ),
    "etc/libvirt/storage/more.xml": "<pool><target><path>/data/pool &amp; more</path></target></pool>\n",
    "etc/libvirt/storage/devices.xml": "<pool type='disk'><target><path>/dev</path></target></pool>\n",
    "etc/libvirt/qemu/a.xml": (
        "<disk type='file'><source file='/data/machines/b.qcow2' index='1'/></disk>\n"
        "<disk type='file'><source file='/usr/bin/true'/></disk><disk><source dev='/opt/key'/></disk>\n"
    ),
    "etc/systemd/system/data-three.swap": "[Swap]\nWhat=/data/three\n",
    "usr/lib/systemd/system/data-four.swap": "[Swap]\nWhat = /data/four\n",
    "etc/dphys-swapfile": "#CONF_SWAPFILE=/opt/key\nCONF_SWAPFILE=/data/five\nCONF_SWAPSIZE=100\n",
}
_NAMED_PLACES = """
    data/docker/overlay2/a data/old/docker/a data/containerd/a data/containers/overlay/a data/lxc/web/rootfs/etc/shadow
    data/swap/one data/three data/four data/five data/nas.credentials data/ceph.secret data/nas.key data/disk.key
    data/mysql/ibdata1 data/mariadb/ibdata1 data/postgresql/base/1/1 data/mongodb/a data/ldap/data.mdb
    data/openldap/data.mdb people/carol/a data/redis/dump.rdb data/redis-old/dump.rdb data/valkey/dump.rdb
    etc/redis.conf data/pool/a.qcow2 data/machines/b.qcow2 data/elastic/a data/opensearch/a usr/home/ivy/a var/home/jo/a
    opt/homes/kim/a people/extra/a
"""
GONE = [
    *_GONE.split(),
    *_OF_TOOLS.split(),
    *_NAMED_PLACES.split(),
    "data/swap two",
    "data/other one",
    "data/pool & more/c.qcow2",
    "data/mysql one/ibdata1",
    "var/lib/vmware/Virtual Machines/a.vmdk",
    "var/lib/vmware/Shared VMs/a.vmdk",
]
CONTAINER = "var/lib/containers/storage/overlay/a"
_EMPTIED = """
    etc/crypttab var/log/syslog var/log/auth.log var/log/.hidden var/cache/debconf/passwords.dat
    var/cache/debconf/config.dat
"""
EMPTIED = _EMPTIED.split()
REWRITTEN = {
    "etc/passwd": PASSWD + f"alice:x:1000:1000:{CANARY}:/home/alice:\nbob:{CANARY}:5:5::/:\n"
    "carol:x:60000:100::/people/carol/:\ndora:x:1003:100::/opt/vendor:/bin/sh\nerin:x:60001:100::/data:\n"
    "fay:x:999:100::/data:\ngus:x:1004:100::/:/bin/sh\nhal:x:1005:100::relative\n:::::\n"
    "ivy:x:1006:100::/usr/home/ivy:\njo:x:1007:100::/var/home/jo/:\nkim:x:1008:100::/opt/homes/kim:\n",
    "etc/group": f"root:x:0:\nadm:{CANARY}:4:\nalice:x:1000:{CANARY}\n",
    "etc/shadow": f"root:$6$a${CANARY}:1::::::\n",
    "etc/gshadow": f"root:$6$a${CANARY}::\n",
    "etc/subuid": "alice:1:2\n",
    "etc/subgid": "alice:1:2\n",
    "var/lib/extrausers/passwd": f"carol:x:1001:1001:{CANARY}:/people/extra:/bin/sh\n",
    "var/lib/extrausers/group": f"carol:x:1001:{CANARY}\n",
    "var/lib/extrausers/shadow": f"carol:$6$a${CANARY}:1::::::\n",
    "var/lib/extrausers/gshadow": f"carol:$6$a${CANARY}::\n",
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
    etc/sssd/conf.d/a.conf etc/nginx/.htpasswd
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
    "etc/netplan/01-wifi.yaml": f"wifis:\n  w:\n    access-points:\n      school:\n        password: {CANARY}\n",
    "etc/systemd/network/wg0.netdev": f"[WireGuard]\nPrivateKey = {CANARY}\n",
    "etc/nginx/ssl/site.key": f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n",
    "etc/apache2/both.pem": f"-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n{CANARY}\n",
    "etc/msmtprc": f"account a\npassword {CANARY}\n",
    "etc/ssmtp/ssmtp.conf": f"mailhub=a\nAuthPass={CANARY}\n",
    "etc/yum.repos.d/a.repo": f"baseurl=https://user:{CANARY}@repo.example/\n",
}
KEPT = ["var/lib/dpkg/status", "var/lib/dpkg/info/a.list", "var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/.rpm.lock"]


def everything():
    plain = dict.fromkeys([*GONE, *EMPTIED, *NAMED, *KEPT], f"{CANARY}\n")
    return make_tree(plain | REWRITTEN | TESTED | NAMING | {"etc/sudoers.d/README": "read me\n"})


def built_in(**tuning):
    return Secrets(tune_image_secrets(swaps=["data/active.swap"], **tuning).rows).add_named_places(everything())


def holding(tree):
    return {path for path in paths(tree) if CANARY.encode() in (data(tree, path) or b"")}


def test_there_are_enough_canaries():
    assert len(GONE) + len(EMPTIED) + len(REWRITTEN) + len(NAMED) + len(TESTED) >= 300


def test_each_row_that_leaves_something_out_has_a_canary():
    rows = built_in().rows
    goes = [row for row in rows if row.action in {Action.LEFT_OUT, Action.MADE_BY_CLIENT}]
    assert [str(row) for row in goes if not any(map(Secrets([row]).find_rule, GONE))] == []


def test_each_row_for_what_a_settings_file_names_has_such_a_file():
    naming = [row for row in tune_image_secrets().rows if row.action is Action.LISTS_PATHS]
    going = {row: Secrets([replace(row, action=Action.LEFT_OUT, name="")]) for row in naming}
    assert [str(row) for row, secrets in going.items() if not any(map(secrets.find_rule, [*NAMING, *REWRITTEN]))] == []


def test_what_settings_files_name_is_left_out_only_where_it_is_what_they_mean():
    named = {row.pattern for row in built_in().rows if row.derived_from and row.action is Action.LEFT_OUT}
    assert named == {
        "data/active.swap",
        *("data/docker", "data/old/docker", "data/containerd", "data/containers", "data/lxc"),
        *("data/swap/one", "data/swap two", "data/three", "data/four", "data/five"),
        *("data/nas.credentials", "data/other one", "data/ceph.secret", "data/nas.key", "data/disk.key"),
        *("data/mysql", "data/mysql one", "data/mariadb", "data/postgresql", "data/mongodb"),
        *("data/ldap", "data/openldap", "data/redis", "data/redis-old", "data/valkey"),
        *("data/pool", "data/pool & more", "data/machines/b.qcow2", "data/elastic", "data/opensearch"),
        *("people/carol", "people/extra", "usr/home/ivy", "var/home/jo", "opt/homes/kim"),
    }


@pytest.mark.parametrize(
    ("login_defs", "gone"),
    [
        ({}, {"data/b"}),
        ({"etc/login.defs": "UID_MIN 500\n"}, {"data/a", "data/b", "usr/home/a"}),
        ({"etc/login.defs": "UID_MIN\t2000\nUID_MAX 70000 # all\n"}, {"data/c"}),
        ({"usr/etc/login.defs": "UID_MIN 500\n", "etc/login.defs": "UID_MIN 501\n"}, {"data/b"}),
    ],
)
def test_people_are_those_of_the_image_s_own_login_defs(login_defs, gone):
    accounts = "a:x:500:1::/data/a:\nA:x:500:1::/usr/home/a:\nb:x:1000:1::/data/b:\nc:x:65000:1::/data/c:\n"
    homes = dict.fromkeys(["data/a/x", "data/b/x", "data/c/x", "usr/home/a/x"], "x")
    rows = (
        Secrets(tune_image_secrets().rows)
        .add_named_places(make_tree({"etc/passwd": accounts} | homes | login_defs))
        .rows
    )
    assert {row.pattern for row in rows if row.derived_from and row.action is Action.LEFT_OUT} == gone


def test_a_home_that_contains_programs_stays_and_is_named():
    accounts = "root:x:0:0::/root:\na:x:1000:1::/var/lib/a/:\nb:x:999:1::/var/lib/b:\nc:x:1001:1::/usr/lib:\n"
    tree = make_tree({"etc/passwd": accounts, "var/lib/a/x": "x", "var/lib/b/x": "x", "usr/lib/x": "x"})
    secrets = Secrets(tune_image_secrets().rows).add_named_places(tree)
    cleaned = clean_tree(tree.select(secrets.select_path), secrets)
    assert data(cleaned.tree, "var/lib/a/x") == b"x"
    (finding,) = cleaned.findings
    reason = "home of a user with an ordinary UID whose account is not in the image"
    assert str(finding) == f"/var/lib/a: {reason}"


def test_settings_in_what_is_emptied_are_read_before():
    """`etc/redis` has passwords, and says where the data are."""
    assert Secrets(tune_image_secrets().rows).find_emptied_settings_directories() == {"etc/redis", "etc/valkey"}


def test_what_an_omitted_row_lets_in_stays_though_settings_name_it_too():
    tree = make_tree({"etc/containers/storage.conf": 'graphroot = "/var/lib/containers/storage"\n'} | {CONTAINER: "a"})
    tuned = tune_image_secrets(omit=parse_lines("var/lib/containers\n", "OMIT_IMAGE_SECRETS"))
    assert Secrets(tuned.rows, omitted=tuned.omitted).add_named_places(tree).find_rule(CONTAINER) is None
    assert Secrets(tuned.rows).add_named_places(tree).find_rule(CONTAINER) is not None


@pytest.mark.parametrize(
    "text", ["", "[", "[1]", '{"data-root": 5}', '{"data-root": "/"}', '{"data-root": "relative"}', "[" * 100_000]
)
def test_a_settings_file_that_names_nothing_sensible_leaves_nothing_out(text):
    tree = make_tree({"etc/docker/daemon.json": text, "relative/a": "a", "usr/a": "a"})
    secrets = Secrets(tune_image_secrets().rows)
    assert secrets.add_named_places(tree) is secrets


def test_no_canary_is_left_that_is_not_named_by_the_table_alone():
    """Without any exclusions: the table holds on its own."""
    secrets = built_in()
    cleaned = clean_tree(everything().select(secrets.select_path), secrets)
    assert holding(cleaned.tree) == {*NAMED, *TESTED, *KEPT}


def test_no_canary_is_left_that_is_not_named_by_a_real_run():
    secrets = built_in()
    exclusions = Exclusions(line.text for line in tune_image_excludes(None, iter(()), iter(())).lines)
    cleaned = clean_tree(everything().select(combine_selections(exclusions.select_path, secrets.select_path)), secrets)
    assert holding(cleaned.tree) == {*NAMED, *TESTED, *KEPT}


def test_each_canary_that_stays_is_named():
    secrets = built_in()
    cleaned = clean_tree(everything().select(secrets.select_path), secrets)
    named = [finding.path for finding in cleaned.findings]
    for path in [*NAMED, *TESTED]:
        assert any(path == found or path.startswith(found + "/") for found in named), path
    assert named == sorted(named)
    assert "etc/sudoers.d/README" not in named


@pytest.mark.parametrize("path", GONE)
def test_each_path_that_is_left_out_has_a_row(path):
    assert built_in().find_rule(path) is not None


@pytest.mark.parametrize("path", KEPT)
def test_the_package_database_stays_whatever_a_row_says(path):
    secrets = built_in(add=parse_lines("X var/lib/*  everything\n", "ADD_IMAGE_SECRETS"))
    assert secrets.select_path("var/lib", True) is Inclusion.ALL
    assert secrets.select_path("var/lib/other", True) is Inclusion.EMPTIED
    assert secrets.select_path(path, False) is Inclusion.ALL


def test_directories_that_are_left_out_stay_empty():
    secrets = built_in()
    kept = paths(everything().select(secrets.select_path))
    assert {"var/lib/mysql", "etc/letsencrypt", "home", "var/spool/cron/crontabs", "var/log/apt", "etc/munge"} <= kept
    assert secrets.select_path("etc/letsencrypt", True) is Inclusion.EMPTIED
    assert secrets.select_path("home", True) is Inclusion.EMPTIED


def test_what_clients_create_for_themselves_is_reported():
    rows = tune_image_secrets().rows
    assert {row.pattern for row in rows if row.action is Action.MADE_BY_CLIENT} >= {
        "etc/ssh/ssh_host_*",
        "etc/iscsi/initiatorname.iscsi",
        "etc/nvme/hostid",
        "etc/ssl/private/ssl-cert-snakeoil.key",
    }


def test_every_row_of_the_list_has_its_own_pattern_and_a_reason():
    rows = tune_image_secrets().rows
    own = [row for row in rows if row.action is not Action.LISTS_PATHS]
    assert len({row.pattern for row in own}) == len(own)
    assert all(row.reason for row in rows)


def test_a_path_that_an_omitted_exclusion_lets_in_is_free_of_its_row_and_said():
    omitted = tune_image_excludes(
        None, iter(()), parse_lines("home/*\netc/ssh/ssh_host_*\n", "OMIT_IMAGE_EXCLUDES")
    ).omitted
    secrets = Secrets(tune_image_secrets().rows, Exclusions(line.text for line in omitted))
    cleaned = clean_tree(everything().select(secrets.select_path), secrets)
    assert "home/alice/.ssh/id_rsa" in paths(cleaned.tree)
    assert "root/.ssh/id_rsa" not in paths(cleaned.tree)
    said = {finding.path for finding in cleaned.readmitted}
    assert said == {"home/.ecryptfs", "home/alice", *(path for path in GONE if path.startswith("etc/ssh/"))}


def test_an_odd_swap_file_is_matched_by_its_very_name():
    secrets = Secrets(tune_image_secrets(swaps=["/data/a[1]*.swap"]).rows)
    assert secrets.select_path("data/a[1]*.swap", False) is Inclusion.NOTHING
    assert secrets.select_path("data/a1x.swap", False) is Inclusion.ALL


def test_rows_are_tuned_by_their_pattern():
    tuned = tune_image_secrets(
        add=parse_lines("K etc/ltsp  our own\nW etc/extra  look\n", "ADD_IMAGE_SECRETS"),
        omit=parse_lines("etc/hostname\nX   etc/hostid\nX etc/nothing\n", "OMIT_IMAGE_SECRETS"),
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
        ("Q etc/x", "expected an action"),
        ("X", "expected an action"),
        ("F etc/x", "F=NAME must be one of accounts"),
        ("F=magic etc/x", "F=NAME must be one of accounts"),
        ("X=hosts etc/x", "X takes no =NAME"),
        ("W=magic etc/x", "W=NAME must be one of added, hashes, keytab, password, private-key, url-password"),
        ("X /etc/x", "/etc/x must not begin with /"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(row, fault):
    with pytest.raises(ConfError, match=re.escape(f"/etc/ltsp/image.secrets, line 2: {fault}")):
        tune_image_secrets(parse_lines(f"X etc/a  good\n{row}\n", "/etc/ltsp/image.secrets"))


def test_a_file_with_a_control_character_in_its_name_is_shown_safely():
    secrets = built_in()
    tree = make_tree({"etc/passwd": PASSWD, "opt/a\n\x1b[31m": File(Metadata(0o644), Bytes(b"x"))})
    (finding,) = clean_tree(tree, secrets).findings
    assert str(finding) == "/opt/a\\n\\x1b[31m: not from any package; may hold a licence or passwords"
