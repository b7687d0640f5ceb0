"""A diskless client: an initrd around the shell core, and the machine that boots it.

The initrd is put together here by other programs (kmod's lists, cpio), so that the shell is tested by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "src/ltsp/initrd/client"
GROUPS = {
    "base": ["virtio_pci", "loop", "squashfs", "overlay"],
    "net": ["virtio_net", "e1000", "e100"],
    "nfs": ["nfsv3", "nfsv4"],
    "nbd": ["nbd"],
}
CARD = "user,id=n0;virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01"
"""A network and a card in it; the network reaches servers on this machine's loopback as 10.0.2.2."""
BOOT_SECONDS = 240
"""More than three times what any of these boots takes on two slow processors without KVM."""


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of a root, as depmod listed them."""

    directory: Path
    dependencies: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Modules:
        directory = max((root / "usr/lib/modules").iterdir())
        lines = (directory / "modules.dep").read_text().splitlines()
        return cls(directory, {path: rest.split() for path, _, rest in (line.partition(":") for line in lines)})

    def find(self, name: str) -> str | None:
        """The path of a module; None where it is built in."""
        names = (path for path in self.dependencies if Path(path).name.split(".ko")[0].replace("-", "_") == name)
        return next(names, None)

    def closure(self, names: list[str]) -> list[str]:
        """Paths in load order."""
        order: dict[str, None] = {}
        for path in filter(None, map(self.find, names)):
            order.update(dict.fromkeys([*reversed(self.dependencies[path]), path]))
        return list(order)


def initrd(root: Path, work: Path, *, extra: dict[str, Path] | None = None) -> Path:
    """The client's initrd for the kernel of `root`; `extra` are files to add, by their path in it."""
    tree = work / "initrd"
    modules = Modules.of(root)
    version = modules.directory.name
    for directory in (
        "dev",
        "proc",
        "sys",
        "run",
        "root",
        "ltsp/bin",
        "ltsp/sh",
        "ltsp/lib",
        f"ltsp/modules/{version}",
    ):
        (tree / directory).mkdir(parents=True)
    shutil.copy(CLIENT / "init", tree / "ltsp/init")
    (tree / "ltsp/init").chmod(0o755)
    for part in CLIENT.glob("*.sh"):
        shutil.copy(part, tree / "ltsp/sh")
    shutil.copy(shutil.which("busybox") or "busybox", tree / "ltsp/bin/busybox")
    _nbd_client(tree / "ltsp")
    (tree / "ltsp/version").write_text(f"{version}\n")
    order = [f"{group} {path}" for group, names in GROUPS.items() for path in modules.closure(names)]
    paths = dict.fromkeys(line.split()[1] for line in order)
    (tree / "ltsp/modules.order").write_text("".join(f"{line}\n" for line in order))
    (tree / "ltsp/modules.load").write_text(
        "".join(f"{path}: {' '.join([*reversed(modules.dependencies[path]), path])}\n" for path in paths)
    )
    aliases = []
    for path in paths:
        target = tree / "ltsp/modules" / version / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(modules.directory / path, target)
        told = subprocess.run(["modinfo", "-F", "alias", target], capture_output=True, text=True, check=True)
        aliases += [f"{alias} {path}\n" for alias in told.stdout.split()]
    (tree / "ltsp/modules.alias").write_text("".join(aliases))
    for name, source in (extra or {}).items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)
    os.mknod(tree / "dev/console", 0o600 | 0o020000, os.makedev(5, 1))
    os.mknod(tree / "dev/null", 0o666 | 0o020000, os.makedev(1, 3))
    archived(tree, work / "client.img")
    shutil.rmtree(tree)
    return work / "client.img"


def archived(tree: Path, archive: Path) -> None:
    """The tree as an initrd."""
    names = subprocess.run(["find", ".", "-print0"], cwd=tree, capture_output=True, check=True).stdout
    with archive.open("wb") as output:
        subprocess.run(
            ["cpio", "-0", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=tree, input=names, stdout=output, check=True
        )


def _nbd_client(ltsp: Path) -> None:
    program = shutil.which("nbd-client")
    if program is None:
        return
    shutil.copy(program, ltsp / "bin/nbd-client")
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+)", told):
        shutil.copy(library, ltsp / "lib")


@dataclass(frozen=True, slots=True)
class Boot:
    """The console's lines, each with its seconds since power-on."""

    lines: list[tuple[float, str]]

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def seconds(self, mark: str) -> float:
        """When a line with this text came."""
        return next((at for at, line in self.lines if mark in line), float("inf"))

    @property
    def fatal(self) -> str:
        return next((line for _, line in self.lines if "ltsp: FATAL:" in line), "")


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Machines are slow enough when they have the processors to themselves."""
    with Path(tempfile.gettempdir(), "qemu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def boot(
    root: Path,
    archive: Path,
    words: str,
    *,
    start: str = "rdinit=/ltsp/init",
    memory: int = 768,
    cards: tuple[str, ...] = (CARD,),
    unplugged: Sequence[str] = (),
    network: Sequence[str] = (),
    until: tuple[str, ...] = ("login:", "ltsp: FATAL:", "Kernel panic"),
    seconds: float = BOOT_SECONDS,
) -> Boot:
    """Boot until one of the texts is on the console.

    `start` is the word that says what the kernel starts; nothing is /init of the first archive that has one.
    `network` is the command that starts programs in the network namespace where the servers are; `unplugged` are the
    identifiers of cards without link.
    """
    kernel = root / "boot" / f"vmlinuz-{Modules.of(root).directory.name}"
    arguments = ["qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2"]
    arguments += ["-m", str(memory), "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
    arguments += ["-kernel", str(kernel), "-initrd", str(archive)]
    arguments += ["-append", f"console=ttyS0 {start} {words}"]
    for card in cards:
        netdev, device = card.split(";")
        arguments += ["-netdev", netdev, "-device", device]
    with one_at_a_time(), tempfile.TemporaryDirectory() as directory:
        control = f"{directory}/qmp"
        if unplugged:
            arguments += ["-S", "-qmp", f"unix:{control},server=on,wait=off"]
        began = time.monotonic()
        machine = subprocess.Popen(
            [*network, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        assert machine.stdout is not None
        lines: list[tuple[float, str]] = []
        partial = b""
        try:
            if unplugged:
                _unplug(control, unplugged)
            os.set_blocking(machine.stdout.fileno(), False)
            while time.monotonic() - began < seconds and (machine.poll() is None or partial):
                data = machine.stdout.read() or b""
                *whole, partial = (partial + data).split(b"\n")
                now = time.monotonic() - began
                new = [line.decode(errors="replace").rstrip("\r") for line in [*whole, partial]]
                lines += [(now, line) for line in new[:-1]]
                if any(mark in line for mark in until for line in new):
                    lines.append((now, new[-1]))
                    break
                time.sleep(0.05)
        finally:
            os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
            machine.stdout.close()
    return Boot(lines)


def _unplug(control: str, cards: Sequence[str]) -> None:
    """Take the links of cards away, then let the machine start. QEMU's qmp-spec."""
    while not os.path.exists(control):
        time.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(control)
        with connection.makefile("rw") as stream:
            stream.readline()
            commands: list[dict[str, object]] = [{"execute": "qmp_capabilities"}]
            commands += [{"execute": "set_link", "arguments": {"name": card, "up": False}} for card in cards]
            for command in [*commands, {"execute": "cont"}]:
                stream.write(f"{json.dumps(command)}\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    assert "error" not in answer, answer
