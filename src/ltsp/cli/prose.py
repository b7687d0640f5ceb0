"""The elements of the manual pages' prose, and texts that several pages share.

In texts, `back quotes` mark literal input and paths. `ltsp.cli.manual` turns the prose into roff.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A term and its description."""

    term: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    lines: str
    """The lines to type or write."""


Block = str | Item | Example


@dataclass(frozen=True, slots=True)
class Prose:
    title: str
    """As the first line of the page names it: `ltsp image`."""
    summary: str
    description: tuple[Block, ...]
    more: tuple[tuple[str, tuple[Block, ...]], ...] = ()
    """Sections of its own, after the options."""
    files: tuple[Item, ...] = ()
    exit_status: tuple[Item, ...] = ()
    examples: tuple[Example, ...] = ()
    see_also: tuple[str, ...] = ()


CONF_FILE = Item("/etc/ltsp/ltsp.conf", "Settings, see `ltsp.conf(5)`.")
DONE = Item("0", "Success.")
FAILURE = Item("1", "Failure; published images are unchanged, unless only a POST_IMAGE_x command failed.")
USAGE = Item("2", "The command line or a setting is wrong; nothing was done.")
UNFINISHED = Item(
    "3",
    "Clients boot the new version, but a step after that failed, such as updating NAME.img or removing an old version; "
    "the message says which.",
)
CHANGED = Item(
    "3",
    "Published, but a file changed or vanished while it was being read, or was skipped; each is named. Or published, "
    "but a step after that failed, such as updating NAME.img or removing an old version; the message says which.",
)
LOCKED = Item(
    "75",
    "Another build has locked the image, a package manager the source, or a virtual machine its disk; try again later.",
)
SIGNALLED = Item("130, 143", "Interrupted by Ctrl-C or `kill`, after cleaning up. A second one does not wait for that.")
