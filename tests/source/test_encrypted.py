"""Encrypted volumes: cryptsetup finds the key, and the process without rights reads what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from corpus import unprivileged
from corpus.disks import ext4, fstab, moved, partitioned
from corpus.luks import FAST, encrypted
from corpus.site import Site, listing
from corpus.system import VERSION, make_system
from disk.tables import EXTENT, UUIDS, group, physical_volume, striped, volume
from ltsp.errors import FormatError, SourceError
from ltsp.host import command
from ltsp.source.disk.volume_key import find_volume_key
from ltsp.source.find import find_source
from ltsp.source.spec import DiskOptions
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

pytestmark = pytest.mark.oracle

TOOL = "usr/bin/tool"
KERNEL = f"boot/vmlinuz-{VERSION}"


@pytest.fixture
def system(tmp_path):
    return make_system(tmp_path / "system")


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(b"sesame\n\0of bytes")
    path.chmod(0o400)
    return path


def opened(argument, key):
    return find_source(str(argument), "/nowhere", disks=DiskOptions(key_file=str(key or "")))


def paths(argument, key):
    with opened(argument, key).open(select_all, Faults()) as tree:
        return {path for path, _ in tree.walk()}


def told(argument, key=None, kind=SourceError):
    with pytest.raises(kind) as caught:
        opened(argument, key)
    assert str(caught.value).isprintable()
    return str(caught.value)


def lvm(path, data):
    """One volume of a volume group, with what a file holds."""
    content = data.read_bytes()
    extents = [content[at : at + EXTENT] for at in range(0, len(content), EXTENT)]
    extents[-1] = extents[-1].ljust(EXTENT, b"\0")
    path.write_bytes(physical_volume(UUIDS[0], group(volume("root", striped(0, len(extents), ("pv0", 0)))), extents))
    return path


@pytest.mark.parametrize(
    ("options", "first_version"),
    {
        "LUKS2": ([], False),
        "LUKS1": ([], True),
        "sectors of 4096": (["--sector-size", "4096"], False),
        "a short key": (["--key-size", "256"], False),
        "CBC": (["--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"], False),
        "CBC in LUKS1": (["--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"], True),
        "CBC by number": (["--cipher", "aes-cbc-plain64", "--key-size", "128"], False),
        "argon2": (["--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "4096"], False),
    }.values(),
)
def test_the_system_in_it_is_read(tmp_path, system, key, options, first_version):
    disk = ext4(tmp_path / "root.img", system, 16, "-b", "4096")
    encrypted(disk, key, *options, first_version=first_version)
    source = opened(disk, key)
    assert "ext4 on whole disk, unlocked" in source.description
    with source.open(select_all, Faults()) as tree:
        for path in (TOOL, KERNEL):
            with tree.get(path).content.open() as stream:
                assert stream.read(1 << 20) == (system / path).read_bytes()


def test_lvm_in_it_is_put_together_as_by_installers(tmp_path, system, key):
    fstab(system, {"boot": "LABEL=boots"})
    boot = ext4(tmp_path / "boot.ext4", moved(system, "boot", tmp_path / "boot"), 16, "-L", "boots")
    group = lvm(tmp_path / "lvm", ext4(tmp_path / "root.ext4", system))
    disk = partitioned(tmp_path / "vm.img", "gpt", [("type=linux", boot), ("type=linux", encrypted(group, key))])
    assert {TOOL, KERNEL} <= paths(disk, key)
    said = told(disk)
    assert "partition 2: it holds an encrypted volume (LUKS)" in said
    assert "--key-file FILE" in said


def test_a_logical_volume_may_be_encrypted(tmp_path, system, key):
    disk = lvm(tmp_path / "vm.img", encrypted(ext4(tmp_path / "root.ext4", system), key))
    assert TOOL in paths(disk, key)
    assert "vg-one/root: it holds an encrypted volume" in told(disk)


@pytest.mark.parametrize("spec", ["UUID={luks}", "PARTLABEL=hidden"])
def test_an_fstab_names_what_crypttab_opens(tmp_path, system, key, spec):
    usr = encrypted(ext4(tmp_path / "usr.ext4", moved(system, "usr", tmp_path / "usr")), key)
    luks = subprocess.run(["cryptsetup", "luksUUID", usr], check=True, capture_output=True, text=True).stdout.strip()
    fstab(system, {"usr": "/dev/mapper/usr_crypt"})
    (system / "etc/crypttab").write_text(f"# name device key\nusr_crypt {spec.format(luks=luks)} none luks\n")
    root = ext4(tmp_path / "root.ext4", system)
    disk = partitioned(tmp_path / "vm.img", "gpt", [("type=linux", root), ("type=linux, name=hidden", usr)])
    assert {TOOL, KERNEL} <= paths(disk, key)
    assert "/dev/mapper/usr_crypt at /usr" in told(disk)


@pytest.mark.root
def test_the_kernel_reads_what_was_unlocked(tmp_path, system, key):
    disk = encrypted(ext4(tmp_path / "root.img", system), key)
    wishes = DiskOptions(reader="kernel", key_file=str(key))
    with find_source(str(disk), "/nowhere", disks=wishes).open(select_all, Faults()) as tree:
        assert {TOOL, KERNEL} <= {path for path, _ in tree.walk()}
    with pytest.raises(SourceError, match="--key-file FILE"):
        find_source(str(disk), "/nowhere", disks=DiskOptions(reader="kernel"))


def test_a_wrong_key_is_an_error(tmp_path, system, key):
    disk = encrypted(ext4(tmp_path / "root.img", system), key)
    (tmp_path / "other").write_bytes(b"sesame\n")
    assert f"the key in {tmp_path}/other matches none of the volume's key slots" in told(disk, tmp_path / "other")
    assert "cannot read the key file" in told(disk, tmp_path / "none")


@pytest.mark.parametrize(
    ("make", "said"),
    {
        "a directory": (Path.mkdir, "is not a regular file"),
        "a pipe": (os.mkfifo, "is not a regular file"),
        "an empty file": (Path.touch, "is empty"),
        "a disk": (lambda path: path.write_bytes(bytes((8 << 20) + 1)), "is larger than 8 MiB"),
    }.values(),
)
def test_an_invalid_key_file_is_an_error_at_once(tmp_path, system, key, make, said):
    disk = encrypted(ext4(tmp_path / "root.img", system), key)
    make(tmp_path / "other")
    assert f"the key file {tmp_path}/other {said}" in told(disk, tmp_path / "other")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (
            {"type": "pbkdf2", "hash": "sha256", "iterations": 2**32 - 1},
            "did not finish trying the key slots within 1 seconds",
        ),
        ({"type": "argon2id", "time": 4, "memory": 1 << 20, "cpus": 1}, "cryptsetup failed with exit status"),
    ],
)
def test_a_slot_that_asks_for_too_much_is_tried_once(tmp_path, system, key, monkeypatch, work, said):
    monkeypatch.setattr("ltsp.source.disk.volume_key._CRYPTSETUP_TIMEOUT", 1)
    monkeypatch.setattr("ltsp.source.disk.volume_key._MIN_MEMORY", 256 << 20)
    monkeypatch.setattr("ltsp.source.disk.volume_key.os.sysconf", lambda _: 1)
    disk = encrypted(ext4(tmp_path / "root.img", system), key)
    forge(disk, work)
    tries = []
    run = command.run
    monkeypatch.setattr("ltsp.source.disk.volume_key.command.run", lambda *a, **k: (tries.append(a), run(*a, **k))[1])
    assert said in told(disk, key)
    assert len(tries) == 1


def forge(disk, work):
    """Both copies of a header of LUKS2 say that its key slot takes other work. LUKS2 On-Disk Format"""
    content = bytearray(disk.read_bytes())
    (size,) = struct.unpack_from(">Q", content, 8)
    for at in (0, size):
        text = json.loads(bytes(content[at + 4096 : at + size]).rstrip(b"\0"))
        kdf = text["keyslots"]["0"]["kdf"]
        text["keyslots"]["0"]["kdf"] = {"salt": kdf["salt"], **work}
        content[at + 4096 : at + size] = json.dumps(text).encode().ljust(size - 4096, b"\0")
        content[at + 448 : at + 512] = bytes(64)
        content[at + 448 : at + 480] = hashlib.sha256(content[at : at + size]).digest()
    disk.write_bytes(content)


@pytest.mark.root
def test_it_is_opened_in_a_container_with_one_user(tmp_path, system, key):
    site = Site.make(tmp_path / "site")
    disk = encrypted(ext4(tmp_path / "lab.img", system), key)
    key.chmod(0o444)
    unprivileged.given(tmp_path)
    inside = replace(site, through=unprivileged.in_container(tmp_path))
    inside.ltsp("image", str(disk), f"--key-file={key}")
    assert TOOL in listing(site.image("lab"))


def test_a_missing_cryptsetup_is_reported_with_its_package(tmp_path, system, key, monkeypatch):
    disk = encrypted(ext4(tmp_path / "root.img", system), key)
    monkeypatch.setattr("ltsp.host.command._SYSTEM_PATH", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    said = told(disk, key)
    assert "cryptsetup not found" in said
    assert "cryptsetup-bin" in said


def test_a_header_without_its_bytes_is_refused_by_name(tmp_path, key):
    (tmp_path / "data").write_bytes(bytes(1 << 20))
    disk = tmp_path / "vm.img"
    disk.write_bytes(bytes(16 << 20))
    words = ["cryptsetup", "--batch-mode", "luksFormat", *FAST, "--header", disk, "--key-file", key, tmp_path / "data"]
    subprocess.run(list(map(str, words)), check=True)
    said = told(disk, key)
    assert "detached" in said
    assert "unlock it, mount it" in said


def test_an_encryption_that_is_not_finished_is_refused(tmp_path, system, key):
    disk = ext4(tmp_path / "root.img", system)
    os.truncate(disk, disk.stat().st_size + (32 << 20))
    words = ["reencrypt", "--encrypt", "--init-only", "--type", "luks2", "--reduce-device-size", "32M", *FAST]
    subprocess.run(["cryptsetup", "--batch-mode", *words, "--key-file", key, disk], check=True)
    assert "re-encryption is unfinished" in told(disk, key)


def test_an_invalid_header_is_refused_by_cryptsetup_without_privileges(key):
    with pytest.raises(FormatError, match="cryptsetup failed"):
        find_volume_key(b"LUKS\xba\xbe\0\2" + bytes(100000), str(key))


def test_a_damaged_copy_of_the_header_does_not_matter(tmp_path, system, key):
    disk = encrypted(ext4(tmp_path / "root.img", system), key)
    with disk.open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    assert TOOL in paths(disk, key)
    with disk.open("r+b") as file:
        file.seek((16 << 10) + 5000)
        file.write(b"damage")
    assert "the LUKS header is damaged" in told(disk, key)


@pytest.mark.parametrize("applet", ["image", "kernel"])
def test_an_invalid_key_file_is_refused_for_each_disk_and_does_not_concern_chroots(tmp_path, applet, system):
    site = Site.make(tmp_path / "site")
    disk = ext4(tmp_path / "plain.img", system)
    before = site.everything()
    for path, why in ((tmp_path / "none", "cannot read the key file"), (tmp_path, "is not a regular file")):
        assert why in site.ltsp(applet, f"--key-file={path}", str(disk), status=1).stderr
    assert site.everything() == before
    site.system("lab")
    site.conf.write_text(f"[server]\nKEY_FILE={tmp_path}/none\n")
    site.ltsp("image", "lab")


def test_the_command_takes_a_key_file_and_never_tells_it(tmp_path, system, key):
    site = Site.make(tmp_path / "site")
    disk = encrypted(ext4(tmp_path / "lab.img", system), key)
    done = site.ltsp("image", str(disk), f"--key-file={key}")
    assert TOOL in listing(site.image("lab"))
    assert "sesame" not in done.stdout + done.stderr
    assert "--key-file" in site.ltsp("image", str(disk), status=1).stderr
