"""BOOT_TEST: clients get a version only after it has booted; what has not waits, and is lost by nothing.

QEMU is a false one here, which reads the script that a client would be given and says what a serial console would.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.site import Site

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

QEMU = """\
#!{python} -I
import json, os, re, sys, time
words = " ".join(sys.argv)
if "-netdev" not in words:
    sys.exit(1)  # a trial of KVM
def say(text):
    os.write(int(re.search(r"id=console,fd=(\\d+)", words)[1]), text.encode())
tftp, name = re.search(r"tftp=([^ ]+),bootfile=(\\S+)", words).groups()
script = open(os.path.join(tftp, name)).read()
for url in re.findall(r"^(?:kernel|initrd)(?: --name \\S+)? tftp://10.0.2.2/(\\S+)", script, re.MULTILINE):
    if not os.path.getsize(os.path.join(tftp, url)):
        sys.exit(1)
command_line = re.search(r"^kernel \\S+ (.*)", script, re.MULTILINE)[1]
def boot():
    guest = dict(source="ltsp", fstype="overlay", root="", state="running", failed=[], cmdline=command_line)
    say("Linux version 6.1\\nltsp-boottest: " + json.dumps(dict(guest, received=dict(eth0=1), available=1)) + "\\n")
    say("pc login: ")
{behaviour}
time.sleep(100)
"""
FAILS = 'say("ltsp: stage attach\\nltsp: FATAL: the server does not give it: type ltsp nfs\\n")'
BOOTS = "boot()"
REFUSES = 'sys.exit("Could not access a module")'
GANESHA = """\
#!{python} -I
import socket, sys, time
log = "30/11/2026 16:01:39 : epoch 6b : pc : nfs-ganesha-7[main] main :MAIN :FATAL :the disk is gone"
if "{when}" == "at once":
    sys.exit(log)
socket.create_server(("127.0.0.1", 2049)).accept()
time.sleep(1)
sys.exit(log)
"""
HANGS = 'say("Linux version 6.1\\n")'


@pytest.fixture
def site(tmp_path):
    site = Site.make(tmp_path)
    site.system("lab")
    return site


@pytest.fixture
def programs(tmp_path):
    """All that a boot test starts but QEMU."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "unshare", "rpcbind", "ganesha.nfsd", "nbdkit", "nice", "ionice"):
        (directory / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
    return directory


def qemu(programs: Path, behaviour: str) -> None:
    program = programs / "qemu-system-x86_64"
    program.write_text(QEMU.format(python=sys.executable, behaviour=behaviour))
    program.chmod(0o755)


def image(site, programs, *options, status=0):
    return site.ltsp("image", "--ionice=", "--boot-test", *options, "lab", status=status, PATH=str(programs))


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_server_that_dies_is_named_with_its_log(site, programs, when):
    qemu(programs, HANGS)
    (programs / "ganesha.nfsd").unlink()
    (programs / "ganesha.nfsd").write_text(GANESHA.format(python=sys.executable, when=when))
    (programs / "ganesha.nfsd").chmod(0o755)
    done = image(site, programs, status=1)
    assert "ganesha.nfsd failed with exit status 1: FATAL: the disk is gone" in done.stderr.splitlines()[-1]
    if when == "later":
        assert "log of ganesha.nfsd:\n| FATAL: the disk is gone\n" in done.stderr


def versions(site):
    """Each with its state, oldest first."""
    rows = site.ltsp("versions", "lab").stdout.splitlines()
    found = [re.match(r"\S*\s*(\d{8}T\d{6}Z-\w{8})\s+(\S+ \S+)\s+(\S+)\s+(current|old|staged)?", row) for row in rows]
    return [(match[1], match[4]) for match in found if match]


def states(site):
    return [state for _, state in versions(site)]


def change(site):
    (site.base / "lab/etc/motd").write_text("another system\n")


def test_a_version_that_boots_is_published(site, programs):
    qemu(programs, BOOTS)
    done = image(site, programs)
    assert "boots via nfs" in done.stderr
    assert "published lab" in done.stdout
    assert states(site) == ["current"]


def test_a_version_that_does_not_boot_stays_staged(site, programs):
    site.ltsp("image", "lab")
    before = site.image("lab").read_bytes()
    change(site)
    qemu(programs, FAILS)
    done = image(site, programs, status=1)
    (current, _), (staged, _) = versions(site)
    assert states(site) == ["current", "staged"]
    assert site.image("lab").read_bytes() == before
    assert done.stderr.splitlines()[-1] == (
        f"ltsp: version {staged} of lab was not published; clients still boot {current}: it does not boot via nfs: "
        f"the server does not give it: type ltsp nfs; to test it again: ltsp boottest lab --version={staged}; "
        f"to publish it untested: ltsp versions lab --use={staged}"
    )
    assert "| ltsp: FATAL" in done.stderr
    site.ltsp("versions", "lab", f"--use={staged}")
    assert states(site) == ["old", "current"]


def test_an_identical_build_boots_the_staged_version(site, programs):
    site.ltsp("image", "lab")
    change(site)
    qemu(programs, FAILS)
    image(site, programs, status=1)
    waiting = versions(site)[1][0]
    image(site, programs, status=1)
    assert [version for version, _ in versions(site)][1:] == [waiting]
    qemu(programs, BOOTS)
    image(site, programs)
    assert versions(site)[1] == (waiting, "current")
    qemu(programs, REFUSES)
    assert "unchanged lab" in image(site, programs).stdout


def test_without_qemu_the_first_version_stays_staged(site, programs):
    qemu(programs, REFUSES)
    done = image(site, programs, "--boot-test=nbd", status=1)
    assert "clients have no version to boot: could not test whether it boots via nbd" in done.stderr
    assert "Could not access a module" in done.stderr
    assert states(site) == ["staged"]
    assert not (site.tftp / "ltsp/lab/boot.ipxe").exists()
    assert "none" in site.ltsp("info").stdout


def test_killing_the_boot_test_leaves_the_version_staged(site, programs):
    site.ltsp("image", "lab")
    change(site)
    qemu(programs, HANGS)
    with subprocess.Popen(
        site.command("image", "--ionice=", "--boot-test=1", "lab"),
        env=site.environment(PATH=str(programs)),
        cwd=site.home,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as ours:
        assert ours.stderr is not None
        assert any("kernel" in line and " s " in line for line in ours.stderr)
        assert states(site) == ["current", "staged"]
        ours.send_signal(signal.SIGKILL)
    site.ltsp("versions", "lab", "--prune", "--keep=1")
    assert states(site) == ["current", "staged"]


def test_a_new_kernel_must_also_boot_first(site, programs):
    site.ltsp("image", "lab")
    qemu(programs, FAILS)
    other = site.home / "busybox"
    other.write_bytes(Path(shutil.which("busybox") or "").read_bytes() + b"\0")
    command = ("kernel", "--boot-test", f"--busybox={other}", "lab")
    site.ltsp(*command, status=1, PATH=str(programs))
    assert states(site) == ["current", "staged"]
    qemu(programs, BOOTS)
    site.ltsp(*command, PATH=str(programs))
    assert states(site) == ["old", "current"]


def test_the_command_line_overrides_the_setting_of_ltsp_conf(site, programs):
    site.conf.write_text("[server]\nBOOT_TEST=1\n")
    qemu(programs, FAILS)
    site.ltsp("image", "lab", status=1, PATH=str(programs))
    assert states(site) == ["staged"]
    site.ltsp("image", "--boot-test=0", "lab", PATH=str(programs))
    assert states(site) == ["current"]


def test_an_image_without_a_kernel_cannot_be_boot_tested(site):
    done = site.ltsp("image", "--boot-test", "--kernel-initrd=none", "lab", status=2)
    assert "--boot-test needs a kernel" in done.stderr
    assert site.ltsp("image", "--boot-test=tape", "lab", status=2).stderr
