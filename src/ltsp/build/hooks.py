"""The administrator's commands before and after a build: PRE_IMAGE_x and POST_IMAGE_x of ltsp.conf, /etc/ltsp/image.d.

Before the image: the PRE_IMAGE_x in the order of their names, then the executables in the order of run-parts(8). If
one of them mentions LTSP_ROOT, all get a writable view of the source there, and their changes go into the image.
After the image is published: the POST_IMAGE_x. Each gets LTSP_IMAGE and the other variables of `make_environment`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.errors import LtspError, UsageError
from ltsp.host import command, trusted
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.resolve import Hooks
from ltsp.source.source import Source, SourceWrapper
from ltsp.tree.name import decode, encode, printable, sort_names

ROOT_VARIABLE = "LTSP_ROOT"
_NO_IMAGE = "the image was not made"
_MAX_EXECUTABLE_SIZE = 64 << 20
_RUN_PARTS_NAME = re.compile(r"[A-Za-z0-9_-]+")
"""Other names are leftovers of editors and packages. run-parts(8)"""


@dataclass(frozen=True, slots=True)
class HookCommand:
    name: str
    """For messages: `PRE_IMAGE_apps`, `/etc/ltsp/image.d/10-apps`."""
    arguments: tuple[str, ...]
    uses_ltsp_root: bool
    """Whether it mentions LTSP_ROOT."""
    where: str = ""
    """File and line of a command in ltsp.conf."""


def find_commands_before(hooks: Hooks, directory: str) -> tuple[HookCommand, ...]:
    """The commands to run before an image is made; `directory` has the executables.

    Raises ConfError if someone other than administrators can write an executable.
    """
    return (*_conf_commands(hooks, after=False), *_find_executables(directory))


def list_commands_after(hooks: Hooks) -> tuple[HookCommand, ...]:
    """The commands to run after an image was published.

    Raises UsageError if one uses the tree: the image is finished by then.
    """
    commands = tuple(_conf_commands(hooks, after=True))
    for each in commands:
        if each.uses_ltsp_root:
            raise UsageError(
                f"{each.where}: {each.name} uses {ROOT_VARIABLE}, but runs after the image is made",
                f"rename it to {each.name.replace('POST', 'PRE', 1)}",
            )
    return commands


def make_environment(source: Source, options: LtspOptions) -> Mapping[str, str]:
    """Environment variables for the commands."""
    return {
        "LTSP_IMAGE": source.name,
        "LTSP_SOURCE": source.description,
        "LTSP_BASE_DIR": options.base_dir,
        "LTSP_TFTP_DIR": options.tftp_dir,
    }


def run(commands: Sequence[HookCommand], variables: Mapping[str, str], report: Report, consequence: str) -> None:
    """Run them one after another; each line of output becomes a note.

    Raises LtspError when one fails, with `consequence` as the hint.
    """
    for each in commands:
        shown = printable(each.name)
        report.note(f"running {shown}")

        def show(line: str, shown: str = shown) -> None:
            report.note(f"{shown}: {line}")

        status = command.run_and_show(each.arguments, show, environment=variables)
        if status:
            failed = command.exit_error(each.arguments[0], status, b"")
            location = f"{each.where}: " if each.where else ""
            raise LtspError(f"{location}{shown}: {failed.message}", consequence)


def attach_commands(
    source: Source, commands: Sequence[HookCommand], variables: Mapping[str, str], report: Report
) -> Source:
    """The source as the commands leave it: they run before its packages are locked, or in the writable view.

    Raises SourceError if one needs a writable view and this source cannot have one.
    """
    if not commands:
        return source
    changing = next((each for each in commands if each.uses_ltsp_root), None)
    if changing is None:
        return _SourceWithCommands(source, lambda: run(commands, variables, report, _NO_IMAGE))
    location = f"{changing.where}: " if changing.where else ""

    def change(view: str) -> None:
        run(commands, {**variables, ROOT_VARIABLE: view}, report, _NO_IMAGE)

    from ltsp.source.directory.writable import make_writable  # noqa: PLC0415 -- mounts, for the few commands that change the tree

    return make_writable(source, change, location + printable(changing.name))


@dataclass(frozen=True, slots=True)
class _SourceWithCommands(SourceWrapper):
    """A source with commands that run before it is read and do not change its view."""

    run_commands: Callable[[], None]

    @contextmanager
    def lock_package_manager(self, timeout: float, waiting: Callable[[str], None]) -> Iterator[list[str]]:
        """The commands run before: they may install packages."""
        self.run_commands()
        with self.base.lock_package_manager(timeout, waiting) as notes:
            yield notes


def _conf_commands(hooks: Hooks, *, after: bool) -> Iterator[HookCommand]:
    for hook in hooks.post_hooks if after else hooks.pre_hooks:
        yield HookCommand(hook.key, ("/bin/sh", "-c", hook.value), hook in hooks.hooks_with_root, hook.where)


def _find_executables(directory: str) -> Iterator[HookCommand]:
    try:
        names = sort_names([decode(name) for name in os.listdir(encode(directory))])
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in filter(_RUN_PARTS_NAME.fullmatch, names):
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            yield HookCommand(path, (path,), ROOT_VARIABLE.encode() in trusted.read(path, _MAX_EXECUTABLE_SIZE))
