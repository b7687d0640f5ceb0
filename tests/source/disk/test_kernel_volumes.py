"""The second reader: what the kernel mounts is the same tree, and nothing of it is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from corpus import disk_layouts, kitchen_sink, tree_snapshot
from corpus.disks import converted, ext4, fstab, moved, partitioned
from corpus.error_checks import left_behind
from corpus.luks import encrypted
from corpus.site import Site
from corpus.system import make_system
from filesystem import mkfs
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.inspection.found_system import SystemChoice
from ltsp.sandbox.messages import decode
from ltsp.source.disk.disk import disk_source
from ltsp.source.disk.disk_files import ScratchFiles
from ltsp.source.disk.kernel_mounts import KernelMounts
from ltsp.source.disk.kernel_volumes import KernelVolumes
from ltsp.source.find import find_source
from ltsp.source.spec import DiskOptions, ImageSpec
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

pytestmark = [pytest.mark.root, pytest.mark.oracle]

SMALL = kitchen_sink.KitchenSinkSize(entries=300, owners=20, depth=20, large=9 * kitchen_sink.BLOCK + 17)
EXT4 = ("mkfs.ext4", "-q", "-b", "4096", "-I", "256")
XFS = ("mkfs.xfs", "-q", "--unsupported")
BTRFS = ("mkfs.btrfs", "-q")
MIB = 1 << 20
CONTAINED = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--")
"""Root as containers have it."""


@pytest.fixture(scope="session")
def trouble(tmp_path_factory):
    """A small system with everything in it that ever went wrong."""
    root = make_system(tmp_path_factory.mktemp("trouble") / "root")
    kitchen_sink.build(root / "srv" / "nasty", SMALL)
    (root / "crowd").mkdir()
    return root


@pytest.fixture
def system(tmp_path):
    return make_system(tmp_path / "system")


@contextmanager
def opened(argument, reader="auto"):
    """The tree, and who read it."""
    source = find_source(str(argument), "/nowhere", disks=DiskOptions(reader=reader))
    with source.open(select_all, Faults()) as tree:
        yield tree, source.plan()


def found(argument, reader="auto"):
    with opened(argument, reader) as (tree, plan):
        return tree_snapshot.of_tree(tree), plan


def counted(snapshot):
    return {path: tree_snapshot.counted(entry) for path, entry in snapshot.items()}


def same(argument):
    """The tree, which is the same through both readers, and the plan of the second."""
    (by_us, us), (by_kernel, kernel) = (found(argument, reader) for reader in ("user", "kernel"))
    assert (us.reader, kernel.reader) == ("user", "kernel")
    assert tree_snapshot.differences(by_us, by_kernel) == []
    return by_kernel, kernel


def without_stubs(snapshot):
    """The kernel gives the time of the mount to a directory that stands where a subvolume was, in a snapshot."""
    stubs = (b"removed", b"snapshot/removed", b"var/lib/machines", b"snapshot/var/lib/machines", b"snapshot")
    return {path: replace(each, mtime=0) if path in stubs else each for path, each in snapshot.items()}


def told(argument, reader="auto", kind=SourceError):
    with pytest.raises(kind) as caught:
        found(argument, reader)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_ext4_is_the_same_through_both(tmp_path, trouble):
    image = mkfs.make_file_system(tmp_path / "disk.img", 96 * MIB, *EXT4)
    shown = mkfs.filled(image, trouble)
    tree, _ = same(partitioned(tmp_path / "vm.img", "gpt", [("type=linux", image)]))
    assert tree_snapshot.differences(counted(shown), counted(tree)) == []


def test_xfs_is_the_same_through_both(tmp_path, trouble):
    image = mkfs.make_file_system(tmp_path / "disk.img", 160 * MIB, *XFS)
    shown = mkfs.filled(image, trouble)
    tree, _ = same(image)
    assert tree_snapshot.differences(counted(shown), counted(tree)) == []


@pytest.mark.parametrize("subvolume", ["@", "@/snapshot", "directory/@/nested"])
def test_subvolumes_of_btrfs_are_the_same_through_both(tmp_path, trouble, subvolume):
    image = mkfs.make_file_system(tmp_path / "disk.img", 192 * MIB, *BTRFS)
    mkfs.filled(image, trouble, then="subvolumes")
    trees = []
    for reader in ("user", "kernel"):
        layer = ImageSpec(str(image), options=(f"subvol={subvolume}",))
        source = disk_source(str(image), "lab", layer, DiskOptions(reader=reader), require_system=False)
        assert f"subvolume {subvolume} in" in source.description
        with source.open(select_all, Faults()) as tree:
            trees.append(tree_snapshot.of_tree(tree))
    assert b"name" in trees[0]
    assert tree_snapshot.differences(*map(without_stubs, trees)) == []
    assert "no subvolume none; it has @, @/snapshot, @/var/lib/machines" in told(f"{image},subvol=none", "kernel")


def guided(part, disk):
    """A partition with LVM and one volume in it, in one piece, as an installer leaves it."""
    extent, size = 4 * MIB, part.stat().st_size
    place = (MIB, size + 4 * extent)
    disk_layouts.sparse(disk, sum(place) + MIB)
    disk_layouts.table(disk, "gpt", [f"start=1MiB, size={place[1] // MIB}MiB, type=lvm"])
    group = disk_layouts.new_group()
    create = ("lvcreate", "-q", "-an", "-Zn", "-Wn", "-n", "root", "-l", str(-(-size // extent)), group)
    disk_layouts.put_volume(
        part, disk, disk_layouts.volume_group(disk, [place], group, lambda lvm, _: lvm(*create))["root"]
    )
    return disk


def test_lvm_is_the_same_through_both_and_copied_only_where_it_is_not_one_piece(tmp_path, trouble):
    image = mkfs.make_file_system(tmp_path / "root.img", 96 * MIB, *EXT4)
    mkfs.filled(image, trouble)
    raw = guided(image, tmp_path / "disk.raw")
    _, plan = same(raw)
    assert plan.warnings == ()
    for disk in (converted(raw, "qcow2"), disk_layouts.LAYOUTS["LVM in stripes"](image, tmp_path / "striped.raw")):
        _, plan = same(disk)
        assert "/root (up to" in plan.warnings[0]
        assert "copied to TMPDIR" in plan.warnings[0]


@pytest.mark.parametrize(
    ("words", "options"),
    [(EXT4, ""), (XFS, ""), (BTRFS, "notreelog"), (BTRFS, "")],
    ids=["ext4", "xfs", "btrfs", "btrfs with a log"],
)
def test_a_log_is_replayed_in_a_copy_and_never_on_the_disk(tmp_path, trouble, words, options):
    image = mkfs.make_file_system(tmp_path / "disk.img", 320 * MIB, *words)
    then = "synced-file" if words == BTRFS else "pull-the-plug"
    mkfs.filled(image, trouble, options, then)
    cut = image.with_name("disk.img.cut")
    before = cut.read_bytes()
    shutil.copyfile(cut, tmp_path / "mounted.img")
    shown = mkfs.shown(tmp_path / "mounted.img", options)
    tree, plan = found(cut, "kernel")
    assert tree_snapshot.differences(counted(shown), counted(tree)) == []
    assert b"after" in tree or b"new-1" in tree
    if not options:
        assert "whole disk (up to" in plan.warnings[0]
    assert cut.read_bytes() == before


def test_what_cannot_be_read_otherwise_is_read_by_the_kernel_and_the_rest_is_not(tmp_path, system):
    """A root in xfs that was not unmounted; /boot in ext4, and /boot/efi in FAT, which this kernel may not know."""
    fstab(system, {"boot": "LABEL=boots", "boot/efi": "LABEL=ESP"})
    boot = moved(system, "boot", tmp_path / "boot")
    (boot / "efi").mkdir()
    (system / "crowd").mkdir()
    root = mkfs.make_file_system(tmp_path / "root.img", 320 * MIB, *XFS)
    mkfs.filled(root, system, then="pull-the-plug")
    esp = tmp_path / "esp.vfat"
    subprocess.run(["mkfs.vfat", "-C", "-n", "ESP", esp, "8192"], check=True, stdout=subprocess.DEVNULL)
    disk = partitioned(
        tmp_path / "vm.img",
        "gpt",
        [
            ("type=uefi", esp),
            ("type=linux", ext4(tmp_path / "boot.ext4", boot, 16, "-L", "boots")),
            ("type=linux", root.with_name("root.img.cut")),
        ],
    )
    assert "not cleanly unmounted" in told(disk, "user")
    tree, plan = found(disk)
    assert plan.reader == "kernel"
    assert {b"usr/bin/tool", b"new-1", b"boot/efi"} < set(tree)
    assert any(path.startswith(b"boot/vmlinuz") for path in tree)


@pytest.mark.parametrize("reader", ["user", "kernel"])
def test_parts_are_found_by_label_and_uuid_through_either(tmp_path, system, reader):
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    fstab(system, {"boot": 'LABEL=a\\040b"ü', "opt": f"UUID={uuid.upper()}"})
    boot = ext4(tmp_path / "boot.ext4", moved(system, "boot", tmp_path / "boot"), 16, "-L", 'a b"ü')
    (system / "opt").mkdir(exist_ok=True)
    opt = ext4(tmp_path / "opt.ext4", moved(system, "opt", tmp_path / "opt"), 16, "-U", uuid)
    root = ext4(tmp_path / "root.ext4", system)
    disk = partitioned(tmp_path / "vm.img", "gpt", [("type=linux", part) for part in (boot, root, opt)])
    _, plan = found(disk, reader)
    assert [each.path for each in plan.included] == ["", "boot", "opt"]
    assert plan.reader == reader


def test_what_is_encrypted_is_copied_without_its_encryption_and_the_same_through_both(tmp_path, trouble):
    key = tmp_path / "key"
    key.write_bytes(b"sesame")
    image = mkfs.make_file_system(tmp_path / "root.img", 96 * MIB, *EXT4)
    mkfs.filled(image, trouble)
    encrypted(image, key)
    trees = []
    for reader in ("user", "kernel"):
        source = find_source(str(image), "/nowhere", disks=DiskOptions(reader=reader, key_file=str(key)))
        with source.open(select_all, Faults()) as tree:
            trees.append(tree_snapshot.of_tree(tree))
        assert source.plan().reader == reader
    assert tree_snapshot.differences(*trees) == []


def test_a_part_that_only_the_kernel_reads_is_taken_in_and_without_it_left_out(tmp_path, system):
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    fstab(system, {"opt": f"UUID={uuid}"})
    (system / "opt").mkdir(exist_ok=True)
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/tool").write_text("tool")
    part = tmp_path / "opt.erofs"
    subprocess.run(["mkfs.erofs", f"-U{uuid}", part, tmp_path / "opt"], check=True, capture_output=True)
    os.truncate(part, MIB)
    root = ext4(tmp_path / "root.ext4", system)
    disk = partitioned(tmp_path / "vm.img", "gpt", [("type=linux", root), ("type=linux", part)])
    tree, plan = found(disk)
    assert (plan.reader, [each.path for each in plan.included]) == ("kernel", ["", "opt"])
    assert b"opt/tool" in tree
    tree, plan = found(disk, "user")
    assert (plan.reader, [each.path for each in plan.left_out]) == ("user", ["opt"])
    assert b"opt/tool" not in tree


@pytest.fixture(scope="session")
def short(trouble, tmp_path_factory):
    """Without the names of 255 bytes, which mkfs.erofs 1.5 takes from no directory."""
    root = tmp_path_factory.mktemp("short") / "root"
    subprocess.run(["cp", "-a", "--sparse=always", trouble, root], check=True)
    for path in (root / "srv/nasty/names").iterdir():
        if len(os.fsencode(path.name)) > 200:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return root


@pytest.mark.parametrize("compressor", ["", "-zlz4", "-zlz4hc"])
def test_erofs_is_read_by_the_kernel(tmp_path, short, compressor):
    image = tmp_path / "root.erofs"
    words = ["mkfs.erofs", *filter(None, [compressor]), image, short]
    subprocess.run(words, check=True, capture_output=True)
    tree, plan = found(image)
    assert "erofs on whole disk in raw disk" in plan.included[0].description
    assert plan.reader == "kernel"
    assert tree_snapshot.differences(counted(mkfs.shown(image)), counted(tree)) == []
    assert "which only the kernel can read" in told(image, "user")


def test_a_file_system_that_this_kernel_does_not_know_is_named(tmp_path):
    known = Path("/proc/filesystems").read_text()
    image = tmp_path / "root.img"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(0x400)
        file.write(b"\x10\x20\xf5\xf2")
    assert "an f2fs file system, which only the kernel can read" in told(image, "user")
    said = told(image)
    assert ("this kernel does not support f2fs" in said) == ("\tf2fs\n" not in known)


def test_the_first_reader_is_taken_where_it_can(tmp_path, system):
    assert found(ext4(tmp_path / "root.img", system))[1].reader == "user"


def test_what_is_damaged_is_not_given_to_the_kernel(tmp_path, system):
    image = ext4(tmp_path / "root.img", system)
    with image.open("r+b") as file:
        file.seek(0x400)
        file.write(b"\xff" * 8)
    assert "damaged" in told(image, kind=LtspError)


def test_a_compressed_disk_is_mounted_where_it_was_unpacked(tmp_path, trouble):
    image = mkfs.make_file_system(tmp_path / "disk.img", 96 * MIB, *EXT4)
    mkfs.filled(image, trouble)
    subprocess.run(["zstd", "-q", "-1", image], check=True)
    same(f"{image}.zst")


def test_a_directory_that_no_copy_can_be_made_in_is_named(tmp_path, system, monkeypatch):
    disk = converted(ext4(tmp_path / "lab.img", system), "qcow2")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    said = told(disk, "kernel")
    assert f"cannot create a file in {tmp_path}/none: No such file" in said
    assert "set TMPDIR" in said


def test_a_copy_without_enough_space_is_refused_before_it_begins(tmp_path, trouble):
    image = mkfs.make_file_system(tmp_path / "root.img", 96 * MIB, *EXT4)
    mkfs.filled(image, trouble)
    disk = converted(image, "qcow2")
    script = f"""
        mount -t tmpfs -o size=66m none {tmp_path / "small"}
        export TMPDIR={tmp_path / "small"}
        exec {sys.executable} -c 'if True:
            from ltsp.source.spec import DiskOptions
            from ltsp.source.find import find_source
            from ltsp.tree.faults import Faults
            from ltsp.tree.selection import select_all
            with find_source("{disk}", "/nowhere", disks=DiskOptions(reader="kernel")).open(select_all, Faults()):
                pass'
    """
    (tmp_path / "small").mkdir()
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert "a copy of whole disk may take" in done.stderr
    assert "set TMPDIR" in done.stderr


def test_without_the_privilege_it_says_what_to_type(tmp_path, system):
    ext4(tmp_path / "root.img", system)
    subprocess.run(["mkfs.erofs", "--quiet", tmp_path / "root.erofs", system], check=True, stdout=subprocess.DEVNULL)
    words = [*CONTAINED, sys.executable, "-m", "ltsp", "--base-dir", tmp_path / "base", "image", "--dry-run"]

    def said(*more):
        return subprocess.run([*words, *more], capture_output=True, text=True, check=False).stderr

    asked = said("--reader=kernel", tmp_path / "root.img")
    assert f"--reader=kernel requires root: it mounts {tmp_path}/root.img: run the command as root" in asked
    converted(tmp_path / "root.erofs", "qcow2")
    for disk in ("root.erofs", "root.qcow2"):
        needed = said(tmp_path / disk)
        assert "an erofs file system, which only the kernel can read; mounting it requires root" in needed
        assert "run the command as root" in needed
        assert "copies" not in needed


def test_an_image_is_made_through_either_reader_to_the_byte_and_tells_which(tmp_path, system):
    site = Site.make(tmp_path / "site")
    disk = partitioned(tmp_path / "vm.img", "gpt", [("type=linux", ext4(tmp_path / "root.ext4", system))])
    words = ("image", "--quiet", "--json", "--no-preflight", "--name=lab", str(disk))
    [by_us] = json.loads(site.ltsp(*words).stdout)["images"]
    site.conf.write_text("[server]\nREADER=kernel\n")
    [by_kernel] = json.loads(site.ltsp(*words).stdout)["images"]
    assert (by_us["reader"], by_kernel["reader"]) == ("user", "kernel")
    assert by_us["sha256"] == by_kernel["sha256"]
    said = site.ltsp("image", "--dry-run", "--no-preflight", str(disk)).stdout
    assert "reader    the kernel" in said
    assert "reader" not in site.ltsp("image", "--dry-run", "--no-preflight", "--reader=user", str(disk)).stdout
    assert left_behind(site) == []


KILLED = """
import sys
from ltsp.source.spec import DiskOptions
from ltsp.source.find import find_source
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

print("begin", flush=True)
for _ in range(1000):
    with find_source(sys.argv[1], "/nowhere", disks=DiskOptions(reader="kernel")).open(select_all, Faults()) as tree:
        assert sum(1 for _ in tree.walk()) > 10
"""


@pytest.mark.parametrize("form", ["raw", "qcow2", "log"])
def test_a_kill_leaves_no_mount_no_device_no_file_and_no_process(tmp_path, trouble, form, chance):
    image = mkfs.make_file_system(tmp_path / "disk.img", 96 * MIB, *EXT4)
    mkfs.filled(image, trouble, then="pull-the-plug" if form == "log" else "nothing")
    disk = {"raw": image, "qcow2": tmp_path / "disk.qcow2", "log": tmp_path / "disk.img.cut"}[form]
    if form == "qcow2":
        converted(image, "qcow2")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = set()
    for _ in range(4):
        words = [sys.executable, "-c", KILLED, disk]
        with subprocess.Popen(words, env=os.environ | {"TMPDIR": str(scratch)}, stdout=subprocess.PIPE) as run:
            assert run.stdout.readline() == b"begin\n"
            seen.update(wait_for(lambda: loops_of(tmp_path), 30))
            assert str(tmp_path) not in Path(f"/proc/{run.pid}/mountinfo").read_text()
            time.sleep(chance.random() / 2)
            run.send_signal(signal.SIGKILL)
        assert wait_for(lambda: not loops_of(tmp_path), 20), loops_of(tmp_path)
        assert list(scratch.iterdir()) == []
        assert wait_for(lambda: not processes_of(disk), 20), processes_of(disk)
    assert seen
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return met


def loops_of(directory):
    """What loop devices have of the files below a directory."""
    backing = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing.append(path.read_text())
        except OSError:
            continue
    return [each for each in backing if str(directory) in each]


def processes_of(disk):
    """Those that have it open, or are told of it."""
    there = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            named = str(disk).encode() in (path / "cmdline").read_bytes()
            links = [os.readlink(each) for each in (path / "fd").iterdir()]
        except OSError:
            continue
        if named or str(disk) in links:
            there.append(path.name)
    return there


VOLUME = ["VolumeReport", "whole disk", 4096, "ext", 0, 0, "", [], [], ""]
LISTED = ["VolumeList", [VOLUME], ["raw"], [], []]


class Lying:
    """A process that was taken over by what it reads: its replies, as JSON, by the requests."""

    def __init__(self, **replies):
        self.replies = replies

    def ask(self, request, expected):
        return decode(json.dumps(self.replies[type(request).__name__]).encode(), expected)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        3,
        {},
        LISTED[1:],
        [*LISTED, []],
        ["VolumeList", [[]], ["raw"], [], []],
        ["VolumeList", 3, ["raw"], [], []],
        ["VolumeList", [[*VOLUME[:2], -1, *VOLUME[3:]]], ["raw"], [], []],
    ],
)
def test_a_list_of_volumes_that_cannot_be_is_refused(reply):
    with pytest.raises(FormatError, match="invalid reply"), ExitStack() as stack:
        KernelVolumes(Lying(ListVolumes=reply), list, ScratchFiles(stack), "", kernel_only=True, mounts=None)


@pytest.mark.parametrize("place", ["other", "beyond", "negative", "text", "copy of a disk"])
def test_a_path_outside_our_files_is_never_mounted(tmp_path, place):
    """It may not have the kernel read another file than it was given, nor write to the disk."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8192))
    with disk.open("rb") as file, ExitStack() as stack:
        status = os.fstat(file.fileno())
        own = ["FileIdentity", status.st_dev, status.st_ino]
        replies = {
            "other": {"LocateVolume": ["VolumeLocation", ["FileIdentity", status.st_dev, 2], 0]},
            "beyond": {"LocateVolume": ["VolumeLocation", own, 8192]},
            "negative": {"LocateVolume": ["VolumeLocation", own, -512]},
            "text": {"LocateVolume": ["VolumeLocation", own, "0"]},
            "copy of a disk": {"LocateVolume": ["VolumeLocation", None, 0], "CopyVolume": ["VolumeCopy", own]},
        }[place]
        volumes = KernelVolumes(
            Lying(ListVolumes=LISTED, MeasureVolume=["VolumeSize", 1], **replies),
            lambda: [file],
            ScratchFiles(stack),
            "",
            kernel_only=True,
            mounts=KernelMounts(stack, Faults()),
        )
        volumes.may_copy = True
        with pytest.raises(SourceError, match="invalid reply"):
            volumes.find_system(SystemChoice(), True)
