"""The demonstration: from an empty directory to a published image that other programs read back without differences,
and that a diskless machine boots to its login prompt.

All files are in ./demo, and a second run reuses the root file system of the first. Needs root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corpus import tree_snapshot
from tools.debian_root import CHECKOUT, make, this_release

DEMO = Path("demo")
MOST_SHOWN = 12
"""Lines of a list to show."""


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a heading, and at the end the duration."""
    print(f"\n== {title}", flush=True)
    began = time.monotonic()
    yield
    print(f"   ({time.monotonic() - began:.1f} s)", flush=True)


def run_shown(*words: str) -> None:
    """Print a command as typed, and run it with its output shown."""
    print(f"$ {shlex.join(words)}", flush=True)
    subprocess.run(words, check=True)


def capture_shown(*words: str) -> str:
    """Print a command as typed, run it, and return its output."""
    print(f"$ {shlex.join(words)}", flush=True)
    return subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.decode("utf-8", "backslashreplace")


def excerpt(lines: list[str], most: int = MOST_SHOWN) -> None:
    for line in lines[:most]:
        print(f"   {line}")
    if len(lines) > most:
        print(f"   … and {len(lines) - most:,} more")


def left_out(source: tree_snapshot.Snapshot, found: tree_snapshot.Snapshot) -> list[str]:
    """How many names are missing from the image, by the closest directory that was kept."""
    places: Counter[bytes] = Counter()
    for path in source.keys() - found.keys():
        above = path.rpartition(b"/")[0]
        while above not in found:
            above = above.rpartition(b"/")[0]
        places[above] += 1
    return [
        f"{count:7,}  below /{place.decode('utf-8', 'backslashreplace')}" for place, count in sorted(places.items())
    ]


def prove(root: Path, image: Path) -> None:
    """Compare the source with the mounted image.

    Raises SystemExit if the image has something that the source does not, or lacks something outside of the
    directories with accounts, secrets, logs and caches.
    """
    source = tree_snapshot.directory(root)
    with tempfile.TemporaryDirectory() as scratch:
        found = tree_snapshot.mounted(image, Path(scratch))
    added = sorted(found.keys() - source.keys())
    common = source.keys() & found.keys()
    kept = tree_snapshot.stated(tree_snapshot.selected(source, found.__contains__))
    changed = sorted({path for path in common if kept[path] != found[path]})
    same = len(common) - len(changed)
    size = sum(found[path].size for path in common if path not in set(changed) and found[path].names[:1] == (path,))
    print(f"   {same:,} names are the same in the source and the mounted image: type, mode, owner, time, contents")
    print(f"   ({size / 1e6:,.0f} MB), symbolic and hard links, device numbers and extended attributes.")
    print(f"   {len(source) - len(common):,} names were left out by the exclusions and the cleanup:")
    excerpt(left_out(source, found))
    print(f"   {len(changed):,} were rewritten by the cleanup:")
    excerpt(["/" + path.decode("utf-8", "backslashreplace") for path in changed])
    surprising = [path for path in changed if not path.startswith((b"etc/", b"var/"))]
    if added or surprising:
        sys.exit(f"demo: unexpected differences in the image: {[*added, *surprising][:MOST_SHOWN]}")
    print("   Nothing else differs.")


def check_kernel(root: Path, boot: Path) -> None:
    """Show the files that clients download.

    Raises SystemExit if kernel or initrd do not start with those of the source, byte for byte.
    """
    for name in ("vmlinuz", "initrd.img"):
        served = (boot / name).read_bytes()
        origin = next(
            (path for path in sorted(root.glob(f"boot/{name}-*")) if served.startswith(path.read_bytes())), None
        )
        if origin is None:
            sys.exit(f"demo: {boot / name} is not one of {root}/boot/{name}-*")
        behind = len(served) - origin.stat().st_size
        more = f", with {behind:,} bytes of ours appended" if behind else ""
        print(f"   {boot / name}, {len(served):,} bytes: the same as {origin}{more}")
    client = boot / "current/client.img"
    print(f"   {client}, {client.stat().st_size:,} bytes: our initrd, made from the image's kernel modules")


def boot(ltsp: list[str], name: str, log: Path) -> None:
    """Boot the image like a diskless PC, and show the end of its console output."""
    run_shown(*ltsp, "boottest", f"--console={log}", name)
    lines = log.read_bytes().decode("utf-8", "backslashreplace").replace("\r", "").splitlines()
    at = max((number for number, line in enumerate(lines) if "login:" in line), default=len(lines) - 1)
    print(f"   The end of the PC's console; all of it is in {log}:")
    excerpt([line for line in lines[at - 2 : at + 1] if line])


def main() -> None:
    try:
        demonstrate()
    except subprocess.CalledProcessError as error:
        sys.exit(f"demo: `{shlex.join(error.cmd)}` failed with exit status {error.returncode}; see above")
    except OSError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; make demo starts again with the same root file system")


def demonstrate() -> None:
    """Run all steps. Raises SystemExit, or CalledProcessError of a command that has printed the reason."""
    os.chdir(CHECKOUT)
    if os.geteuid() != 0:
        sys.exit("demo: run it as root: only root can create the owners and devices of a root file system")
    os.environ["PATH"] = f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}"
    release = this_release()
    name = release.codename
    base, tftp = DEMO / "ltsp", DEMO / "tftp"
    root, image = base / name, base / "images" / f"{name}.img"
    ltsp = ["ltsp", f"--base-dir={base}", f"--tftp-dir={tftp}"]

    with step(f"A small {release.id} {name} with a kernel, made by mmdebstrap in {root}"):
        print("   made now" if make(root) else "   kept from an earlier run; remove it to make it again")
    with step("The image: what an administrator types"):
        run_shown(*ltsp, "image", name)
    with step("What squashfs-tools report"):
        excerpt(capture_shown("unsquashfs", "-stat", str(image)).splitlines(), most=9)
        excerpt(capture_shown("unsquashfs", "-lls", str(image)).splitlines(), most=6)
    with step("Proof: the kernel mounts the image, and each file is compared with the source"):
        prove(root, image)
    with step("The kernel and initrd that clients download"):
        check_kernel(root, tftp / "ltsp" / name)
    with step("What else clients need: the site's configuration and the menu"):
        run_shown(*ltsp, "initrd")
        run_shown(*ltsp, "ipxe")
    with step("A PC without a disk, in QEMU: iPXE, menu, kernel, our initrd, the image by NFS, login"):
        boot(ltsp, name, DEMO / "console.log")
    with step("The versions now; `ltsp image --revert` goes back to the previous one"):
        run_shown(*ltsp, "versions", name)
    free = shutil.disk_usage(DEMO).free
    print(f"\nAll of it is in ./{DEMO}; `rm -r {DEMO}` removes it. {free / 1e9:,.0f} GB are free there.")


if __name__ == "__main__":
    main()
