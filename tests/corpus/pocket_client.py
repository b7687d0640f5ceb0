"""A client without a machine: the real init as the first process of namespaces of its own, from its initrd to the
image's /sbin/init. The kernel is this machine's, of which it sees a copy of the command line and nothing to write to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from corpus.diskless import CLIENT

_SECONDS = 120
_START = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 initramfs "$1"   # switch_root empties nothing else
cp -a "$2/initrd/." "$1"
cd "$1"
mkdir -p dev proc sys image root
mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3
: >dev/console
: >dev/kmsg
mount -t proc proc proc
mount -o bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -o bind "$2/cmdline" proc/cmdline
mount -t tmpfs tmpfs sys
mount -o bind "$2/image" image
exec env -i "$(command -v chroot)" . /ltsp/init
"""
_INSTEAD = r"""
attach_root() { IMAGE_FILE=/image; }
sleep() { :; }
reboot() { exit 9; }
"""
"""No device is attached, nothing waits, and the machine keeps running."""
_SYSTEM = """#!/bin/sh
echo booted "$$"
echo "hostname $(cat /proc/sys/kernel/hostname)"
echo "path $PATH"
read -r motd </etc/motd
echo "motd $motd"
read -r pre </etc/pre
echo "pre-init $pre"
[ ! -L /etc/systemd/system/cron.service ] || echo "cron masked"
read -r fact </run/ltsp/facts
echo "facts $fact"
for left in LTSP PROC WORK NEWROOT; do eval "[ -z \\"\\${$left-}\\" ]" || echo "left $left"; done
"""
SITE = {
    "server": "",
    "common/env": "HOSTNAME='pocket'\n",
    "common/files/etc/motd": "hello\n",
    "common/files/etc/ltsp/pre-init/PRE_INIT_A": "echo ran >/etc/pre\n",
    "common/mask": "cron.service\n",
}
"""The site's configuration, by path below /ltsp/site."""


def make(directory: Path, busybox: Path, *, dash: bool = False, site: dict[str, str] | None = None) -> None:
    """Create initrd and image in the directory; with `dash`, that is used instead of busybox sh."""
    initrd, image = directory / "initrd", directory / "image"
    for path in ("ltsp/bin", "ltsp/sh", "dev"):
        (initrd / path).mkdir(parents=True)
    for path in ("bin", "sbin", "etc", "lib/systemd/system", "dev", "proc", "sys", "run"):
        (image / path).mkdir(parents=True)
    shutil.copy(CLIENT / "init", initrd / "ltsp/init")
    (initrd / "ltsp/init").chmod(0o755)
    for part in CLIENT.glob("*.sh"):
        shutil.copy(part, initrd / "ltsp/sh")
    with (initrd / "ltsp/sh/attach.sh").open("a") as file:
        file.write(_INSTEAD)
    (initrd / "ltsp/version").write_text(f"{os.uname().release}\n")
    for name in ("order", "dep", "alias"):
        (initrd / f"ltsp/modules.{name}").write_text("")
    for path, text in (SITE if site is None else site).items():
        (initrd / "ltsp/site" / path).parent.mkdir(parents=True, exist_ok=True)
        (initrd / "ltsp/site" / path).write_text(text)
    shutil.copy(busybox, initrd / "ltsp/bin/busybox")
    if dash:
        _lay_dash(initrd, image, busybox)
    shutil.copy(busybox, image / "bin/busybox")
    for name in ("sh", "cat"):
        (image / "bin" / name).symlink_to("busybox")
    (image / "lib/systemd/system/cron.service").write_text("[Service]\n")
    (image / "sbin/init").write_text(_SYSTEM)
    (image / "sbin/init").chmod(0o755)


def _lay_dash(initrd: Path, image: Path, busybox: Path) -> None:
    """Put dash and its libraries into both, and a script that starts dash or busybox in place of busybox."""
    dash = shutil.which("dash") or "dash"
    listed = subprocess.run(["ldd", dash], capture_output=True, text=True, check=True).stdout
    for root in (initrd, image):
        for library in re.findall(r"(/\S+)", listed):
            target = root / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
        (root / "shells").mkdir()
        shutil.copy(dash, root / "shells/dash")
        shutil.copy(busybox, root / "shells/busybox")
    (initrd / "ltsp/bin/busybox").write_text(
        "#!/shells/dash\n"
        '[ "$1" != sh ] || { shift; exec /shells/dash "$@"; }\n'
        '[ "$1" != --install ] || { shift; for name in $(/shells/busybox --list); do\n'
        '    [ "$name" = sh ] || [ "$name" = busybox ] || /shells/busybox ln /shells/busybox "$1/$name"\n'
        "done; exit; }\n"
        'exec /shells/busybox "$@"\n'
    )
    (initrd / "ltsp/bin/busybox").chmod(0o755)


def boot(directory: Path, words: str = "ltsp.root=file:/image") -> subprocess.CompletedProcess[str]:
    """The client's output and exit status, which is that of the image's init, or of the client that gave up."""
    (directory / "cmdline").write_text(f"{words}\n")
    (directory / "root").mkdir(exist_ok=True)
    # Other processes are killed with the first one.
    command = ["unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child"]
    return subprocess.run(
        [*command, "sh", "-c", _START, "start", directory / "root", directory],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=_SECONDS,
    )
