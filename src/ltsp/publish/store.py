"""The images of a server: which there are, and the lock that each of them is changed under."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os.path import join

from ltsp.errors import LockHeld, LtspError
from ltsp.host import files, locks
from ltsp.publish import state as states
from ltsp.publish.failure import described, told
from ltsp.publish.generation import Generation
from ltsp.publish.held import Held
from ltsp.publish.places import DIRECTORY_MODE, Places
from ltsp.publish.state import State
from ltsp.publish.switch import repair
from ltsp.settings import image_name
from ltsp.tree.name import printable

_PARENT_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Store:
    base_dir: str
    tftp_dir: str

    def places(self, name: str) -> Places:
        """Raises UsageError where it cannot be an image's name."""
        return Places(image_name.checked(name), self.base_dir, self.tftp_dir)

    def names(self) -> list[str]:
        """Every name that has an exported image, a version, or a kernel of its own."""
        exported = files.entries(join(self.base_dir, "images"))
        found = {name.removesuffix(".old").removesuffix(".img") for name in exported if name.endswith((".img", ".old"))}
        found.update(files.entries(join(self.base_dir, "images", ".versions")))
        found.update(files.entries(join(self.tftp_dir, "ltsp")))
        return sorted(name for name in found if not image_name.fault(name) and self.state(name).exists)

    def state(self, name: str) -> State:
        """All there is to know of a name, read without its lock."""
        return states.read(self.places(name))

    def versions(self, name: str) -> tuple[Generation, ...]:
        """The complete ones, oldest first."""
        return self.state(name).generations

    def current(self, name: str) -> Generation | None:
        """What the menu boots."""
        return self.state(name).current

    @contextmanager
    def locked(self, name: str, wait: float = 0) -> Iterator[Held]:
        """The only way to change anything. What a killed run left behind is put right first.

        `wait` is in seconds, `math.inf` for ever.

        Raises LockHeld, which names the holder.
        """
        places = self.places(name)
        with told("change", name):
            _check_place(places.base_dir, "base", name)
            _check_place(places.tftp_dir, "tftp", name)
            files.make_directories(places.images, DIRECTORY_MODE)
        with ExitStack() as stack:
            with told("lock", name):
                try:
                    stack.enter_context(locks.exclusive(places.lock, wait))
                except locks.Taken as taken:
                    by = described(taken.holder) if taken.holder else "another process"
                    raise LockHeld(
                        f"{name} is being changed by {by}", "try again when it is done, or give --wait=SECONDS"
                    ) from None
            with told("finish the last change of", name):
                repair(places)
            yield Held(places)


def _check_place(directory: str, which: str, name: str) -> None:
    """See that a directory of the server is there and can be written, before hours are spent on a build.

    It is made if just the last part is missing: more may be a disk that is not mounted.
    """
    if not os.path.isdir(directory):
        if not os.path.isdir(os.path.dirname(directory.rstrip("/"))):
            raise LtspError(
                f"no directory {printable(directory)}, where {name} is to be published",
                f"make it or mount it, or choose another one with ltsp --{which}-dir",
            )
        files.make_directories(directory.rstrip("/"), _PARENT_MODE)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise LtspError(
            f"cannot write to {printable(directory)}, where {name} is to be published",
            f"run it as root, or choose another one with ltsp --{which}-dir",
        )
