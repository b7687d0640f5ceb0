"""boot.ipxe: the one small file whose replacement switches kernel, initrds and image together.

It is an iPXE script that the menu chains to, and the only record of which version is current: `current`, NAME.img and
NAME.img.old are derived from it, and if a run is killed before it updates them, the next run does.

iPXE has no quoting, so every word in the script is of a form that needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ltsp.publish.paths import CLIENT_INITRD, DISTRO_INITRD, KERNEL, NBD_INITRD, is_initrd
from ltsp.publish.version import is_version_id
from ltsp.settings.naming import ADD_ON

FOREIGN = "foreign"
"""In place of a version: a NAME.img.old that ltsp did not make."""
_NO_CHARACTERS = "none"
_IMAGES_PREFIX = "images/"
"""The directory below BASE_DIR that is served by NFS and HTTP."""

_UNQUOTED_WORD = re.compile(r"[A-Za-z0-9._+/-]+")
_FIRST_COMMENT = re.compile(r"# ltsp: (\S+) is version (\S+), before it (\S+)\n")


@dataclass(frozen=True, slots=True)
class Pointer:
    name: str
    version: str
    previous: str | None
    """The version that NAME.img.old names, FOREIGN, or None."""
    image: str = ""
    """Relative to BASE_DIR; empty if the clients' root is not an image."""
    files: tuple[str, ...] = ()
    """Names in the version's TFTP directory."""
    sha256: str = ""
    """Of the image; empty if another file may take the image's name."""

    def to_script(self) -> str:
        """The script. Kernel, initrds and `image` are named relative to it; the image is fetched by HTTP.

        A version with the client's initrd needs the settings of the menu, see `ltsp.boot.menu`; one with only its
        distribution's initrd gets the menu's kernel arguments and nothing else. `boot` comes last, so that a truncated
        script boots nothing.
        """
        lines = [
            "#!ipxe",
            (
                f"# ltsp: {_check_word(self.name)} is version {_check_word(self.version)}, "
                f"before it {_check_word(self.previous or _NO_CHARACTERS)}"
            ),
            "# ltsp replaces this file: do not edit it",
        ]
        if self.image:
            lines.append(f"set image ../../{_check_word(self.image)}")
        if KERNEL not in self.files:
            lines += [f"echo {self.name} has no kernel: run ltsp kernel {self.name} on the server", "exit 1"]
        elif CLIENT_INITRD in self.files:
            lines += self._boot_by_client_initrd()
        else:
            lines += self._boot_by_distro_initrd()
        return "\n".join(lines) + "\n"

    def _boot_by_distro_initrd(self) -> Iterator[str]:
        initrds = sorted(filter(is_initrd, self.files), key=lambda name: (name != DISTRO_INITRD, name))
        words = [f"initrd={_check_word(name)}" for name in initrds]
        if self.image:
            words.append(f"ltsp.image={self.image}")
        yield "goto start"
        yield from self._missing_version_block()
        yield ":start"
        yield f"kernel {self._kernel_path} {' '.join(words)} ${{ltsp-arguments}} || goto gone"
        yield from (f"initrd {self.version}/{name} || goto gone" for name in initrds)
        yield "boot"

    def _boot_by_client_initrd(self) -> Iterator[str]:
        """UEFI uses initrds in the order of the command line, BIOS in the order of loading; here both are the same."""
        yield "goto start"
        yield from self._missing_version_block()
        yield from _failure_block("no-add-on", "ltsp.img not found: run ltsp initrd on the server.")
        yield from _failure_block("no-root", f"{self.name} has no root: boot it from the menu that ltsp ipxe writes.")
        if self.image:
            yield from _failure_block(
                "no-image",
                f"cannot fetch the image of {self.name}: run ltsp ipxe --http=1 on the server.",
                "Images are not served by TFTP: ltsp http serves them by HTTP.",
            )
        yield ":start"
        yield from self._set_arguments()
        yield f"set first {CLIENT_INITRD}"
        yield "set rdinit rdinit=/ltsp/init"
        if DISTRO_INITRD in self.files:
            # initrd.img includes the client's initrd.
            yield f"iseq ${{ltsp-initrd}} distro && set first {DISTRO_INITRD} ||"
            yield "iseq ${ltsp-initrd} distro && clear rdinit ||"
        yield f"set initrds initrd=${{first}} initrd={ADD_ON}"
        if NBD_INITRD in self.files:
            words = f"initrd=${{first}} initrd={NBD_INITRD} initrd={ADD_ON}"
            yield f"iseq ${{ltsp-transport}} nbd && set initrds {words} ||"
        yield f"kernel {self._kernel_path} ${{rdinit}} ${{initrds}} ${{arguments}} || goto gone"
        yield f"initrd {self.version}/${{first}} || goto gone"
        if NBD_INITRD in self.files:
            yield "iseq ${ltsp-transport} nbd || goto add-on"
            yield f"initrd {self.version}/{NBD_INITRD} || goto gone"
            yield ":add-on"
        yield f"initrd ../{ADD_ON} || goto no-add-on"
        if self.image:
            yield "iseq ${ltsp-transport} file || boot"
            # Given a path, iPXE adds what it loads to the initramfs as a file.
            yield "initrd ${image} /image.img || goto no-image"
        yield "boot"

    def _set_arguments(self) -> Iterator[str]:
        """The kernel's arguments apart from its initrds, as the settings `url`, `sum` and `arguments`."""
        yield "isset ${ltsp-server} || set ltsp-server ${next-server} ||"
        yield "clear url ||"
        if self.image:
            path = _check_word(self.image.removeprefix(_IMAGES_PREFIX))
            yield f"isset ${{ltsp-root}} && set url ${{ltsp-root}}{path} ||"
        yield "isset ${ltsp-url} && set url ${ltsp-url} ||"
        yield "isset ${url} || goto no-root"
        yield "clear sum ||"
        if self.sha256:
            yield f"isset ${{ltsp-whole}} && set sum ltsp.sha256={_check_word(self.sha256)} ||"
        words = (
            f"ltsp.image={self.image or self.name}",
            "ltsp.root=${url} ${sum}",
            "ltsp.server=${ltsp-server} BOOTIF=01-${netX/mac:hexhyp} ${ltsp-arguments}",
        )
        yield f"set arguments {' '.join(words)}"

    def _missing_version_block(self) -> Iterator[str]:
        return _failure_block(
            "gone",
            f"Version {self.version} of {self.name} could not be fetched.",
            f"On the server, run ltsp versions {self.name} to see whether it exists,",
            f"and ltsp kernel {self.name} to publish it again.",
        )

    @property
    def _kernel_path(self) -> str:
        return f"{self.version}/{KERNEL}"

    @classmethod
    def parse(cls, text: str) -> Pointer | None:
        """Name and versions of a script that ltsp wrote; None for any other script."""
        match = _FIRST_COMMENT.search(text)
        if match is None or not is_version_id(match[2]):
            return None
        return cls(match[1], match[2], None if match[3] == _NO_CHARACTERS else match[3])


def _failure_block(label: str, *lines: str) -> Iterator[str]:
    """Print the lines, then return to the menu."""
    yield f":{label}"
    yield from (f"echo {line}" for line in lines)
    yield "exit 1"


def _check_word(text: str) -> str:
    assert _UNQUOTED_WORD.fullmatch(text), text
    return text
