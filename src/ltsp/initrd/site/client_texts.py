"""Texts that go to clients as they are: the heads of their files, and units and a script of ours."""

from __future__ import annotations

from typing import Final

HEAD: Final = "# Made by `ltsp initrd` from ltsp.conf on the server; changes here are gone after a restart.\n"
UNITS: Final = "usr/lib/systemd/system"
"""Not etc, so that a client can mask them there."""

SWAP_UNIT: Final = "ltsp-swap.service"
PRE_INIT: Final = "etc/ltsp/pre-init"
POST_INIT: Final = "etc/ltsp/post-init"

PARTS: Final = {
    "etc/hosts": {
        "00-local": HEAD + "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        "10-name": "127.0.1.1\t%{HOSTNAME}\n",
        "20-server": "%{SERVER}\tserver\n",
    },
    "etc/fstab": {"00-head": HEAD},
}

_POST_INIT_UNIT = """\
[Unit]
Description=Commands of ltsp.conf (POST_INIT_x)
Documentation=man:ltsp-initrd(8)
ConditionDirectoryNotEmpty=/etc/ltsp/post-init
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Before=sysinit.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=-/run/ltsp/facts
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/sh -c 'status=0; for each in /etc/ltsp/post-init/*; do /bin/sh "$$each" || { \
echo "$$each failed" >&2; status=1; }; done; exit $$status'

[Install]
WantedBy=sysinit.target
"""

_SWAP_UNIT = """\
[Unit]
Description=Swap on partitions of the client's own disks (LOCAL_SWAP)
Documentation=man:ltsp-initrd(8)
After=local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for each in $$(blkid -t TYPE=swap -o device); do case $$each in /dev/zram*) ;; \
*) swapon "$$each" || :;; esac; done'

[Install]
WantedBy=multi-user.target
"""

OWN_UNITS: Final = {"ltsp-post-init.service": _POST_INIT_UNIT, SWAP_UNIT: _SWAP_UNIT}
"""Those that are enabled for every client."""

_GETTY = """\
#!/bin/sh
# The console, for whom AUTOLOGIN names; where a display manager runs, that one does it. RELOGIN=0: only the first time.
user= again=
read -r user </etc/ltsp/autologin
read -r again </etc/ltsp/relogin
if [ -n "$user" ] && [ ! -e /etc/systemd/system/display-manager.service ] && getent passwd "$user" >/dev/null; then
    if [ "$again" != 0 ] || [ ! -e /run/ltsp/autologin ]; then
        : >/run/ltsp/autologin
        exec agetty --autologin "$user" --noclear "$1" "$2"
    fi
fi
exec agetty --noclear "$1" "$2"
"""

AUTOLOGIN_FILES: Final = {
    "usr/share/ltsp/getty": _GETTY,
    "etc/systemd/system/getty@tty1.service.d/ltsp-autologin.conf": HEAD
    + "[Service]\nExecStart=\nExecStart=-/bin/sh /usr/share/ltsp/getty %I $TERM\n",
}
