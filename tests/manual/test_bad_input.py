"""What bad input gets: one line that names cause and remedy, the right exit status, and a server as it was before."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from corpus.bit_flip import flip
from corpus.error_checks import UNPRIVILEGED, command_refused, left_behind, one_line, refused, unharmed
from corpus.hostile_root import CANARY, TOUCHED, TRAPS, is_free_of_traps, plant_canaries
from corpus.site import Site, listing
from corpus.small_disk import mounted
from corpus.system import KERNEL, VERSION, configuration, make_system

pytestmark = pytest.mark.oracle


@pytest.fixture
def site(tmp_path):
    """Clients boot `lab` already, and a chroot that has changed since is there for the next build."""
    site = Site.make(tmp_path)
    site.system("lab")
    site.ltsp("image", "lab")
    (site.base / "lab/etc/motd").write_text("changed\n")
    return site


# Names and sources


@pytest.mark.parametrize(
    ("name", "fault", "remedy"),
    [
        ("two words", "must not contain a space", "--name="),
        ("\x1b[31mred", "'\\x1b[31mred' must not contain '\\x1b'", "--name="),
        ("lab\nlab", "must not contain a line break", "--name="),
        ("$(reboot)", "must not contain '$'", "--name="),
        ("schön", "must not contain '\\xf6'", "--name="),
        ("-lab", "must not begin with '-'", "type lab"),
        ("x" * 65, "has 65 characters; the limit is 64", "--name="),
    ],
)
def test_a_bad_name_is_an_error_before_it_is_looked_up(site, name, fault, remedy):
    refused(site, "--", name, status=2, says=["image name", fault, remedy])


@pytest.mark.parametrize("name", ["", "a b", "../lab", "a,b"])
def test_a_bad_name_for_the_image_is_an_error(site, name):
    refused(site, f"--name={name}", "lab", status=2, says=["--name"])


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("nothing", ['no source "nothing"', "looked for", "give a path (starting with / or .)"]),
        ("./nothing", ["./nothing not found", "check the path; names without a leading / or . are looked up in"]),
        ("lab/etc", ["is not a Linux root file system", "found fstab, group"]),
        (".", ["is not a Linux root file system", "found nothing: "]),
        ("/dev/null", ["is not a file, disk or directory", "name a chroot"]),
        ("lab/etc/passwd", ["holds text", "not supported as a source"]),
        ("lab,,/nowhere", ["/nowhere not found", "give an absolute path: only the first part may be a name"]),
    ],
)
def test_a_source_that_is_not_one_is_refused_with_what_was_found(site, argument, says):
    refused(site, argument, says=says)


@pytest.mark.parametrize("argument", ["", "lab,,", "lab,subdir=../..", "lab,fstype=ext4", "lab,partition=7"])
def test_an_invalid_notation_is_a_usage_error(site, argument):
    refused(site, argument, status=2, says=["usage: "])


def test_a_system_without_a_kernel_is_refused_unless_that_is_wanted(site):
    shutil.rmtree(site.base / "lab/boot")
    for link in ("vmlinuz", "initrd.img"):
        (site.base / "lab" / link).unlink()
    refused(site, "lab", says=["no kernel in lab", "--kernel-initrd"])
    site.ltsp("image", "--kernel-initrd=none", "lab")


@pytest.mark.parametrize("words", [(), ("--cleanup=0",)])
def test_a_link_for_a_kernel_that_leads_to_secrets_is_passed_over(site, words):
    (site.base / "lab/vmlinuz").unlink()
    (site.base / "lab/vmlinuz").symlink_to("etc/shadow")
    said = site.ltsp("image", *words, "lab").stderr
    assert "passed over /vmlinuz: not a kernel" in said
    assert site.kernel("lab").read_text() == KERNEL


@pytest.mark.parametrize(
    ("link", "words"), [("initrd.img", ()), ("initrd.img", ("--cleanup=0",)), ("vmlinuz", ("--cleanup=0",))]
)
def test_a_link_to_secrets_is_never_served(site, link, words):
    with (site.base / "lab/etc/shadow").open("r+") as file:
        file.write(KERNEL[:4])  # what begins as a kernel does
    (site.base / "lab" / link).unlink()
    (site.base / "lab" / link).symlink_to("etc/shadow")
    refused(site, *words, "lab", says=[f"/{link} leads to /etc/shadow", "--kernel-initrd"])


# Options, ltsp.conf and the site's lists


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--compression=brotli",), ["--compression", "brotli", "zstd"]),
        (("-m", "-comp brotli"), ["-comp brotli is not a compressor", "zstd"]),
        (("-m", "-b 3"), ["-b 3"]),
        (("-m", "-comp 'zstd"), ["has an unclosed quote"]),
        (("-m", "-no-such-parameter 7"), ["-no-such-parameter"]),
        (("-m", "-all-time foo"), ["-all-time"]),
        (("-m", "-p '/etc/pseudo d 755'"), ["--mksquashfs-params"]),
        (("-m", "-comp lz4 -Xcompression-level 5"), ["--mksquashfs-params"]),
        (("-m", "-ef /nowhere"), ["/nowhere"]),
        (("-m", "-sort /nowhere"), ["/nowhere"]),
        (("--sort-file=/",), ["sort file /"]),
        (("--image-mode=9",), ["--image-mode"]),
        (("--kernel-initrd=vmlinuz s|a",), ["invalid initrd rule"]),
        (("--image-group=no-such-group",), ["no-such-group", "getent group"]),
        (("--no-such-option",), ["--no-such-option", "ltsp --help=image"]),
        (("-b2",), ["neither 0 nor 1"]),
        (("--ionice=no-such-program",), ["no-such-program", "--ionice"]),
        (("--name=a", "b"), ["--name", "but 2 are given"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_a_usage_error(site, words, says):
    refused(site, *words, "lab", status=2, says=says)


def test_a_prefix_that_ends_otherwise_than_the_build_is_named_with_its_status(site):
    """As `timeout 60` does, of which nobody would know why nothing came of the build."""
    prefix = "sh -c '\"$@\"; exit 7' x"
    done = site.ltsp("image", "--quiet", f"--ionice={prefix}", "lab", status=7)
    assert "(from --ionice) ended with status 7, and the build ended with status 0" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", [("--sort-file=/nowhere",), ("-m", "-no-such"), ("-m", "-p x"), ("--image-group=nobody?",)]
)
def test_a_wrong_option_is_an_error_before_the_source_is_read(site, words):
    shutil.rmtree(site.base / "lab/etc")
    refused(site, *words, "lab", status=2)
    refused(site, "lab", says=["not a Linux root file system"])


@pytest.mark.parametrize("setting", [{"COMPRESSION": "brotli"}, {"SOURCE_DATE_EPOCH": "x"}, {"IMAGE_GROUP": "nobody?"}])
def test_a_wrong_setting_is_named(site, setting):
    refused(site, "lab", status=2, says=list(setting), **setting)


@pytest.mark.parametrize(
    "text",
    [
        "COMPRESSION=$(reboot)",
        "COMPRESSION=`reboot`",
        '[server]\nBACKUP="$(reboot)"',
        "reboot",
        "if true; then BACKUP=0; fi",
        "BACKUP=0; reboot",
        "f() { reboot; }",
        ". /etc/default/ltsp",
        'BACKUP="0',
        "[common\nBACKUP=0",
    ],
)
def test_code_in_ltsp_conf_is_refused_with_file_line_and_reason(site, text):
    site.conf.write_text(f"# ltsp.conf\n{text}\n")
    line = refused(site, "lab")
    assert line.startswith((f"ltsp: {site.conf}:2: ", f"ltsp: {site.conf}:3: ")), line


def test_an_ltsp_conf_that_anybody_may_write_is_not_trusted(site):
    site.conf.chmod(0o666)
    refused(site, "lab", says=[str(site.conf), "writable by everyone"])


def test_a_list_of_the_site_that_anybody_may_write_is_not_trusted(site):
    for name in ("image.excludes", "image.secrets"):
        path = site.conf.parent / name
        path.write_text("")
        path.chmod(0o666)
        refused(site, "lab", says=[str(path), "writable by everyone"])
        path.unlink()


def test_a_value_of_ltsp_conf_is_located_by_file_and_line(site):
    site.conf.write_text("\nLOCK_TIMEOUT=soon\n")
    refused(site, "lab", status=2, says=[f"{site.conf}:2", "LOCK_TIMEOUT", "soon"])


def test_an_ltsp_conf_that_is_not_a_file_is_refused(site):
    os.mkfifo(site.home / "fifo")
    for path in (site.home / "fifo", "/dev/zero", "/etc", "/nowhere"):
        refused(site, "lab", LTSP_CONF=str(path), says=[f"cannot read '{path}'"])


def test_an_unreadable_list_of_the_site_is_an_error(site):
    for name, text in (("image.excludes", None), ("image.secrets", "no row at all\n")):
        path = site.conf.parent / name
        path.mkdir() if text is None else path.write_text(text)
        refused(site, "lab", says=[str(path)])
        path.rmdir() if text is None else path.unlink()


# Disks and permissions


@pytest.mark.parametrize("words", [(), ("--verify",)], ids=["", "verify"])
def test_a_damaged_byte_of_a_btrfs_is_not_published(site, tmp_path, chance, words):
    """The kernel would refuse to read it, as its checksum is wrong."""
    precious = chance.randbytes(300_000)
    (site.base / "lab/usr/precious").write_bytes(precious)
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", "--rootdir", site.base / "lab", disk], check=True, stdout=subprocess.DEVNULL)
    flip(disk, disk.read_bytes().index(precious[100_000:100_064]))
    refused(site, *words, "--name=disk", str(disk), says=["/usr/precious", "wrong checksum", "btrfs scrub"])
    done = site.ltsp("image", "--skip-unreadable", *words, "--name=disk", str(disk), status=3)
    assert "usr/precious" in done.stderr


@pytest.mark.root
def test_a_base_directory_without_space_is_an_error_before_anything_is_written(tmp_path):
    lab = make_system(tmp_path / "lab", {f"boot/config-{VERSION}": configuration("LZ4", "ZLIB")})
    with mounted(Site.make(tmp_path), 'mount -t tmpfs -o size=2m tmpfs "$base"') as site:
        site.ltsp("image", str(lab))
        (lab / "usr/large").write_bytes(random.Random(1).randbytes(6 << 20))
        refused(site, "-m", "-comp lz4", str(lab), says=["not enough space", "MiB needed", "MiB free"])
        done = site.ltsp("image", "--dry-run", "-m", "-comp lz4", str(lab))
        assert "a build would be refused: at least 6." in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("words", [(), ("-m", "-Xbcj x86 -comp xz")], ids=["own", "mksquashfs"])
@pytest.mark.parametrize("file_system", ["tmpfs", "ext4"])
def test_a_base_directory_that_fills_up_keeps_the_image_before(tmp_path, words, file_system):
    """It was not certain to be too large, as its files might have been equal."""
    lab = make_system(
        tmp_path / "lab",
        {f"boot/config-{VERSION}": configuration("ZLIB", "XZ")},
    )
    mount = 'mount -t tmpfs -o size=5m tmpfs "$base"'
    if file_system == "ext4":
        disk = tmp_path / "disk"
        mount = f'truncate -s 6m {disk}; mke2fs -qF -O ^has_journal {disk}; mount -o loop {disk} "$base"'
    with mounted(Site.make(tmp_path), mount) as site:
        site.ltsp("image", *words, str(lab))
        for number in range(9):
            (lab / f"usr/large{number}").write_bytes(random.Random(number).randbytes(1 << 20))
        before = site.everything()
        done = site.ltsp("image", "--quiet", *words, str(lab), status=1)
        warning, error = done.stderr.splitlines()
        assert "the image may not fit" in warning
        assert re.search(r"image of lab: not enough space in \S+: \d+ [KM]iB left; nothing was published: f", error)
        assert "--prune" not in error, "the only version is that of clients"
        assert site.everything() == before


@pytest.mark.root
def test_a_base_directory_without_inodes_is_an_error_before_the_build(tmp_path):
    """Thousands of small files use them up, and df without -i shows a disk that is nearly empty."""
    lab = make_system(tmp_path / "lab")
    disk = tmp_path / "disk"
    mount = f'truncate -s 16m {disk}; mke2fs -qF -O ^has_journal -N 16 {disk}; mount -o loop {disk} "$base"'
    with mounted(Site.make(tmp_path), mount) as site:
        refused(site, str(lab), says=["not enough inodes for lab", "are left", f"df -i {site.base}"])


@pytest.mark.root
def test_an_image_is_not_refused_for_the_size_of_the_one_before(tmp_path):
    """138 MiB did not get into 170 MiB."""
    lab = make_system(tmp_path / "lab", {f"boot/config-{VERSION}": configuration("ZLIB")})
    with mounted(Site.make(tmp_path), 'mount -t tmpfs -o size=20m tmpfs "$base"') as site:
        (lab / "usr/large").write_bytes(random.Random(1).randbytes(11 << 20))
        site.ltsp("image", str(lab))
        (lab / "usr/large").write_bytes(random.Random(2).randbytes(6 << 20))
        done = site.ltsp("image", str(lab))
        assert "may not fit" not in done.stderr
        assert "about 6.0 MiB needed" in done.stdout + done.stderr


def test_a_dry_run_estimates_what_the_build_then_takes(site):
    (site.base / "lab/usr/program").write_bytes(random.Random(1).randbytes(1 << 20))
    (site.base / "lab/usr/text").write_bytes(bytes(range(256)) * (1 << 12))
    said = json.loads(site.ltsp("image", "--dry-run", "--json", "lab").stdout)["images"][0]["space_needed"]
    site.ltsp("image", "lab")
    size = site.image("lab").stat().st_size
    assert said["base_dir_at_least"] <= size
    assert abs(said["base_dir"] - size) < 0.1 * size


@pytest.mark.parametrize(
    ("parameters", "bounded"),
    [("-comp xz -Xbcj x86", True), ("-all-time 1", True), ("-regex -e nothing", False), ("-comp lzo", False)],
)
def test_the_least_space_is_known_unless_mksquashfs_may_write_less(site, parameters, bounded):
    (site.base / "lab/usr/program").write_bytes(random.Random(1).randbytes(1 << 20))
    said = json.loads(site.ltsp("image", "--dry-run", "--json", "lab", "-m", parameters).stdout)
    assert (said["images"][0]["space_needed"]["base_dir_at_least"] > 0) == bounded


def test_a_hole_needs_no_space(site):
    """As in the disk of a virtual machine that lies about in the source."""
    with (site.base / "lab/usr/disk").open("wb") as file:
        file.truncate(1 << 42)
    said = json.loads(site.ltsp("image", "--dry-run", "--json", "lab").stdout)
    assert said["images"][0]["space_needed"]["base_dir"] < 1 << 20


@pytest.mark.root
def test_a_tftp_directory_without_space_keeps_image_and_kernel_before(tmp_path):
    lab = make_system(tmp_path / "lab")
    with mounted(Site.make(tmp_path), 'mount -t tmpfs -o size=3m tmpfs "$tftp"') as site:
        site.ltsp("image", str(lab))
        (lab / f"boot/initrd.img-{VERSION}").write_bytes(random.Random(1).randbytes(8 << 20))
        for _ in range(2):
            line = refused(site, str(lab), says=["not enough space for lab", str(site.tftp), "MiB free"])
            # The initrd, kernel and the clients' initrd, whose busybox is larger in newer releases.
            assert (match := re.search(r"at least (\d+) MiB needed", line)) is not None, line
            assert 9 <= int(match[1]) <= 11


@pytest.mark.root
@pytest.mark.parametrize("place", ["base", "tftp"])
def test_a_read_only_directory_is_an_error(tmp_path, place):
    here = Site.make(tmp_path)
    here.system("lab")
    with mounted(here, f'mount --bind "${place}" "${place}"') as site:
        site.ltsp("image", "lab")
        subprocess.run([*site.through, "mount", "-o", "remount,ro,bind", getattr(here, place)], check=True)
        refused(site, "lab", says=[f"{getattr(site, place)} is mounted read-only", f"--{place}-dir"])


@pytest.mark.root
@pytest.mark.parametrize("place", ["base", "tftp"])
def test_a_directory_that_the_user_may_not_write_is_an_error(site, place):
    os.chown(getattr(site, place), 65534, 65534)
    refused(
        replace(site, through=UNPRIVILEGED),
        *("--ionice=", "lab"),
        says=["is not writable", str(getattr(site, place)), "run as root", f"--{place}-dir"],
    )


@pytest.mark.parametrize("place", ["BASE_DIR", "TFTP_DIR"])
def test_a_path_that_is_missing_or_not_a_directory_is_an_error(site, place):
    lab = site.base / "lab"
    for path in ("/nowhere/at/all", "/etc/passwd", "/dev/null"):
        command_refused(site, "image", "--quiet", str(lab), status=1, says=[path], **{place: path})


# Locks

_HOLD_RECORD_LOCK = """
import fcntl, sys
with open(sys.argv[1], "w") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("file", ["lock", "lock-frontend"])
def test_a_running_package_manager_is_waited_for_and_then_named(site, file):
    lock = site.base / "lab/var/lib/dpkg" / file
    for name in ("lock-frontend", "lock"):
        (lock.parent / name).touch()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD_RECORD_LOCK, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        refused(
            site,
            *("--lock-timeout=1", "lab"),
            status=75,
            says=["the package manager is running", f"(process {holder.pid})", f"/var/lib/dpkg/{file}", "try again"],
        )
        holder.stdin.close()
    site.ltsp("image", "--lock-timeout=1", "lab")


def test_another_build_is_named_and_can_be_waited_for(site):
    with open(site.base / "images/.lab.lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (("image", "--quiet", "lab"), ("kernel", "--quiet", "lab"), ("versions", "--prune", "lab")):
            command_refused(
                site,
                *command,
                status=75,
                says=["lab is being changed by", f"(process {os.getpid()})", "--wait=SECONDS"],
            )
        command_refused(site, "image", "--quiet", "--wait=1", "lab", status=75, says=[f"(process {os.getpid()})"])
        waiting = subprocess.Popen(
            site.command("image", "--quiet", "--wait=60", "lab"), env=site.environment(), cwd=site.home
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
    assert waiting.wait(60) == 0


# Images as sources


@pytest.fixture
def exported(site, tmp_path):
    """An image outside the server, which may be spoilt."""
    path = tmp_path / "copy.img"
    shutil.copyfile(site.image("lab"), path)
    return path


def test_a_truncated_image_is_refused(site, exported, chance):
    used = struct.unpack_from("<Q", exported.read_bytes(), 40)[0]
    for length in (0, 1, 95, 96, used // 2, used - 1, chance.randrange(96, used)):
        os.truncate(exported, length)
        refused(site, "--name=copy", str(exported), says=[str(exported)])
        shutil.copyfile(site.image("lab"), exported)


@pytest.mark.parametrize("cases", [6, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_a_forged_image_is_refused_or_read_as_it_is(site, exported, chance, cases, record_property):
    """A byte of it is another one: most are a fault of the image, some a change of what is in it."""
    whole = exported.read_bytes()
    refusals = 0
    for _ in range(cases):
        forged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 8])):
            at = chance.choice([chance.randrange(96), chance.randrange(len(forged))])
            forged[at] = chance.randrange(256)
        exported.write_bytes(forged)
        done = site.ltsp("image", "--quiet", "--no-preflight", "--name=forged", str(exported), status=None)
        assert done.returncode in {0, 1}, done.stderr
        if done.returncode:
            refusals += 1
            one_line(done.stderr, [str(exported)] if "no kernel" not in done.stderr else [])
    assert left_behind(site) == []
    record_property("R10", f"{cases} forged images as sources, {refusals} refused in a line, no other end")


# Hostile chroots


def with_traps(root, host, chance, traps, count):
    """A system in which so many of the paths that a build looks at are traps."""
    make_system(root)
    for name in chance.sample(TOUCHED, count):
        path = root / name
        if name == "proc" or not is_free_of_traps(path.parent, root):  # without proc it would be no system at all
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        chance.choice(traps)(path, host / name, chance)


def build_among_traps(site, scratch, *words):
    """The exit status of a build that let nothing of the host out."""
    done = site.ltsp("image", "--quiet", "--lock-timeout=0", *words, "lab", status=None)
    assert done.returncode in {0, 1, 75}  # 75: pacman is at work while its lock is there, whatever it is
    if done.returncode:
        one_line(done.stderr.splitlines(keepends=True)[-1])
    assert left_behind(site) == []
    for image in (site.base / "images").glob("*.img"):
        subprocess.run(["unsquashfs", "-q", "-n", "-d", scratch, image], check=True, capture_output=True)
    for path in (*site.tftp.rglob("*"), *scratch.rglob("*")):
        if not path.is_symlink() and path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
    return done.returncode


@pytest.mark.root
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__.strip("_"))
def test_a_trap_at_any_path_gets_a_line_or_nothing_and_hangs_nothing(tmp_path, trap, chance):
    """Links out of the chroot, pipes and devices at the paths that a build looks at, some at a time."""
    site = Site.make(tmp_path)
    host = plant_canaries(tmp_path / "host")
    with_traps(site.base / "lab", host, chance, [trap], 6)
    build_among_traps(site, tmp_path / "unpacked")


@pytest.mark.root
@pytest.mark.parametrize("chroots", [8, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(7200)])])
def test_chroots_full_of_traps_put_nothing_of_the_host_before_clients(tmp_path, chance, chroots, record_property):
    host = plant_canaries(tmp_path / "host")
    published = 0
    for number in range(chroots):
        site = Site.make(tmp_path / str(number))
        with_traps(site.base / "lab", host, chance, TRAPS, 3 + number % 5)
        kernel = "boot/vmlinuz-*" if number % 2 else "none"
        status = build_among_traps(site, tmp_path / "unpacked", f"--kernel-initrd={kernel}")
        published += status == 0
        for used in (site.base.parent.parent, tmp_path / "unpacked"):
            shutil.rmtree(used, ignore_errors=True)
    record_property("R11", f"{chroots} hostile chroots by the command, {published} published, 0 escapes")


# What nobody foresaw


def test_a_full_output_is_reported_and_nothing_is_published(site):
    for words in (
        ("image", "lab"),
        ("info",),
        ("versions", "lab"),
        ("--help",),
        ("--version",),
        ("versions", "--json"),
    ):
        with unharmed(site), open("/dev/full", "w") as full:
            done = subprocess.run(
                site.command(*words),
                env=site.environment(),
                cwd=site.home,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "ltsp: cannot write to standard output: No space left on device"
        assert "Exception" not in done.stderr


def test_a_reader_that_has_enough_ends_the_program_as_it_ends_others(site):
    done = subprocess.run(
        ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "sh", *site.command("versions", "lab")],
        env=site.environment(),
        cwd=site.home,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) in [(128 + signal.SIGPIPE, b""), (0, b"")]


def test_closed_standard_streams_do_no_harm(site):
    """The next file opened would get their numbers, and an image what is printed."""
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *site.command("image", "lab")],
            env=site.environment(),
            cwd=site.home,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "etc/motd" in listing(site.image("lab"))


def _limited(site, *words, limits, **environment):
    def limit():
        for number, value in limits.items():
            resource.setrlimit(number, (value, value))

    return subprocess.run(
        site.command(*words),
        env=site.environment(**environment),
        cwd=site.home,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("megabytes", [60, 100, 150, 250])
def test_too_little_memory_is_an_error(site, megabytes):
    before = site.everything()
    done = _limited(site, "image", "--quiet", "lab", limits={resource.RLIMIT_AS: megabytes << 20})
    assert done.returncode in {0, 1}
    if done.returncode:
        assert "Traceback" not in done.stderr
        assert site.everything() == before


@pytest.mark.parametrize("words", [["image", "--quiet", "lab"], ["image", "--quiet", "--skip-unreadable", "lab"]])
def test_too_few_descriptors_are_reported_with_the_right_remedy(site, words):
    """No file is left out for that, and none is at fault."""
    for number in (8, 12, 16, 24):
        before = site.everything()
        done = _limited(site, *words, limits={resource.RLIMIT_NOFILE: number})
        assert done.returncode in {0, 1}
        if done.returncode:
            assert "Traceback" not in done.stderr
            assert "ulimit -n" in done.stderr, done.stderr
            assert site.everything() == before


def test_a_chroot_of_endless_depth_is_read(site):
    at = os.open(site.base / "lab/usr", os.O_PATH)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        deeper = os.open("d", os.O_PATH, dir_fd=at)
        os.close(at)
        at = deeper
    os.close(at)
    site.ltsp("image", "lab")
    site.ltsp("image", "--dry-run", "lab")
    subprocess.run(["rm", "-rf", site.base / "lab/usr"], check=True)


# Where it is started


@pytest.fixture
def gone(site):
    """The site, where the working directory has been removed."""
    directory = site.home / "gone"
    directory.mkdir()
    shell = ("sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(directory))
    return replace(site, through=shell)


@pytest.mark.parametrize(
    "words",
    [
        *("info", "versions", "image lab", "image --dry-run lab", "kernel lab", "initrd", "ipxe", "dnsmasq --dry-run"),
        *("nfs --dry-run", "http --nginx", "dhcp-snippet isc", "image {home}/lab.tar --name=other"),
    ],
)
def test_what_needs_no_working_directory_does_without(gone, words):
    subprocess.run(["tar", "-C", gone.base / "lab", "-cf", gone.home / "lab.tar", "."], check=True)
    done = gone.ltsp(*words.format(home=gone.home).split())
    assert "the working directory has been removed" in done.stderr


@pytest.mark.parametrize("words", ["--help", "--version", "image --help"])
def test_help_is_printed_in_a_removed_directory(gone, words):
    assert gone.ltsp(*words.split()).stderr == ""


@pytest.mark.parametrize(
    "words", ["image ./x", "image ../x", "image .", "image lab,,./x", "-b x info", "image oci:x", "boottest ./x"]
)
def test_a_relative_path_from_a_removed_directory_is_an_error(gone, words):
    done = gone.ltsp(*words.split(), status=None)
    assert done.returncode in {1, 2}
    assert "the working directory has been removed" in done.stderr


def test_modules_of_the_working_directory_are_not_run(site):
    """Whoever may write there could have root run them: what reads archives and disks is started by its name."""
    subprocess.run(["tar", "-C", site.base / "lab", "-cf", site.home / "lab.tar", "."], check=True)
    for name in ("ltsp/__init__.py", "ltsp/sandbox/archive_session.py", "socket.py", "selectors.py"):
        path = site.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(site.home / 'ran')!r}, 'w')\n")
    program = [str(Path(sys.executable).with_name("ltsp")), "image", "./lab.tar", "--name=other"]
    environment = {name: value for name, value in site.environment().items() if name != "PYTHONPATH"}
    done = subprocess.run(program, cwd=site.home, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, (site.home / "ran").exists()) == (0, False), done.stderr
