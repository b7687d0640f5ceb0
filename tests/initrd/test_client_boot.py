"""The client's shell code on a real kernel: from power-on to a login prompt by each transport, and each failure.

These machines are QEMU without KVM; the servers are those of the distribution, in a network namespace of their own.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from corpus import diskless
from ltsp.cpio import compression, newc
from ltsp.host.files import read_server_file
from ltsp.initrd.client_tree import build_client_tree
from ltsp.initrd.kernel_modules import KernelModules
from ltsp.initrd.program_file import ServerPrograms
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.selection import select_all

pytestmark = [pytest.mark.boot, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1200)]

BOOTIF = "BOOTIF=01-52-54-00-00-00-01"
TELL = """\
[Unit]
Description=What the client says of itself
[Service]
ExecStart=/bin/sh /usr/local/bin/tell
[Install]
WantedBy=multi-user.target
"""
TOLD = {
    "state": "echo $state",
    "failed": "systemctl list-units --failed --plain --no-legend",
    "type": "findmnt -n -o FSTYPE /",
    "lower": "findmnt -n -o OPTIONS / | tr , '\\n' | grep lowerdir",
    "image": "findmnt -n -o FSTYPE /run/ltsp/root/image",
    "hostname": "cat /proc/sys/kernel/hostname",
    "machine": "cat /etc/machine-id",
    "hosts": "cat /etc/hosts",
    "cron": "systemctl is-enabled cron.service",
    "timers": "systemctl is-enabled apt-daily.timer",
    "person": "getent passwd person",
    "shadow": "grep ^root: /etc/shadow | cut -d : -f 2; stat -c %a /etc/shadow",
    "lease": "ip -o -4 address show scope global | cut -d ' ' -f 7",
    "modprobe": "cat /proc/sys/kernel/modprobe",
    "facts": "cat /run/ltsp/facts",
    "work": "ls /run/ltsp",
    "early": "cat /etc/early",
    "e1000": "dmesg | grep Descriptors",
}
# As messages of the kernel, which come in whole lines: a getty flushes the console, and hangs up who has it.
TELL_SCRIPT = "state=$(systemctl is-system-running --wait)\n" + "".join(
    f"printf '<4>tell {name} %s\\n' \"$({{ {command}; }} 2>&1 | tr '\\n' '|')\" >/dev/kmsg\n"
    for name, command in {**TOLD, "end": "echo end"}.items()
)


@dataclass(slots=True)
class Network:
    """Programs that share loopback and /run with each other and with nobody else."""

    holder: subprocess.Popen[str]
    log: Path
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def command(self) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m"]

    def serve(self, *command: str | Path, port: int) -> None:
        with self.log.open("ab") as log:
            server = subprocess.Popen([*self.command, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.servers.append(server)
        for _ in range(300):
            listening = subprocess.run([*self.command, "ss", "-Htln"], capture_output=True, text=True, check=True)
            if f":{port} " in listening.stdout:
                return
            assert server.poll() is None, self.log.read_text()
            time.sleep(0.1)
        pytest.fail(f"nothing listens on port {port}: {self.log.read_text()}")

    def end(self) -> None:
        for server in [*self.servers, self.holder]:
            server.send_signal(signal.SIGKILL)
            server.wait()


@pytest.fixture
def network(tmp_path) -> Iterator[Network]:
    script = "ip link set lo up && mount -t tmpfs tmpfs /run && mkdir /run/ganesha && echo ready && exec sleep 3600"
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    network = Network(holder, tmp_path / "servers.log")
    yield network
    network.end()
    holder.stdout.close()


@pytest.fixture(scope="module")
def images(debian_root, tmp_path_factory) -> Path:
    """A directory to serve, with lab.img in it."""
    directory = tmp_path_factory.mktemp("images")
    left_out = ["boot", "proc", "sys", "dev", "run", "tmp", "var/cache", "var/lib/apt/lists", "usr/share/doc"]
    left_out += ["usr/share/locale", "usr/share/man", "etc/ssh/ssh_host_*"]
    words = ["-comp", "zstd", "-Xcompression-level", "1", "-quiet", "-no-progress", "-wildcards", "-e"]
    empty = [word for name in ("proc", "sys", "dev", "run") for word in ("-p", f"/{name} d 755 0 0")]
    subprocess.run(
        ["mksquashfs", debian_root, directory / "lab.img", "-p", "/tmp d 1777 0 0", *empty, *words, *left_out],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return directory


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site's configuration; each layer has a visible effect on the client."""
    site = tmp_path_factory.mktemp("site")
    texts = {
        "server": "",
        "common/files/etc/systemd/system/tell.service": TELL,
        "common/files/usr/local/bin/tell": TELL_SCRIPT,
        "common/files/etc/ltsp/pre-init/PRE_INIT_EARLY": "echo early >/etc/early\n",
        "common/enable": "tell.service\n",
        "common/disable": "apt-daily.timer\ncron.service\n",
        "common/parts/etc/hosts/10-name": "127.0.1.1 %{HOSTNAME} %{MAC}\n",
        "common/parts/etc/hosts/00-local": "127.0.0.1 localhost\n",
        "common/templates": "etc/hosts\n",
        "common/shadow": "root:$6$hash\n",
        "image/lab/mask": "cron.service\n",
        "image/lab/keep": "cron.service\n",
        "section/0001/match": "52:54:00:*\n",
        "section/0001/env": "HOSTNAME='pc%{IP}'\n",
        "section/0001/parts/etc/hosts/20-server": "%{SERVER} server\n",
        "section/0002/match": "pc15\n",
        "section/0002/mask": "cron.service\n",
        "section/0003/match": "pc16\n192.168.*\n",
        "section/0003/env": "HOSTNAME='wrong'\n",
    }
    for path, text in texts.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    return site


@pytest.fixture(scope="module")
def initrd(debian_root, site, tmp_path_factory) -> Path:
    return diskless.initrd(debian_root, tmp_path_factory.mktemp("initrd"), extra={"ltsp/site": site})


def told(boot: diskless.Boot) -> dict[str, str]:
    words = re.findall(r"\] tell (\w+) (.*)", boot.text)
    return {name: value.rstrip("|") for name, value in words}


def runs(debian_root: Path, initrd: Path, words: str, record_property, *, transport: str, **options) -> dict[str, str]:
    boot = diskless.boot(
        debian_root,
        initrd,
        f"{words} {BOOTIF} printk.devkmsg=on",
        until=("tell end", "ltsp: FATAL:", "Kernel panic"),
        **options,
    )
    said = told(boot)
    assert said.get("state") == "running", f"{json.dumps(said, indent=1)}\n{boot.text[-6000:]}"
    marks = ("ltsp: stage start", "ltsp: stage attach", "ltsp: stage switch", "login:")
    figures = {mark.removeprefix("ltsp: stage "): round(boot.seconds(mark), 1) for mark in marks}
    record_property(f"seconds by {transport}", figures)
    assert (said["type"], said["image"], said["failed"]) == ("overlay", "squashfs", "")
    assert "lowerdir=/run/ltsp/root/image" in said["lower"]
    assert said["hostname"] == "pc15"
    return said


def test_a_client_boots_by_http_with_the_sites_configuration(debian_root, initrd, images, network, record_property):
    network.serve("busybox", "httpd", "-f", "-p", "127.0.0.1:8080", "-h", images, port=8080)
    digest = hashlib.sha256((images / "lab.img").read_bytes()).hexdigest()
    words = f"ltsp.root=http://10.0.2.2:8080/lab.img ltsp.sha256={digest} ltsp.image=images/lab.img"
    said = runs(
        debian_root, initrd, words, record_property, transport="http", memory=1024, network_drivers=network.command
    )
    assert said["machine"] == hashlib.md5(b"ltsp 52:54:00:00:00:01").hexdigest()
    assert said["hosts"] == "127.0.0.1 localhost|127.0.1.1 pc15 525400000001|10.0.2.2 server"
    assert said["cron"] == "masked"
    assert said["timers"] == "disabled"
    assert said["shadow"] == "$6$hash|640"
    assert said["lease"] == "10.0.2.15/24"
    assert said["modprobe"] == "/sbin/modprobe"
    assert said["work"] == "facts|root"
    assert said["early"] == "early"
    assert {"IMAGE=lab", "SERVER=10.0.2.2", "INTERFACE=eth0", "HOSTNAME=pc15"} <= set(said["facts"].split("|"))


def test_a_client_boots_from_a_file_in_its_initrd(debian_root, site, images, tmp_path, record_property):
    extra = {"ltsp/site": site, "lab.img": images / "lab.img"}
    initrd = diskless.initrd(debian_root, tmp_path, extra=extra)
    words = "ltsp.root=file:/lab.img ltsp.image=images/.versions/lab/V/image.img"
    runs(debian_root, initrd, words, record_property, transport="file", memory=1280)


@pytest.mark.parametrize("protocols", ["3, 4", "4"])
def test_a_client_boots_by_nfs(debian_root, initrd, images, network, tmp_path, record_property, protocols):
    """With both versions it takes 3; a server of version 4 alone does, too."""
    serve_nfs(network, images, tmp_path, protocols)
    words = f"ltsp.root=nfs://10.0.2.2{images}!lab.img ltsp.image=images/lab.img"
    runs(
        debian_root,
        initrd,
        words,
        record_property,
        transport=f"nfs {protocols}",
        memory=384,
        network_drivers=network.command,
    )


def serve_nfs(network: Network, images: Path, tmp_path: Path, protocols: str) -> None:
    settings = tmp_path / "ganesha.conf"
    settings.write_text(
        f"NFS_CORE_PARAM {{ Protocols = {protocols}; Enable_NLM = false; mount_path_pseudo = true;"
        " Allow_Set_IO_Flusher_Fail = true; }\n"
        "NFSv4 { Graceless = true; }\n"
        f"EXPORT {{ Export_Id = 1; Path = {images}; Pseudo = {images}; Access_Type = RO; Squash = No_root_squash;"
        " PrivilegedPort = false; FSAL { Name = VFS; } }\n"
    )
    network.serve("rpcbind", "-f", port=111)
    log, pid = tmp_path / "ganesha.log", tmp_path / "ganesha.pid"
    network.serve("ganesha.nfsd", "-F", "-L", log, "-f", settings, "-p", pid, port=2049)


def test_a_menu_of_older_clients_boots(debian_root, initrd, images, network, tmp_path, record_property):
    serve_nfs(network, images.parent, tmp_path, "3, 4")
    words = f"root=/dev/nfs nfsroot=10.0.2.2:{images.parent},vers=3 ltsp.image={images.name}/lab.img"
    runs(
        debian_root,
        initrd,
        words,
        record_property,
        transport="nfs, old menu",
        memory=512,
        network_drivers=network.command,
    )


def test_a_client_boots_by_nbd(debian_root, initrd, images, network, record_property):
    network.serve("nbdkit", "-f", "-r", "-i", "127.0.0.1", "-e", "lab", "file", images / "lab.img", port=10809)
    words = "ltsp.root=nbd://10.0.2.2/lab ltsp.image=images/lab.img"
    runs(debian_root, initrd, words, record_property, transport="nbd", memory=384, network_drivers=network.command)


E1000 = "user,id=n0;e1000,netdev=n0,mac=52:54:00:00:00:01"


@pytest.fixture(scope="module")
def dkms(debian_root, site, tmp_path_factory) -> Path:
    """The initrd of an image whose driver of that card was put beside the kernel's own by DKMS, with options for it."""
    directory = f"usr/lib/modules/{diskless.Modules.of(debian_root).directory.name}"
    own = "kernel/drivers/net/ethernet/intel/e1000/e1000.ko"
    with DirectorySource("lab", str(debian_root), "").open(select_all, Faults()) as tree:
        listed = (debian_root / directory / "modules.dep").read_text().replace(f"{own}:", "updates/dkms/e1000.ko:")
        folder, text = Metadata(0o755), Metadata(0o644)
        changes = {
            f"{directory}/{own}": None,
            f"{directory}/updates": Directory(
                folder, {"dkms": Directory(folder, {"e1000.ko": tree.get(f"{directory}/{own}")})}
            ),
            f"{directory}/modules.dep": File(text, Bytes(listed.encode())),
            "etc/modprobe.d/e1000.conf": File(text, Bytes(b"options e1000 TxDescriptors=128\n")),
        }
        image = tree.edit(changes)
        modules = KernelModules.read(image, directory.rpartition("/")[2])
        client = build_client_tree(image, modules, server=ServerPrograms(read_server_file))
    assert "updates/dkms/e1000.ko" in client.modules["net"]
    work = tmp_path_factory.mktemp("dkms")
    with (work / "ours.img").open("wb") as output:
        newc.write_archive(client.tree, output, client.existing_directories)
    shutil.copytree(site, work / "tree/ltsp/site")
    diskless.archived(work / "tree", work / "site.img")
    (work / "client.img").write_bytes((work / "ours.img").read_bytes() + (work / "site.img").read_bytes())
    return work / "client.img"


def test_a_client_boots_with_a_driver_from_dkms(debian_root, dkms, images, network, record_property):
    network.serve("busybox", "httpd", "-f", "-p", "127.0.0.1:8080", "-h", images, port=8080)
    words = "ltsp.root=http://10.0.2.2:8080/lab.img ltsp.image=images/lab.img e1000.RxDescriptors=192"
    options = {"memory": 1024, "cards": (E1000,), "network": network.command}
    said = runs(debian_root, dkms, words, record_property, transport="http, driver of DKMS", **options)
    assert "Transmit Descriptors set to 128" in said["e1000"]
    assert "Receive Descriptors set to 192" in said["e1000"]


def test_a_driver_that_the_command_line_blacklists_is_not_loaded(debian_root, dkms):
    words = f"ltsp.root=http://10.0.2.2:8080/lab.img {BOOTIF} modprobe.blacklist=e1000"
    boot = diskless.boot(debian_root, dkms, words, cards=(E1000,))
    assert "no network card has a driver; PCI 0x8086:0x100e has none" in boot.fatal


@pytest.fixture(scope="module", params=["debian_root", "dracut_root"])
def distribution(request, site, tmp_path_factory) -> tuple[Path, Path]:
    """A root, and its own initrd with ours and a site behind it, each padded as boot loaders do it."""
    root, work = request.getfixturevalue(request.param), tmp_path_factory.mktemp("distribution")
    (version,) = (path.name for path in (root / "usr/lib/modules").iterdir())
    with DirectorySource("lab", str(root), "").open(select_all, Faults()) as tree:
        client = build_client_tree(tree, KernelModules.read(tree, version), server=ServerPrograms(read_server_file))
    ours = io.BytesIO()
    newc.write_archive(client.tree, ours, client.existing_directories)
    shutil.copytree(site, work / "tree/ltsp/site")
    diskless.archived(work / "tree", work / "site.img")
    parts = [
        (root / f"boot/initrd.img-{version}").read_bytes(),
        compression.compress(ours.getvalue(), "gzip"),
        (work / "site.img").read_bytes(),
    ]
    (work / "initrd.img").write_bytes(b"".join(part + bytes(-len(part) % 4) for part in parts))
    return root, work / "initrd.img"


def test_a_client_boots_after_the_initrd_of_its_distribution(distribution, images, network, tmp_path, record_property):
    serve_nfs(network, images, tmp_path, "3, 4")
    root, initrd = distribution
    words = f"ltsp.root=nfs://10.0.2.2{images}!lab.img ltsp.image=images/lab.img"
    said = runs(
        root,
        initrd,
        words,
        record_property,
        start="",
        transport=f"nfs, {root.name}",
        memory=1024,
        network_drivers=network.command,
    )
    assert said["work"].split("|")[0] == "facts"
    assert said["modprobe"] == "/sbin/modprobe"
    assert said["early"] == "early"


@pytest.mark.parametrize("distribution", ["dracut_root"], indirect=True)
def test_a_menu_of_older_clients_boots_after_dracut(distribution, images, network, tmp_path, record_property):
    """dracut would mount that root itself; behind initramfs-tools, see tests/boot/test_old_menu.py."""
    serve_nfs(network, images.parent, tmp_path, "3, 4")
    root, initrd = distribution
    words = f"root=/dev/nfs nfsroot=10.0.2.2:{images.parent} ltsp.image={images.name}/lab.img"
    options = {"start": "", "memory": 1024, "network": network.command}
    runs(root, initrd, words, record_property, transport="nfs, old menu, dracut", **options)


def test_a_failure_after_the_initrd_of_a_distribution_is_reported_too(distribution):
    root, initrd = distribution
    words = f"ltsp.root=file:/none.img {BOOTIF}"
    boot = diskless.boot(
        root, initrd, words, start="", memory=1024, until=("ltsp: FATAL:", "login:", "Kernel panic", "emergency")
    )
    assert "/none.img not found" in boot.fatal, boot.text[-3000:]
    assert "as an initrd" in boot.fatal


@pytest.mark.slow
def test_a_driver_finds_its_firmware_in_the_initrd(debian_root, tmp_path):
    """The driver of this card says where its microcode has another size than it should; without one it does as well."""
    (tmp_path / "microcode").write_bytes(b"false")
    extra = {"ltsp/firmware/e100/d101s_ucode.bin": tmp_path / "microcode"}
    initrd = diskless.initrd(debian_root, tmp_path, extra=extra)
    boot = diskless.boot(
        debian_root,
        initrd,
        "ltsp.root=http://10.0.2.2/none.img",
        cards=("user,id=n0;i82559er,netdev=n0",),
        until=("has wrong size", "Failed to load firmware", "ltsp: FATAL:", "Kernel panic"),
    )
    assert 'Firmware "e100/d101s_ucode.bin" has wrong size 5' in boot.text, boot.text[-3000:]


@pytest.mark.parametrize("bootif", ["", "BOOTIF=01-52-54-00-00-00-02"])
def test_a_card_without_link_is_passed_over(debian_root, initrd, images, network, bootif):
    """Even if the firmware booted from it, but only after the time that a switch may need."""
    network.serve("busybox", "httpd", "-f", "-p", "127.0.0.1:8080", "-h", images, port=8080)
    boot = diskless.boot(
        debian_root,
        initrd,
        f"ltsp.root=http://10.0.2.2:8080/none.img {bootif}",
        cards=("user,id=n0;e1000,id=dead,netdev=n0,mac=52:54:00:00:00:02", diskless.CARD.replace("n0", "n1")),
        unplugged=["dead"],
        until=("ltsp: FATAL:", "Kernel panic"),
        network_drivers=network.command,
    )
    assert re.search(r"ltsp: network card \w+, 52:54:00:00:00:01", boot.text), boot.text[-3000:]
    assert "404 Not Found" in boot.fatal
    assert ("has no link; using" in boot.text) == bool(bootif)


@pytest.mark.parametrize(
    ("words", "memory", "cause", "remedy"),
    [
        ("ltsp.root=http://10.0.2.2:8080/none.img", 384, "404 Not Found", "ltsp ipxe"),
        ("ltsp.root=http://10.0.2.2:8081/lab.img", 384, "Connection refused", "ltsp http"),
        ("ltsp.root=http://10.0.2.2:8080/lab.img", 256, "MiB of free memory", "by NFS or NBD"),
        (f"ltsp.root=http://10.0.2.2:8080/lab.img ltsp.sha256={'0' * 64}", 1024, "wrong checksum", "restart"),
        ("ltsp.root=http://10.0.2.2:8080/text.img", 384, "cannot mount", "publish the image again"),
        ("ltsp.root=nfs://10.0.2.2/srv!lab.img", 384, "cannot mount /srv from 10.0.2.2 by NFS", "exportfs -v"),
        ("ltsp.root=nbd://10.0.2.2/lab", 384, "cannot attach lab from 10.0.2.2:10809 by NBD", "NBD server runs"),
        ("ltsp.root=file:/none.img", 384, "/none.img not found", "as an initrd"),
        ("", 384, "no ltsp.root=", "ltsp ipxe"),
        ("ltsp.root=https://10.0.2.2/lab.img", 384, "https needs ltsp.sha256", "checksum"),
    ],
)
def test_a_failure_states_its_cause_and_its_remedy(debian_root, initrd, images, network, words, memory, cause, remedy):
    (images / "text.img").write_text("no image at all\n" * 1000)
    network.serve("busybox", "httpd", "-f", "-p", "127.0.0.1:8080", "-h", images, port=8080)
    boot = diskless.boot(
        debian_root,
        initrd,
        f"{words} {BOOTIF}",
        memory=memory,
        until=("ltsp: FATAL:", "login:", "Kernel panic"),
        network_drivers=network.command,
    )
    assert cause in boot.fatal, boot.text[-3000:]
    assert remedy in boot.fatal
