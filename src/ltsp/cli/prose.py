"""What the prose of the manual pages is made of, and what several pages say.

In the text, `back quotes` set what a person types or finds on disk. Roff is made of it in `ltsp.cli.manual`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A term and what it means."""

    term: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    lines: str
    """What is typed or written, line by line."""


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
DONE = Item("0", "All that was asked is done.")
FAILURE = Item(
    "1", "Something failed; what was published before is as it was, unless only a command of POST_IMAGE_x failed."
)
USAGE = Item("2", "The command line or a setting is wrong; nothing was begun.")
UNFINISHED = Item(
    "3",
    "Clients boot the new version, and something that follows from that, as NAME.img or the removal of an old version, "
    "failed; the message says what.",
)
CHANGED = Item(
    "3",
    "Published, but a file changed or vanished while it was read, or was skipped; each is named. Or the pointer has "
    "moved and something that follows from it, as NAME.img or the removal of an old version, failed; the message "
    "says what.",
)
LOCKED = Item(
    "75",
    "Another build holds the lock of the image, a package manager that of the source, or a virtual machine its disk; "
    "try again later.",
)
SIGNALLED = Item(
    "130, 143", "Ended by Ctrl-C or `kill`; what was begun is undone. A second one does not wait for that."
)
