"""A site with a published image that clients can boot, made once for all the workers of a test run."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

from corpus import diskless
from ltsp.publish.contents import Contents
from ltsp.publish.generation import Generation
from ltsp.publish.manifest import Source
from ltsp.publish.places import CLIENT, KERNEL
from ltsp.publish.store import Store
from ltsp.settings.applets import LtspOptions
from ltsp.tree.content import Bytes

NAME = "lab"


def published(root: Path, shared: Path) -> LtspOptions:
    """The places of the site, whose image is that of the root; `shared` is a directory of all workers."""
    site = shared / "bootable"
    places = LtspOptions(base_dir=str(site / "srv"), tftp_dir=str(site / "tftp"), home_dir=str(site / "home"))
    with (shared / "bootable.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (site / "done").exists():
            for directory in ("srv", "tftp", "home"):
                (site / directory).mkdir(parents=True)
            _build(root, places)
            store = Store(places.base_dir, places.tftp_dir)
            if CLIENT not in current(store).manifest.files:
                _add_client(store, diskless.initrd(root, site))
            (site / "done").touch()
    return places


def current(store: Store) -> Generation:
    generation = store.state(NAME).current
    assert generation is not None
    return generation


def _build(root: Path, places: LtspOptions) -> None:
    directories = ["--base-dir", places.base_dir, "--tftp-dir", places.tftp_dir]
    fast = ["-m", "-comp zstd -Xcompression-level 1", "--ionice="]
    arguments = [sys.executable, "-m", "ltsp", *directories, "image", f"--name={NAME}", *fast, str(root)]
    subprocess.run(arguments, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _add_client(store: Store, client: Path) -> None:
    subprocess.run(["gzip", "-1", client], check=True)
    before = current(store)
    files = {KERNEL: Path(before.file(KERNEL)), CLIENT: client.with_name(f"{client.name}.gz")}
    contents = Contents(
        Source("/", "directory"),
        before.manifest.kernel,
        {name: Bytes(path.read_bytes()) for name, path in files.items()},
        codec="zstd",
    )
    with store.locked(NAME) as held, held.stage(0) as stage:
        stage.image.write(Path(before.image).read_bytes())
        stage.publish(contents)
