"""ltsp.ipxe: the text of the menu that every client sees.

The menu finds out about the client (processor, server, section of ltsp.conf), a person or the timeout chooses an entry,
and the entry chains to NAME/boot.ipxe, relative to the menu, so that TFTP and HTTP serve the same files. The settings
that are passed to boot.ipxe:

| ltsp-server    | address of the server
| ltsp-transport | nfs, http, nbd or file
| ltsp-root      | the URL prefix for the path of an image below BASE_DIR/images
| ltsp-url       | the whole URL of the root, if it is not ltsp-root and a path
| ltsp-whole     | set if the transport fetches the whole image, so that its checksum can be verified
| ltsp-initrd    | distro for the distribution's initrd followed by the client's
| ltsp-arguments | for the kernel's command line

A script that chains to this one may set ltsp-server, ltsp-http (`http://HOST:PORT`, what this menu was fetched from),
ltsp-transport, ltsp-url, ltsp-extra (more kernel parameters) and ltsp-choice (an entry to boot without a menu)
beforehand.

In iPXE, `a && b ||` runs b if a succeeds, and never fails.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from ltsp.boot.ipxe import UnwritableText, check_word, check_words, format_title

TRANSPORTS = ("nfs", "http", "nbd", "file", "auto")
"""How a client gets its root. `auto` is http if the menu was fetched by HTTP, and nfs otherwise."""
INITRDS = ("ltsp", "distro")
DEFAULT_TIMEOUT = 5000
"""Milliseconds."""
HIDDEN_TIMEOUT = -1
_HIDDEN_TIMEOUT_WORD = "hidden"
"""In place of -1, which commands would take for an option."""
_FAILURE_TIMEOUT = 10000
"""Milliseconds that a failure stays on the screen, and that a hidden menu is then shown, so that unattended clients try
again."""
_ARCHITECTURES = ("x86_64", "x86_32", "aarch64", "armv7l")
"""Default names of images of `ltsp image /`: uname -m, and x86_32 for any 32-bit x86."""
_HTTP_PORT = 80
MENU_MARK = "ltsp: menu"
"""Tells readers of the serial console that the menu was reached."""
_URL_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._~+@=/-")


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """An image or chroot that has a boot.ipxe, or may have one by the time it is chosen."""

    name: str
    """Checked by `ltsp.settings.naming`: safe as a label and in a path."""
    title: str


@dataclass(frozen=True, slots=True)
class MenuOptions:
    """Settings that may differ from client to client; None if not set."""

    default: str | None = None
    """The label of an entry of the menu."""
    parameters: str | None = None
    """Words for the kernel, checked by `ltsp.boot.ipxe.check_parameters`."""
    timeout: int | None = None
    """Milliseconds until the default is booted; 0 waits forever, HIDDEN_TIMEOUT boots it without a menu."""
    transport: str | None = None
    initrd: str | None = None


@dataclass(frozen=True, slots=True)
class ClientSection:
    """Settings for some clients; of several sections that match a client, the last one wins."""

    macs: tuple[str, ...] = ()
    """As in iPXE, in lower case with colons."""
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    hostnames: tuple[str, ...] = ()
    matches_all: bool = False
    """Whether it is `[clients]`, or a section named `*`."""
    hostname: str | None = None
    """The hostname that the section gives the client; sections with that name match it too."""
    options: MenuOptions = field(default_factory=MenuOptions)


@dataclass(frozen=True, slots=True)
class Menu:
    base_dir: str
    """`text` raises UnwritableText if a script cannot contain it."""
    images: tuple[MenuEntry, ...] = ()
    chroots: tuple[MenuEntry, ...] = ()
    options: MenuOptions = field(default_factory=MenuOptions)
    sections: tuple[ClientSection, ...] = ()
    server: str = ""
    """The server's address, if the one that DHCP gives is wrong."""
    http: bool = False
    """Whether clients that booted by TFTP continue by HTTP."""
    http_port: int = _HTTP_PORT
    """The port of the HTTP server of TFTP_DIR/ltsp and the images."""
    memtest: bool = False
    configuration: bool = True
    shell: bool = True

    def text(self) -> str:
        """The script, in ASCII.

        Raises UnwritableText if a script cannot contain a path or address.
        """
        blocks = (
            self._head_lines(),
            self._server_lines(),
            self._http_lines(),
            self._platform_lines(),
            self._option_lines(),
            self._menu_lines(),
            *(_image_block(entry) for entry in self.images),
            *(self._chroot_lines(entry) for entry in self._shown_chroots),
            self._boot_lines(),
            *self._other_blocks(),
            _failure_block(),
        )
        return "\n\n".join("\n".join(block) for block in blocks) + "\n"

    @property
    def labels(self) -> tuple[str, ...]:
        """The entries that DEFAULT_IMAGE can select."""
        return (*(entry.name for entry in self.images), *(f"r_{entry.name}" for entry in self._shown_chroots))

    @property
    def _shown_chroots(self) -> tuple[MenuEntry, ...]:
        """Chroots, except those whose label is the name of an image: labels are unique."""
        images = {entry.name for entry in self.images}
        return tuple(entry for entry in self.chroots if f"r_{entry.name}" not in images)

    def _head_lines(self) -> Iterator[str]:
        yield "#!ipxe"
        yield "# Generated by `ltsp ipxe` from /etc/ltsp/ltsp.conf; local changes will be overwritten."

    def _server_lines(self) -> Iterator[str]:
        yield "# Prefer the proxyDHCP server, which offers the boot; the DHCP server may be a router that does not."
        if self.server:
            yield f"isset ${{ltsp-server}} || set ltsp-server {check_word(self.server)}"
        for setting in ("proxydhcp/next-server", "proxydhcp/dhcp-server", "next-server", "dhcp-server"):
            yield f"isset ${{ltsp-server}} || set ltsp-server ${{{setting}}} ||"

    def _http_lines(self) -> Iterator[str]:
        port = "" if self.http_port == _HTTP_PORT else f":{self.http_port}"
        if self.http:
            yield "# iPXE and this script come by TFTP; everything else is faster by HTTP."
            yield "isset ${ltsp-http} && goto _fetched ||"
            yield f"set ltsp-http http://${{ltsp-server}}{port}"
            yield "iseq ${filename} ${ltsp-http}/ltsp/ltsp.ipxe && goto _fetched ||"
            yield "chain ${ltsp-http}/ltsp/ltsp.ipxe && exit ||"
            yield "isset ${ltsp-leave} && exit 1 ||"
            yield "echo No menu at ${ltsp-http}/ltsp/ltsp.ipxe, continuing by TFTP. Is ltsp http running?"
            yield "clear ltsp-http"
            yield ":_fetched"
        yield f"set ltsp-images http://${{ltsp-server}}{port}/images/"
        yield "isset ${ltsp-http} && set ltsp-images ${ltsp-http}/images/ ||"

    def _platform_lines(self) -> Iterator[str]:
        yield "cpuid --ext 29 && set ltsp-arch x86_64 || set ltsp-arch x86_32"
        yield "iseq ${buildarch} arm64 && set ltsp-arch aarch64 ||"
        yield "iseq ${buildarch} arm32 && set ltsp-arch armv7l ||"

    def _option_lines(self) -> Iterator[str]:
        labels = self.labels
        first = MenuOptions(labels[0] if labels else None, "", DEFAULT_TIMEOUT, "nfs", "ltsp")
        yield from (f"{command} ||" for command in _option_commands(first))
        for name in _ARCHITECTURES:
            if name in labels:
                yield f"iseq ${{ltsp-arch}} {name} && set ltsp-default {name} ||"
        yield from (f"{command} ||" for command in _option_commands(self.options))
        yield "set ltsp-hostname ${hostname} ||"
        for section in self.sections:
            yield from self._section_lines(section)
        yield "isset ${ltsp-transport} || set ltsp-transport ${transport}"
        yield "iseq ${ltsp-transport} auto && set ltsp-transport nfs || goto _chosen-transport"
        yield "isset ${ltsp-http} && set ltsp-transport http ||"
        yield ":_chosen-transport"

    def _section_lines(self, section: ClientSection) -> Iterator[str]:
        settings = list(_option_commands(section.options))
        if section.hostname:
            settings.append(f"set ltsp-hostname {check_word(section.hostname)}")
        if section.matches_all:
            yield from (f"{command} ||" for command in settings)
            return
        yield "clear ltsp-fits ||"
        for mac in section.macs:
            yield f"iseq ${{netX/mac}} {check_word(mac)} && set ltsp-fits 1 ||"
        for address in section.addresses:
            setting = "ip" if isinstance(address, IPv4Address) else "ip6"
            yield f"iseq ${{netX/{setting}}} {check_word(str(address))} && set ltsp-fits 1 ||"
        for hostname in dict.fromkeys(each for name in section.hostnames for each in (name, name.lower())):
            yield f"iseq ${{ltsp-hostname}} {check_word(hostname)} && set ltsp-fits 1 ||"
        yield from (f"isset ${{ltsp-fits}} && {command} ||" for command in settings)

    def _menu_lines(self) -> Iterator[str]:
        yield f"echo {MENU_MARK}"
        yield "isset ${ltsp-choice} || goto _no-choice"
        yield "set ltsp-name ${ltsp-choice}"
        yield "goto ${ltsp-choice} || goto _failed"
        yield ":_no-choice"
        yield f"iseq ${{ltsp-timeout}} {_HIDDEN_TIMEOUT_WORD} || goto _menu"
        yield f"set ltsp-timeout {_FAILURE_TIMEOUT}"
        yield "isset ${ltsp-default} && goto ${ltsp-default} ||"
        yield ":_menu"
        yield "menu LTSP server ${ltsp-server}, this PC is ${netX/mac}"
        yield from _item_lines("Images", ((entry.name, entry.title) for entry in self.images))
        yield from _item_lines("Chroots", ((f"r_{entry.name}", entry.title) for entry in self._shown_chroots))
        yield "item --gap Other"
        if self.memtest:
            yield "item --key m _memtest Memory test"
        if self.configuration:
            yield "item --key c _configuration iPXE configuration"
        if self.shell:
            yield "item --key s _shell iPXE shell"
        yield "item --key d _local Boot from the local disk"
        yield "item --key x _exit Exit iPXE and continue with the next boot device"
        yield "choose --timeout ${ltsp-timeout} --default ${ltsp-default} ltsp-chosen || goto _cancelled"
        yield "goto ${ltsp-chosen}"
        yield ":_cancelled"
        yield "set ltsp-timeout 0"
        yield "goto _menu"

    def _chroot_lines(self, entry: MenuEntry) -> Iterator[str]:
        """An entry for a directory of the server as the root, which needs `ltsp nfs --export=base`."""
        yield f":r_{entry.name}"
        yield f"set ltsp-name {entry.name}"
        yield f"set ltsp-url nfs://${{ltsp-server}}{_check_export_path(self.base_dir)}!{entry.name}"
        yield "clear ltsp-whole ||"
        yield "goto _chain"

    def _boot_lines(self) -> Iterator[str]:
        yield ":_boot"
        yield "clear ltsp-root ||"
        yield "clear ltsp-whole ||"
        images = f"{_check_export_path(self.base_dir)}/images"
        yield f"iseq ${{ltsp-transport}} nfs && set ltsp-root nfs://${{ltsp-server}}{images}! ||"
        yield "iseq ${ltsp-transport} nbd && set ltsp-root nbd://${ltsp-server}/ ||"
        yield "iseq ${ltsp-transport} http && set ltsp-root ${ltsp-images} ||"
        yield "iseq ${ltsp-transport} http && set ltsp-whole 1 ||"
        yield "iseq ${ltsp-transport} file && set ltsp-url file:/image.img ||"
        yield "iseq ${ltsp-transport} file && set ltsp-whole 1 ||"
        yield ":_chain"
        yield "set ltsp-arguments ${ltsp-parameters} ${ltsp-extra} ||"
        yield "chain ${ltsp-name}/boot.ipxe || goto _failed"
        yield "goto _failed"

    def _other_blocks(self) -> Iterator[Sequence[str]]:
        if self.memtest:
            yield (
                ":_memtest",
                "set ltsp-memtest memtest.0",
                "iseq ${platform} efi && set ltsp-memtest memtest.efi ||",
                "set ltsp-name memtest",
                "chain ${ltsp-memtest} || goto _failed",
                "goto _menu",
            )
        if self.configuration:
            yield ":_configuration", "config ||", "goto _menu"
        if self.shell:
            yield ":_shell", "echo Type exit to return to the menu.", "shell ||", "goto _menu"
        yield (
            ":_local",
            "# UEFI firmware continues with its next boot entry when an application fails.",
            "set ltsp-leave 1",
            "iseq ${platform} efi && exit 1 ||",
            "set ltsp-name the local disk",
            "sanboot --no-describe --drive 0x80 || goto _failed",
        )
        yield ":_exit", "set ltsp-leave 1", "exit 1"


def _check_export_path(directory: str) -> str:
    """A directory for `nfs://SERVER/EXPORT!PATH`, which `!` ends, with characters that the client accepts in URLs.

    Raises UnwritableText.
    """
    for character in directory:
        if character not in _URL_CHARACTERS:
            raise UnwritableText(f"contains {character!a}")
    return check_word(directory)


def _option_commands(options: MenuOptions) -> Iterator[str]:
    """The commands that apply the options to this client."""
    if options.default is not None:
        yield f"set ltsp-default {check_word(options.default)}"
    if options.parameters is not None:
        yield (
            f"set ltsp-parameters {check_words(options.parameters)}" if options.parameters else "clear ltsp-parameters"
        )
    if options.timeout is not None:
        yield f"set ltsp-timeout {_HIDDEN_TIMEOUT_WORD if options.timeout == HIDDEN_TIMEOUT else options.timeout}"
    if options.transport is not None:
        yield f"set transport {check_word(options.transport)}"
    if options.initrd is not None:
        yield f"set ltsp-initrd {check_word(options.initrd)}"


def _item_lines(heading: str, items: Iterator[tuple[str, str]]) -> Iterator[str]:
    lines = [f"item {label} {format_title(text)}" for label, text in items]
    if lines:
        yield f"item --gap {heading}"
        yield from lines


def _image_block(entry: MenuEntry) -> Iterator[str]:
    yield f":{entry.name}"
    yield f"set ltsp-name {entry.name}"
    yield "goto _boot"


def remove_entries(text: str, names: Collection[str]) -> str:
    """The menu without the entries of these images; empty if it has none of them."""
    removed_blocks = {"\n".join(_image_block(MenuEntry(name, ""))): name for name in names}
    blocks = text.rstrip("\n").split("\n\n")
    item_prefixes = tuple(f"item {removed_blocks[block]} " for block in blocks if block in removed_blocks)
    if not item_prefixes:
        return ""
    kept = "\n\n".join(block for block in blocks if block not in removed_blocks)
    return "".join(line for line in f"{kept}\n".splitlines(keepends=True) if not line.startswith(item_prefixes))


def _failure_block() -> Iterator[str]:
    yield ":_failed"
    yield "echo"
    yield "echo LTSP: cannot boot ${ltsp-name}: the lines above say why."
    yield "echo If a file was not found, run ltsp info on the server to list the images,"
    yield "echo and ltsp ipxe to update this menu."
    yield "clear ltsp-choice ||"
    yield "clear ltsp-url ||"
    yield "imgfree ||"
    yield f"prompt --timeout {_FAILURE_TIMEOUT} Press a key for the menu, or wait. ||"
    yield "goto _menu"
