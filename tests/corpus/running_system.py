"""`ltsp` on a machine whose `/` is another directory, with file systems of its own mounted in it.

A private mount namespace is made, the machine's root mounted there, and the program calls chroot(2)
once it is loaded. What it is loaded from, Python's library too, lies in the new root's /run, which no image takes in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from corpus.site import SOURCE

_SET_UP = r"""
set -e
root=$1 lower=$2 work=$3 source=$4
shift 4
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" "$root"
while [ "$1" != -- ]; do
    mkdir -p "$root/$2"
    mount -o loop "$1" "$root/$2"
    shift 2
done
shift
export root
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/ltsp"
mount --bind "$source" "$root/run/ltsp"
for library in python site; do
    mkdir "$root/run/$library"
    eval "mount --bind \"\$$library\" \"$root/run/$library\""
done
cp "$busybox" "$root/run/busybox"
mount --rbind "$root/run" /run
ltsp() { "$interpreter" -c "$program" "$root" "$@"; }
. "$1"
"""

_PROGRAM = """
import bz2, ctypes, hashlib, lzma, os, ssl, sys, zlib  # their C libraries go out of sight
import lz4.block
import ltsp.cli.main

os.chroot(sys.argv[1])
os.chdir("/root")
# Any other part is found where it is in sight, also by packages that are loaded already.
def moved(path):
    for old, new in ((os.environ["python"], "/run/python"), (os.environ["site"], "/run/site")):
        if path.startswith(old):
            return new + path.removeprefix(old)
    return path
sys.path[:] = map(moved, sys.path)
for module in list(sys.modules.values()):
    if "__path__" in vars(module):
        module.__path__ = [*map(moved, module.__path__)]
sys.path_importer_cache.clear()
sys.exit(ltsp.cli.main.run(sys.argv[2:], os.environ))
"""


def run_chrootless(
    lower: Path, scratch: Path, file_systems: Mapping[str, Path], script: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell script that finds `ltsp`, whose `/` is a copy-on-write view of `lower`, which is `$root` here.

    `file_systems` are files that hold one, by where they are mounted. The script ends at the first failure.
    """
    root, work = scratch / "machine", scratch / "cow"
    for directory in (root, work):
        directory.mkdir(exist_ok=True)
    (scratch / "script").write_text(script)
    mounts = [word for path, image in file_systems.items() for word in (str(image), path)]
    return subprocess.run(
        [
            *("unshare", "--mount", "--propagation=private", "sh", "-c", _SET_UP, "sh"),
            *(str(root), str(lower), str(work), str(SOURCE), *mounts, "--", str(scratch / "script")),
        ],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": "/run/ltsp",
            "LANG": "C.UTF-8",
            "HOME": "/root",
            "interpreter": sys.executable,
            "python": sysconfig.get_path("stdlib"),
            "site": sysconfig.get_path("purelib"),
            "program": _PROGRAM,
            "busybox": shutil.which("busybox") or "",
            "BUSYBOX": "/run/busybox",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=900,
    )


def file_system(image: Path, content: Path, megabytes: int) -> Path:
    """An ext4 file system in a file, with the content of a directory."""
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", content, image, f"{megabytes}M"], check=True)
    return image
