"""A menu made by hand or by an earlier release, with the old paths of kernel and initrds."""

from __future__ import annotations

import pytest

from corpus.classroom import CONSOLE, HASH, PASSWORD, Classroom
from corpus.client_console import start_client

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1200)]

CONF = f"[clients]\n{CONSOLE}HOSTNAME=pc3\nPASSWORDS_ROOT='root/{HASH}'\n"
MENU = """\
#!ipxe
set method root=/dev/nfs nfsroot=${{next-server}}:{base} ltsp.image=images/lab.img loop.max_part=9
kernel /ltsp/lab/vmlinuz initrd=ltsp.img initrd=initrd.img ${{method}} console=tty0 console=ttyS0 quiet
initrd /ltsp/ltsp.img
initrd /ltsp/lab/initrd.img
boot
"""


def test_an_old_menu_boots_the_current_image_with_its_settings(debian_root, tmp_path):
    room = Classroom.make(tmp_path, debian_root)
    menu = room.site.tftp / "ltsp/ltsp.ipxe"
    room.publish()
    menu.write_text(MENU.format(base=room.site.base))
    room.configure(CONF, OVERWRITE="0")
    assert menu.read_text() == MENU.format(base=room.site.base)
    said = room.site.ltsp("nfs", "--dry-run")
    assert f"{menu} mount {room.site.base}, which is not exported: delete that menu, or run ltsp nfs" in said.stderr
    assert f"\n{room.site.base} " in room.site.ltsp("nfs", "--export=base", "--dry-run").stdout
    with room.open(below=""), start_client(room.site.tftp, memory=1024) as desk:
        desk.log_in("root", PASSWORD)
        assert desk.run("findmnt -n -o FSTYPE /; hostname") == "overlay\npc3"
        assert "ltsp.image=images/lab.img" in desk.run("cat /proc/cmdline")
        assert desk.run("sed -n s/^IMAGE=//p /run/ltsp/facts") == "lab"
        assert desk.run("systemctl is-system-running --wait") == "running"
