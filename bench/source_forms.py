"""Create one root file system in every form that `ltsp image` reads, with the usual tools."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from disk import tables
from filesystem.mkfs import filled, make_file_system

MIB = 1 << 20
_ROOM = 3
"""Size of a volume relative to its files: a disk in use has about that much free space."""


@dataclass(slots=True)
class Workshop:
    """Creates forms in a directory of its own; those from which others are made are kept until all are done."""

    root: Path
    directory: Path
    size: int
    """Size in bytes of a volume with the root."""

    @classmethod
    def of(cls, root: Path, directory: Path) -> Workshop:
        taken = int(subprocess.run(["du", "-sxB1", root], stdout=subprocess.PIPE, check=True).stdout.split()[0])
        return cls(root, directory, -(-taken * _ROOM // (64 * MIB)) * 64 * MIB)

    def make(self, form: str) -> str:
        """Create a form; return its argument for `ltsp image`."""
        return FORMS[form](self)

    def path(self, name: str) -> Path:
        return self.directory / name

    def ext4(self) -> Path:
        """A disk with ext4, created with `mkfs.ext4 -d`."""
        image = self.path("ext4.raw")
        if not image.exists():
            call: list[str | Path] = [
                "mke2fs",
                "-q",
                "-F",
                "-t",
                "ext4",
                "-d",
                self.root,
                image,
                f"{self.size // 1024}k",
            ]
            subprocess.run(call, check=True)
        return image

    def converted(self, form: str, *options: str, of: Path | None = None, name: str = "") -> Path:
        image = self.path(name or f"ext4.{form}")
        call: list[str | Path] = ["qemu-img", "convert", "-f", "raw", "-O", form, *options, of or self.ext4(), image]
        subprocess.run(call, check=True)
        return image

    def volume_group(self) -> Path:
        """A physical volume with one linear logical volume."""
        image, content = self.path("lvm.raw"), self.ext4()
        count = self.size // tables.EXTENT
        text = tables.group(tables.volume("root", tables.striped(0, count, ("pv0", 0))))
        for word in ("pe_count = ", "dev_size = "):
            head, _, rest = text.partition(word)
            text = f"{head}{word}{count if word == 'pe_count = ' else (count + 1) * 2048}\n{rest.partition(chr(10))[2]}"
        image.write_bytes(tables.physical_volume(tables.UUIDS[0], text, [b""] * count))
        call = ["dd", f"if={content}", f"of={image}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none"]
        subprocess.run(call, check=True)
        with image.open("r+b") as file:
            file.truncate((count + 1) * tables.EXTENT)
        return image

    def mounted(self, name: str, *command: str, options: str = "") -> Path:
        """A file system that was filled through the kernel, like that of an installed system."""
        image = make_file_system(self.path(name), self.size, *command)
        filled(image, self.root, options)
        return image

    def tar(self) -> Path:
        archive = self.path("root.tar")
        if not archive.exists():
            call: list[str | Path] = [
                "tar",
                "--xattrs",
                "--xattrs-include=*",
                "--numeric-owner",
                "-C",
                self.root,
                "-cf",
                archive,
                ".",
            ]
            subprocess.run(call, check=True)
        return archive

    def packed(self, path: Path, *command: str) -> Path:
        target = Path(f"{path}.{command[0]}")
        with path.open("rb") as source, target.open("wb") as output:
            subprocess.run([*command, "-c"], stdin=source, stdout=output, check=True)
        return target

    def oci(self) -> Path:
        """A layout with one layer in gzip, as builders write it. image-spec: image-layout.md"""
        layer = self.packed(self.tar(), "gzip")
        layout = self.path("oci")
        media = "application/vnd.oci.image"

        def blob(data: Path | object, kind: str) -> dict[str, object]:
            path = layout / "blob"
            if isinstance(data, Path):
                shutil.move(data, path)
            else:
                path.write_text(json.dumps(data))
            name = _sha256(path)
            size = path.stat().st_size
            path.rename(layout / "blobs/sha256" / name)
            return {"mediaType": f"{media}.{kind}", "digest": f"sha256:{name}", "size": size}

        (layout / "blobs/sha256").mkdir(parents=True)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        unpacked = f"sha256:{_sha256(self.tar())}"
        config = blob({"rootfs": {"type": "layers", "diff_ids": [unpacked]}}, "config.v1+json")
        layers = [blob(layer, "layer.v1.tar+gzip")]
        manifest = blob({"schemaVersion": 2, "config": config, "layers": layers}, "manifest.v1+json")
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        return layout

    def squashfs(self, *options: str) -> Path:
        image = self.path("root.squashfs")
        call: list[str | Path] = ["mksquashfs", self.root, image, "-noappend", "-quiet", "-no-progress", *options]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
        return image


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


FORMS: dict[str, Callable[[Workshop], str]] = {
    "raw": lambda shop: str(shop.ext4()),
    "raw-kernel": lambda shop: str(shop.ext4()),
    "qcow2": lambda shop: str(shop.converted("qcow2")),
    "qcow2-compressed": lambda shop: str(shop.converted("qcow2", "-c", name="ext4.packed.qcow2")),
    "vmdk-stream": lambda shop: str(shop.converted("vmdk", "-o", "subformat=streamOptimized")),
    "vdi": lambda shop: str(shop.converted("vdi")),
    "vhdx": lambda shop: str(shop.converted("vhdx")),
    "raw.gz": lambda shop: str(shop.packed(shop.ext4(), "gzip")),
    "lvm-qcow2": lambda shop: str(shop.converted("qcow2", of=shop.volume_group(), name="lvm.qcow2")),
    "xfs": lambda shop: str(shop.mounted("xfs.raw", "mkfs.xfs", "-q")),
    "btrfs": lambda shop: str(shop.mounted("btrfs.raw", "mkfs.btrfs", "-q")),
    "btrfs-zstd": lambda shop: str(shop.mounted("btrfs-zstd.raw", "mkfs.btrfs", "-q", options="compress-force=zstd")),
    "squashfs": lambda shop: str(shop.squashfs("-comp", "gzip")),
    "tar": lambda shop: str(shop.tar()),
    "tar.zst": lambda shop: str(shop.packed(shop.tar(), "zstd", "-T2")),
    "oci": lambda shop: f"oci:{shop.oci()}",
}


def prepare_forms(root: Path, directory: Path, forms: list[str]) -> Iterator[tuple[str, str]]:
    """Name and argument for `ltsp image` of each form."""
    shop = Workshop.of(root, directory)
    for form in forms:
        yield form, shop.make(form)
