"""From `ltsp image`, `ltsp initrd` and `ltsp ipxe` on a server to somebody at a client's console, by the real menu."""

from __future__ import annotations

import pytest

from corpus.classroom import CONSOLE, HASH, PASSWORD, Classroom
from corpus.client_console import MAC, start_client

pytestmark = [pytest.mark.boot, pytest.mark.root, pytest.mark.timeout(1200)]

CONF = f"""\
[clients]
{CONSOLE}
DNS_SERVER="192.0.2.53 192.0.2.54"
SEARCH_DOMAIN=lab.example
CRONTAB_OFF="30 15 * * * root poweroff"
KEEP_SYSTEM_SERVICES=dpkg-db-backup
HOSTNAME=pc%{{IP}}

[{MAC}]
HOSTNAME=desk7
MASK_SYSTEM_SERVICES=systemd-pstore
DISABLE_SYSTEM_SERVICES=remote-fs.target
FSTAB_SCRATCH="scratch /scratch tmpfs size=8M,mode=1777 0 0"
POST_INIT_NOTE="echo $MAC on $IMAGE >/run/note"
PASSWORDS_LAB='alice/{HASH}'

[52:54:00:99:*]
HOSTNAME=elsewhere
MASK_SYSTEM_SERVICES=dbus
"""
PEOPLE = "root:x:0:0:root:/root:/bin/bash\nalice:x:5001:5001:Alice:/home/alice:/bin/bash\n"
GROUPS = "root:x:0:\naudio:x:29:alice\nalice:x:5001:\npupils:x:6000:alice\n"


def test_a_user_of_the_server_logs_in_on_a_client_configured_by_ltsp_conf(debian_root, tmp_path):
    room = Classroom.make(tmp_path, debian_root)
    room.publish()
    room.configure(CONF, PEOPLE, GROUPS)
    with room.open(), start_client(room.site.tftp) as desk:
        desk.log_in("alice", PASSWORD)
        assert desk.run("findmnt -n -o FSTYPE /") == "overlay"
        assert desk.run("id") == "uid=5001(alice) gid=5001(alice) groups=5001(alice),29(audio),6000(pupils)"
        assert desk.run("getent passwd alice") == "alice:x:5001:5001:Alice:/home/alice:/bin/bash"
        assert desk.run("hostname; hostname -f") == "desk7\ndesk7.lab.example"
        assert desk.run("systemctl is-enabled systemd-pstore remote-fs.target || :") == "masked\ndisabled"
        assert desk.run("systemctl is-active dpkg-db-backup.timer apt-daily.timer || :") == "active\ninactive"
        assert desk.run("systemctl is-active dbus") == "active"
        assert desk.run("findmnt -n -o FSTYPE,SIZE /scratch").split() == ["tmpfs", "8M"]
        assert desk.run("grep -v '^#' /etc/resolv.conf").splitlines() == [
            *("nameserver 192.0.2.53", "nameserver 192.0.2.54", "search lab.example")
        ]
        assert desk.run("tail -n 1 /etc/cron.d/ltsp") == "30 15 * * * root poweroff"
        assert desk.run("cat /run/note") == f"{MAC} on lab"
        assert desk.run("systemctl is-system-running --wait") == "running"
        # The image has no manager of networks enabled, and somebody has to keep the lease.
        leased = "Address: 10.0.2.15 (DHCPv*4 via 10.0.2.2)"  # DHCPv4 in newer releases
        desk.run(f"until networkctl status eth0 | grep -q '{leased}'; do sleep 1; done")
