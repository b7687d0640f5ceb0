"""A small directory that every rule takes for an installed Linux system, with a kernel, accounts and logs."""

from __future__ import annotations

import os
from pathlib import Path

VERSION = "6.1.0-18-amd64"
KERNEL = "\x7fELF" + "kernel " * 1000
"""It begins as one of some form does, and states no version."""

BUILT_IN = (
    *("fs/overlayfs/overlay", "fs/squashfs/squashfs", "drivers/block/loop", "drivers/block/nbd", "fs/nfs/nfs"),
    *("fs/nfs/nfsv3", "fs/nfs/nfsv4", "net/packet/af_packet", "drivers/net/ethernet/realtek/r8169"),
)
"""What the kernel has within itself, so that the system can be booted without modules."""


def configuration(*codecs: str) -> str:
    """Of a kernel that clients can boot, with these compressions of squashfs as its Kconfig names them."""
    options = ("SQUASHFS", "BLK_DEV_INITRD", "DEVTMPFS", "TMPFS", "RD_ZSTD", *(f"SQUASHFS_{codec}" for codec in codecs))
    return "".join(f"CONFIG_{option}=y\n" for option in options)


FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/bash\n"
        "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        "alice:x:1000:1000:Alice:/home/alice:/bin/bash\n"
    ),
    "etc/group": "root:x:0:\ndaemon:x:1:\nsudo:x:27:alice\nalice:x:1000:\n",
    "etc/shadow": "root:$6$salt$hash:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nalice:$y$j9T$a$b:19000::::::\n",
    "etc/gshadow": "root:*::\ndaemon:*::\nsudo:*::alice\nalice:!::\n",
    "etc/login.defs": "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\n",
    "etc/hostname": "server\n",
    "etc/fstab": "UUID=1 / ext4 defaults 0 1\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/os-release": 'PRETTY_NAME="Test system"\nID=debian\n',
    "etc/ssh/ssh_host_ed25519_key": "-----BEGIN OPENSSH PRIVATE KEY-----\n",
    "home/alice/notes": "private\n",
    "home/.hidden/notes": "private\n",
    "var/log/syslog": "a line\n",
    "var/lib/dpkg/status": (
        "Package: base-files\nStatus: install ok installed\nVersion: 12.4\nArchitecture: amd64\n\n"
        "Package: linux-image\nStatus: install ok installed\nVersion: 6.1.0\nArchitecture: amd64\n\n"
    ),
    "usr/bin/tool": "#!/bin/sh\n",
    f"boot/vmlinuz-{VERSION}": KERNEL,
    f"boot/initrd.img-{VERSION}": "initrd " * 3000,
    f"boot/config-{VERSION}": configuration("ZLIB", "LZ4", "LZO", "XZ", "ZSTD"),
    f"lib/modules/{VERSION}/modules.dep": "",
    f"lib/modules/{VERSION}/modules.builtin": "".join(f"kernel/{path}.ko\n" for path in BUILT_IN),
}
DIRECTORIES = ("proc", "sys", "dev", "run", "tmp", "mnt", "root", "srv", "usr/lib", "opt")


def make_system(root: Path, files: dict[str, str] | None = None) -> Path:
    """Lay the system out below `root`, with `files` added or replacing its own, and return `root`."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in (FILES | (files or {})).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "etc/shadow").chmod(0o640)
    (root / "usr/bin/tool").chmod(0o4755)
    os.symlink(f"boot/vmlinuz-{VERSION}", root / "vmlinuz")
    os.symlink(f"boot/initrd.img-{VERSION}", root / "initrd.img")
    return root
