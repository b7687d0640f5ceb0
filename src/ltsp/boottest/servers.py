"""The servers of a test: all that a client needs to boot a version by one transport, on a private loopback.

They run in a network and with a /run of their own: ports and sockets of the machine's own servers neither conflict nor
are disturbed, and nobody outside can connect.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os.path import join
from tempfile import TemporaryDirectory

from ltsp import errors
from ltsp.boottest import guest_report, machine, nfs_server
from ltsp.boottest.boot_script import BootScript
from ltsp.boottest.machine import HOST_ADDRESS, Bios, NetworkBoot, Uefi
from ltsp.boottest.server import ServerProcess, start_server
from ltsp.errors import LtspError
from ltsp.host import mounts, namespaces
from ltsp.services.http_files import open_http_files
from ltsp.settings.naming import ADD_ON, MENU

_IMAGES_DIRECTORY = "images"
_HTTP_PORT = 80
WHOLE_IMAGE_TRANSPORTS = ("http", "file")
"""Transports that fetch the whole image, so that its checksum can be verified."""


@dataclass(frozen=True, slots=True)
class BootSubject:
    """The version of an image to boot, and its paths."""

    name: str
    version: str
    base_dir: str
    tftp_dir: str
    image: str
    """Path below BASE_DIR, as in ltsp.image=."""
    sha256: str
    """Of the image."""
    client_initrd: str
    """Name of the client's initrd next to the kernel."""
    nbd_initrd: str = ""
    """Name of the additional initrd for NBD; empty if the version has none."""

    @property
    def has_menu(self) -> bool:
        return os.path.isfile(join(self.tftp_dir, "ltsp", MENU))


@dataclass(frozen=True, slots=True)
class BootRoute:
    """How a client boots."""

    subject: BootSubject
    through_menu: bool
    """By the site's menu, which boots the current version; else by a script for this version."""
    transport: str
    """How it gets its root: `nfs`, `http`, `nbd`, `file`."""
    fetch: str
    """How iPXE gets menu, kernel and initrds: `tftp`, `http`."""
    uefi: bool = False
    kernel_arguments: str = ""
    """More words for the kernel."""


@dataclass(frozen=True, slots=True)
class BootServers:
    boot: NetworkBoot
    firmware: Bios | Uefi
    servers: tuple[ServerProcess, ...] = ()
    """The servers that are separate programs."""


def require_http_library(transport: str, fetch: str = "tftp") -> None:
    """Raises LtspError if a library is missing; call this before anything that takes long."""
    if fetch == "http" or transport in WHOLE_IMAGE_TRANSPORTS:
        with errors.require_library("a boot test over HTTP", "aiohttp", "http", "NFS and TFTP do not need it"):
            import aiohttp  # noqa: F401, PLC0415 -- an extra


@contextmanager
def start_servers(route: BootRoute, log: Callable[[str], None]) -> Iterator[BootServers]:
    """Run the servers; they and their files are removed at the end.

    Raises LtspError if a version cannot be booted this way, or a server is missing.
    """
    subject = route.subject
    images = join(subject.base_dir, _IMAGES_DIRECTORY)
    require_http_library(route.transport, route.fetch)
    if route.transport == "file" and route.through_menu and route.fetch != "http":
        raise LtspError("the menu can load an image as a file only over HTTP", "add --fetch=http")
    with ExitStack() as stack:
        stack.enter_context(enter_private_network())
        # In the private /run, which disappears with the last process, even after a kill.
        directory = stack.enter_context(TemporaryDirectory(prefix="ltsp-boottest-", dir="/run"))
        tftp = join(directory, "tftp")
        os.mkdir(tftp)
        os.symlink(join(subject.tftp_dir, "ltsp"), join(tftp, "ltsp"))
        with open(join(tftp, "report.img"), "wb") as file:
            file.write(guest_report.build_report_initrd())
        servers: tuple[ServerProcess, ...] = ()
        if route.transport == "nfs":
            state = join(directory, "nfs")
            os.mkdir(state)
            servers = stack.enter_context(nfs_server.serve_directory(images, state))
        elif route.transport == "nbd":
            servers = (stack.enter_context(serve_nbd(join(subject.base_dir, subject.image))),)
        if route.fetch == "http" or route.transport in WHOLE_IMAGE_TRANSPORTS:
            from ltsp.services import http_server  # noqa: PLC0415 -- it imports an extra

            files = stack.enter_context(open_http_files(subject.base_dir, subject.tftp_dir, public_only=False))
            listener = stack.enter_context(http_server.open_listener("127.0.0.1", _HTTP_PORT))
            stack.enter_context(http_server.serve_files(listener, files.open, log))
        with open(join(tftp, "boottest.ipxe"), "w", encoding="ascii") as file:
            file.write(_make_script(route))
        firmware = machine.prepare_uefi(join(directory, "disk")) if route.uefi else Bios()
        yield BootServers(NetworkBoot("boottest.ipxe", tftp), firmware, servers)


def _make_script(route: BootRoute) -> str:
    subject = route.subject
    http = f"http://{HOST_ADDRESS}"
    script = BootScript(
        name=subject.name,
        transport=route.transport,
        base_url=f"{http}/" if route.fetch == "http" else f"tftp://{HOST_ADDRESS}/",
        http_url=http if route.fetch == "http" or route.transport in WHOLE_IMAGE_TRANSPORTS else "",
        # Script and report belong to the test: a site's servers do not have them.
        report_url=f"tftp://{HOST_ADDRESS}/report.img",
        extra=route.kernel_arguments,
    )
    if route.through_menu:
        return script.through_menu()
    add_on = [ADD_ON] if os.path.isfile(join(subject.tftp_dir, "ltsp", ADD_ON)) else []
    return script.boot_version(
        version=subject.version,
        image=subject.image,
        root=_root_url(route),
        sha256=subject.sha256 if route.transport in WHOLE_IMAGE_TRANSPORTS else "",
        initrds=[
            subject.client_initrd,
            *([subject.nbd_initrd] if subject.nbd_initrd and route.transport == "nbd" else []),
            *add_on,
        ],
    )


def _root_url(route: BootRoute) -> str:
    """The root's URL, as the menu builds it from transport and image."""
    subject = route.subject
    path_in_images = subject.image.removeprefix(f"{_IMAGES_DIRECTORY}/")
    match route.transport:
        case "nfs":
            return f"nfs://{HOST_ADDRESS}{join(subject.base_dir, _IMAGES_DIRECTORY)}!{path_in_images}"
        case "nbd":
            return f"nbd://{HOST_ADDRESS}/{path_in_images}"
        case "http":
            return f"http://{HOST_ADDRESS}/{subject.image}"
        case _:
            return "file:/image.img"


@contextmanager
def enter_private_network() -> Iterator[None]:
    """Enter the private network; threads that are started in the block must end with it.

    Raises LtspError without the privilege.
    """
    with namespaces.enter_network_namespace(), namespaces.enter_mount_namespace():
        mounts.mount_tmpfs(b"/run")
        yield


NBD_PORT = 10809
"""The port assigned by IANA, and the default of clients."""


def nbdkit_arguments(image: str) -> list[str]:
    """The command line of nbdkit(1), whose file plugin serves the file under any export name."""
    return [
        "nbdkit",
        "--foreground",
        "--read-only",
        *("--ipaddr", "127.0.0.1"),
        *("--port", str(NBD_PORT)),
        "file",
        # With the key, a path may contain any character. nbdkit(1), "Magic parameters"
        f"file={image}",
    ]


@contextmanager
def serve_nbd(image: str) -> Iterator[ServerProcess]:
    """Serve an image on the loopback of this thread's private network.

    Raises LtspError if nbdkit is missing or does not start to serve.
    """
    with start_server(nbdkit_arguments(image), NBD_PORT, package="nbdkit") as server:
        yield server
