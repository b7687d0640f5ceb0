"""ltsp.ipxe: the menu that every client sees, as text made of facts.

A client finds out here what it is (processor, server, section of ltsp.conf), a person or the time chooses an entry, and
the entry chains to NAME/boot.ipxe, relative to the menu, so that TFTP and HTTP serve the same files. The settings that
are handed on to boot.ipxe:

| ltsp-server    | address of the server
| ltsp-transport | nfs, http, nbd or file
| ltsp-root      | what precedes the path of an image below BASE_DIR/images to make a URL of it
| ltsp-url       | the whole URL of the root, where it is not ltsp-root and a path
| ltsp-whole     | set where the transport fetches the image as a whole, whose sum can then be checked
| ltsp-initrd    | distro for the distribution's initrd with ours behind it
| ltsp-arguments | for the kernel's command line

A script that chains to this one may set ltsp-server, ltsp-http (`http://HOST:PORT`, what this menu was fetched from),
ltsp-transport, ltsp-url, ltsp-extra (more kernel parameters) and ltsp-choice (an entry to boot without a menu)
beforehand.

In a line of iPXE each command looks at the one before it: `a && b ||` is b where a succeeds, and never a failure.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from ltsp.boot.ipxe import UnwritableText, check_word, check_words, title

TRANSPORTS = ("nfs", "http", "nbd", "file", "auto")
"""How a client gets its root. `auto` is http where the menu came by HTTP, and nfs elsewhere."""
INITRDS = ("ltsp", "distro")
DEFAULT_TIMEOUT = 5000
"""Milliseconds."""
HIDDEN_TIMEOUT = -1
_NO_MENU = "hidden"
"""Stands for -1, which commands would take for an option."""
_AFTER_FAILURE = 10000
"""Milliseconds that a failure stays on the screen, and that a hidden menu is then shown: clients that nobody looks at
try again."""
_ARCHITECTURES = ("x86_64", "x86_32", "aarch64", "armv7l")
"""What `ltsp image /` names an image after: uname -m, and x86_32 for every x86 of 32 bits."""
_HTTP_PORT = 80
MENU_MARK = "ltsp: menu"
"""Tells whoever reads the serial console that this is the menu, and all before it went well."""
_IN_URLS = frozenset(string.ascii_letters + string.digits + "._~+@=/-")


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """An image or chroot that has a boot.ipxe, or may have one when somebody chooses it."""

    name: str
    """Checked by `ltsp.settings.image_name`: safe as a label and in a path."""
    title: str


@dataclass(frozen=True, slots=True)
class MenuOptions:
    """What may differ from client to client; None if nothing is said of it."""

    default: str | None = None
    """The label of an entry of the menu."""
    parameters: str | None = None
    """Words for the kernel, which went through `ltsp.boot.ipxe.check_parameters`."""
    timeout: int | None = None
    """Milliseconds until the default is taken; 0 waits for ever, HIDDEN takes it without a menu."""
    transport: str | None = None
    initrd: str | None = None


@dataclass(frozen=True, slots=True)
class ClientSection:
    """Wishes for some clients; of several that fit one client the last one holds."""

    macs: tuple[str, ...] = ()
    """As iPXE writes them, in lower case with colons."""
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    hostnames: tuple[str, ...] = ()
    everyone: bool = False
    """`[clients]`, and sections of the name `*`."""
    hostname: str | None = None
    """What the section calls the client: sections of that name hold for it too."""
    options: MenuOptions = field(default_factory=MenuOptions)


@dataclass(frozen=True, slots=True)
class Menu:
    base_dir: str
    """Raises Unwritable in `text` if no script can hold it."""
    images: tuple[MenuEntry, ...] = ()
    chroots: tuple[MenuEntry, ...] = ()
    options: MenuOptions = field(default_factory=MenuOptions)
    sections: tuple[ClientSection, ...] = ()
    server: str = ""
    """Its address, where the one that DHCP tells is not right."""
    http: bool = False
    """Whether clients go on by HTTP where they came by TFTP."""
    http_port: int = _HTTP_PORT
    """Where the server offers TFTP_DIR/ltsp and the images by HTTP, if it does."""
    memtest: bool = False
    configuration: bool = True
    shell: bool = True

    def text(self) -> str:
        """The script, in ASCII.

        Raises Unwritable if a path or address has no place in a script.
        """
        blocks = (
            self._head(),
            self._server(),
            self._http(),
            self._platform(),
            self._option_lines(),
            self._menu(),
            *(_image_block(entry) for entry in self.images),
            *(self._chroot(entry) for entry in self._shown_chroots),
            self._boot(),
            *self._others(),
            _failure_block(),
        )
        return "\n\n".join("\n".join(block) for block in blocks) + "\n"

    @property
    def labels(self) -> tuple[str, ...]:
        """The entries that DEFAULT_IMAGE may name."""
        return (*(entry.name for entry in self.images), *(f"r_{entry.name}" for entry in self._shown_chroots))

    @property
    def _shown_chroots(self) -> tuple[MenuEntry, ...]:
        """An image may bear the name that the entry of a chroot would have; two labels of one name cannot be."""
        images = {entry.name for entry in self.images}
        return tuple(entry for entry in self.chroots if f"r_{entry.name}" not in images)

    def _head(self) -> Iterator[str]:
        yield "#!ipxe"
        yield "# Made by ltsp ipxe of /etc/ltsp/ltsp.conf and of what is published; what is changed here gets lost."

    def _server(self) -> Iterator[str]:
        yield "# A proxyDHCP server is the one that offers the boot; the other one may be a router that knows of none."
        if self.server:
            yield f"isset ${{ltsp-server}} || set ltsp-server {check_word(self.server)}"
        for setting in ("proxydhcp/next-server", "proxydhcp/dhcp-server", "next-server", "dhcp-server"):
            yield f"isset ${{ltsp-server}} || set ltsp-server ${{{setting}}} ||"

    def _http(self) -> Iterator[str]:
        port = "" if self.http_port == _HTTP_PORT else f":{self.http_port}"
        if self.http:
            yield "# TFTP carries iPXE and this script: the rest is faster by HTTP."
            yield "isset ${ltsp-http} && goto _fetched ||"
            yield f"set ltsp-http http://${{ltsp-server}}{port}"
            yield "iseq ${filename} ${ltsp-http}/ltsp/ltsp.ipxe && goto _fetched ||"
            yield "chain ${ltsp-http}/ltsp/ltsp.ipxe && exit ||"
            yield "isset ${ltsp-leave} && exit 1 ||"
            yield "echo No menu at ${ltsp-http}/ltsp/ltsp.ipxe, going on by TFTP. Is ltsp http running?"
            yield "clear ltsp-http"
            yield ":_fetched"
        yield f"set ltsp-images http://${{ltsp-server}}{port}/images/"
        yield "isset ${ltsp-http} && set ltsp-images ${ltsp-http}/images/ ||"

    def _platform(self) -> Iterator[str]:
        yield "cpuid --ext 29 && set ltsp-arch x86_64 || set ltsp-arch x86_32"
        yield "iseq ${buildarch} arm64 && set ltsp-arch aarch64 ||"
        yield "iseq ${buildarch} arm32 && set ltsp-arch armv7l ||"

    def _option_lines(self) -> Iterator[str]:
        labels = self.labels
        first = MenuOptions(labels[0] if labels else None, "", DEFAULT_TIMEOUT, "nfs", "ltsp")
        yield from (f"{command} ||" for command in _set_commands(first))
        for name in _ARCHITECTURES:
            if name in labels:
                yield f"iseq ${{ltsp-arch}} {name} && set ltsp-default {name} ||"
        yield from (f"{command} ||" for command in _set_commands(self.options))
        yield "set ltsp-hostname ${hostname} ||"
        for section in self.sections:
            yield from self._section(section)
        yield "isset ${ltsp-transport} || set ltsp-transport ${transport}"
        yield "iseq ${ltsp-transport} auto && set ltsp-transport nfs || goto _chosen-transport"
        yield "isset ${ltsp-http} && set ltsp-transport http ||"
        yield ":_chosen-transport"

    def _section(self, section: ClientSection) -> Iterator[str]:
        settings = list(_set_commands(section.options))
        if section.hostname:
            settings.append(f"set ltsp-hostname {check_word(section.hostname)}")
        if section.everyone:
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

    def _menu(self) -> Iterator[str]:
        yield f"echo {MENU_MARK}"
        yield "isset ${ltsp-choice} || goto _no-choice"
        yield "set ltsp-name ${ltsp-choice}"
        yield "goto ${ltsp-choice} || goto _failed"
        yield ":_no-choice"
        yield f"iseq ${{ltsp-timeout}} {_NO_MENU} || goto _menu"
        yield f"set ltsp-timeout {_AFTER_FAILURE}"
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
        yield "item --key x _exit Exit iPXE and go on with the next boot device"
        yield "choose --timeout ${ltsp-timeout} --default ${ltsp-default} ltsp-chosen || goto _cancelled"
        yield "goto ${ltsp-chosen}"
        yield ":_cancelled"
        yield "set ltsp-timeout 0"
        yield "goto _menu"

    def _chroot(self, entry: MenuEntry) -> Iterator[str]:
        """A directory of the server as the root, which needs `ltsp nfs --export=base`."""
        yield f":r_{entry.name}"
        yield f"set ltsp-name {entry.name}"
        yield f"set ltsp-url nfs://${{ltsp-server}}{_check_export_path(self.base_dir)}!{entry.name}"
        yield "clear ltsp-whole ||"
        yield "goto _chain"

    def _boot(self) -> Iterator[str]:
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

    def _others(self) -> Iterator[Sequence[str]]:
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
            yield ":_shell", "echo Type exit to come back to the menu.", "shell ||", "goto _menu"
        yield (
            ":_local",
            "# UEFI firmware goes on with its next boot entry when an application fails.",
            "set ltsp-leave 1",
            "iseq ${platform} efi && exit 1 ||",
            "set ltsp-name the local disk",
            "sanboot --no-describe --drive 0x80 || goto _failed",
        )
        yield ":_exit", "set ltsp-leave 1", "exit 1"


def _check_export_path(directory: str) -> str:
    """A directory in `nfs://SERVER/EXPORT!PATH`, where `!` ends it and the client takes letters of addresses alone.

    Raises Unwritable.
    """
    for character in directory:
        if character not in _IN_URLS:
            raise UnwritableText(f"holds {character!a}")
    return check_word(directory)


def _set_commands(options: MenuOptions) -> Iterator[str]:
    """The commands that make the wishes those of this client."""
    if options.default is not None:
        yield f"set ltsp-default {check_word(options.default)}"
    if options.parameters is not None:
        yield (
            f"set ltsp-parameters {check_words(options.parameters)}" if options.parameters else "clear ltsp-parameters"
        )
    if options.timeout is not None:
        yield f"set ltsp-timeout {_NO_MENU if options.timeout == HIDDEN_TIMEOUT else options.timeout}"
    if options.transport is not None:
        yield f"set transport {check_word(options.transport)}"
    if options.initrd is not None:
        yield f"set ltsp-initrd {check_word(options.initrd)}"


def _item_lines(heading: str, items: Iterator[tuple[str, str]]) -> Iterator[str]:
    lines = [f"item {label} {title(text)}" for label, text in items]
    if lines:
        yield f"item --gap {heading}"
        yield from lines


def _image_block(entry: MenuEntry) -> Iterator[str]:
    yield f":{entry.name}"
    yield f"set ltsp-name {entry.name}"
    yield "goto _boot"


def remove_entries(text: str, names: Collection[str]) -> str:
    """A menu without its entries of these images; empty if it has none of them."""
    gone = {"\n".join(_image_block(MenuEntry(name, ""))): name for name in names}
    blocks = text.rstrip("\n").split("\n\n")
    cut = tuple(f"item {gone[block]} " for block in blocks if block in gone)
    if not cut:
        return ""
    kept = "\n\n".join(block for block in blocks if block not in gone)
    return "".join(line for line in f"{kept}\n".splitlines(keepends=True) if not line.startswith(cut))


def _failure_block() -> Iterator[str]:
    yield ":_failed"
    yield "echo"
    yield "echo LTSP: ${ltsp-name} could not be booted: the lines above say why."
    yield "echo Where a file was not found, ltsp info on the server shows what there is,"
    yield "echo and ltsp ipxe makes a new menu of it."
    yield "clear ltsp-choice ||"
    yield "clear ltsp-url ||"
    yield "imgfree ||"
    yield f"prompt --timeout {_AFTER_FAILURE} Press a key for the menu, or wait for it. ||"
    yield "goto _menu"
