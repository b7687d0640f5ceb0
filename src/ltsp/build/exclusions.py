"""What an image leaves out, from the site's lists and the options of the run, and what of that clients may miss."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from ltsp.errors import ConfError, UsageError
from ltsp.host import mounts, trusted
from ltsp.mksquashfs.options import Excludes
from ltsp.report import units
from ltsp.settings.image_options import ImageOptions
from ltsp.transform import exclude
from ltsp.transform.accounts import LOGIN_DEFS
from ltsp.transform.cleanup import CleanedTree
from ltsp.transform.exclude import Exclusions, image_excludes
from ltsp.transform.links import Paths
from ltsp.transform.named_places import binds
from ltsp.transform.pattern import literal
from ltsp.transform.rewrite import LOSSES, MOST
from ltsp.transform.rules import ListLine, parse_lines
from ltsp.transform.secret_rows import Action, image_secrets
from ltsp.transform.secrets import Secrets
from ltsp.transform.survey import Removal
from ltsp.tree.faults import Faults, read_small_file
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.node import File
from ltsp.tree.selection import Inclusion, Selection, combine_selections, select_all
from ltsp.tree.tree import Tree

_LARGEST_LIST = 1 << 20
_SEARCHED = frozenset({"home", "etc/ssl/private"})
"""Where administrators put links to data on a larger disk, or to the keys of a service."""
LARGE = 100 << 20
"""Bytes; so much data is likely to be missed."""
MOST_MEASURED = 2_000
"""How many entries of one place are measured: it may have millions, and is not in the image anyway."""
_NEVER_MISSED = ("dev/", "proc/", "run/", "sys/", "tmp/", "var/cache/", "var/lib/apt/lists/", "var/tmp/")
"""What each system creates itself. hier(7)"""
_MOST_SHOWN = 2
"""Paths that a line names; --json lists all."""


@dataclass(frozen=True, slots=True)
class ExclusionRules:
    exclusions: Exclusions
    secrets: Secrets
    cleanup: bool
    """Whether secrets are left out; if not, they are only reported."""
    parameters: Selection
    """What `-m -wildcards` leaves out."""
    exact: tuple[str, ...]
    """The paths that they leave out literally; mksquashfs compares inodes then, so the tree is needed."""
    warnings: tuple[str, ...]
    looked_into: frozenset[str] = _SEARCHED
    """Directories whose entries are followed if they are links, although all of them are left out."""
    notes: tuple[str, ...] = ()
    """How links of the tree extend the rules, a line each, safe to print."""

    @property
    def selection(self) -> Selection:
        return combine_selections(
            self.exclusions.take, self.secrets.take if self.cleanup else select_all, self.parameters
        )

    @property
    def outline_selection(self) -> Selection:
        """Only what shows where links lead: the directories that rules go through, and their entries."""
        selection = self.selection
        listed = self._listed()

        def select(path: str, directory: bool) -> Inclusion:
            if not directory or path in listed:
                return Inclusion.ALL
            through = self.leads_below(path) and selection(path, True) is Inclusion.ALL
            return Inclusion.ALL if through else Inclusion.EMPTIED

        return select

    def read_selection(self, *, outlined: bool) -> Selection:
        """What to read: nothing below a directory that is left out, but all entries of the other directories, which may
        be links that rules follow. `outlined`: the entries of these directories are known already.
        """
        selection = self.selection
        also = frozenset() if outlined else self._listed()

        def select(path: str, directory: bool) -> Inclusion:
            return selection(path, directory) if directory and path not in also else Inclusion.ALL

        return select

    def _listed(self) -> frozenset[str]:
        """Directories whose entries show where rules lead, although no rule goes through them or they are left out."""
        settings = self.secrets.settings_left_out() | set(map(os.path.dirname, LOGIN_DEFS))
        return self.looked_into | (settings if self.cleanup else frozenset())

    def keep_setting(self, path: str) -> str:
        """The setting that keeps a path; empty if the command line leaves it out."""
        if (found := self.exclusions.find_rule(path)) is not None:
            return f"OMIT_IMAGE_EXCLUDES='{found}'"
        row = self.secrets.row(path) if self.cleanup else None
        return "" if row is None else row.keeping_setting

    def follow_links(self, tree: Tree, *, beyond: bool = False) -> ExclusionRules:
        """The rules for this tree, extended to where its links and bind mounts lead.

        `beyond`: whether the tree is an outline, so that paths that it lacks may exist.

        Raises SourceError if there are too many links to follow.
        """
        paths = Paths(self.looked_into, binds(tree), beyond=beyond)
        exclusions, led = self.exclusions.follow_links(tree, paths)
        notes, kept = [*led.notes], led.looked_into
        secrets = self.secrets
        if self.cleanup:
            paths = replace(paths, gone=lambda path: exclusions.find_rule(path) is not None)
            secrets, more = secrets.add_named_places(tree, beyond=beyond).follow_links(tree, paths)
            notes, kept = [*notes, *more.notes], kept | more.looked_into
        notes = [] if beyond else notes
        return replace(
            self, exclusions=exclusions, secrets=secrets, looked_into=kept, notes=tuple(dict.fromkeys(notes))
        )

    def concern(self, directory: str) -> bool:
        """Whether the selection returns anything but ALL below a directory."""
        if self.parameters is not select_all or self.exclusions.concerns(directory):
            return True
        return self.cleanup and self.secrets.concerns(directory)

    def leads_below(self, directory: str) -> bool:
        """Whether a rule applies to paths below a directory."""
        return self.exclusions.leads_below(directory) or (self.cleanup and self.secrets.leads_below(directory))

    def exact_selection(self, tree: Tree) -> Selection:
        """What `-m -e` leaves out of this tree by path."""
        return exclude.exclude_paths(tree, self.exact) if self.exact else select_all

    def find_rule(self, path: str) -> str:
        """The line that leaves a path out, from the first list that has one."""
        if (found := self.exclusions.find_rule(path)) is not None:
            return found
        if self.cleanup and (found := self.secrets.find_rule(path)) is not None:
            return found
        return "mksquashfs -e"


def load_rules(options: ImageOptions, excludes: Excludes, conf_directory: str, home_dir: str) -> ExclusionRules:
    """The rules of a run. The site's lists are in the directory of ltsp.conf, and home directories below `home_dir`.

    Raises ConfError for a bad list and for one that is writable by others, UsageError for a bad pattern or a missing
    file.
    """
    excluded = _read_site_list(conf_directory, "image.excludes")
    tuned = image_excludes(
        excluded,
        chain(
            _home_lines(home_dir) if excluded is None else (),
            _setting_lines(options.add_image_excludes, "ADD_IMAGE_EXCLUDES"),
        ),
        _setting_lines(options.omit_image_excludes, "OMIT_IMAGE_EXCLUDES"),
    )
    secrets = image_secrets(
        _read_site_list(conf_directory, "image.secrets"),
        _setting_lines(options.add_image_secrets, "ADD_IMAGE_SECRETS"),
        _setting_lines(options.omit_image_secrets, "OMIT_IMAGE_SECRETS"),
        map(decode, mounts.list_swap_files()),
    )
    patterns = [*excludes.patterns, *(line for name in excludes.files for line in _read_exclude_file(name))]
    return ExclusionRules(
        exclusions=Exclusions(line.text for line in tuned.lines),
        secrets=Secrets(secrets.rows, Exclusions(line.text for line in tuned.omitted), omitted=secrets.omitted),
        cleanup=options.cleanup,
        parameters=exclude.exclude_wildcards(patterns) if excludes.wildcards else select_all,
        exact=() if excludes.wildcards else tuple(patterns),
        warnings=(*tuned.warnings, *secrets.warnings),
        looked_into=_SEARCHED | {os.path.normpath(home_dir).strip("/")},
    )


def _read_site_list(directory: str, name: str) -> Iterator[ListLine] | None:
    """The lines of a list of the site; None if there is none, so that the built-in one applies."""
    path = os.path.join(directory, name)
    try:
        return parse_lines(decode(trusted.read(path, _LARGEST_LIST)), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfError(f"cannot read {printable(path)}: {error.strerror}") from error


def _setting_lines(setting: str, key: str) -> Iterator[ListLine]:
    """The lines of a setting: its text, or the file that it names by an absolute path."""
    if setting.startswith("/") and "\n" not in setting:
        return parse_lines(_read_text(setting, key), setting)
    return parse_lines(setting, key)


def _home_lines(directory: str) -> Iterator[ListLine]:
    path = os.path.normpath(directory).strip("/")
    if path:
        yield ListLine(f"{literal(path)}/*", "HOME_DIR", 1)


def _read_exclude_file(name: str) -> list[str]:
    return exclude.parse_exclude_file(_read_text(name, "-ef"))


def _read_text(path: str, asked_by: str) -> str:
    try:
        with open(encode(path), "rb") as file:
            return decode(file.read())
    except OSError as error:
        raise UsageError(f"cannot read {printable(path)} ({asked_by}): {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Omission:
    rule: str
    paths: tuple[str, ...]
    files: int
    bytes: int
    at_least: bool
    """There is more than was measured."""
    consequence: str
    """What does not work on clients without it, if known."""
    keep: str
    """The line for ltsp.conf that keeps it in the image."""

    def __str__(self) -> str:
        shown = ", ".join(f"/{printable(path)}" for path in self.paths[:_MOST_SHOWN])
        more = f" and {len(self.paths) - _MOST_SHOWN} more" if len(self.paths) > _MOST_SHOWN else ""
        size = f" ({'more than ' if self.at_least else ''}{units.size(self.bytes)})" if self.bytes >= LARGE else ""
        consequence = f": {self.consequence}" if self.consequence else ""
        return f"{shown}{more}{size}{consequence}; to keep it: {printable(self.keep)}"


@dataclass(slots=True)
class OmissionSelection:
    """Selects what rules leave out, of each place only enough to tell whether it is large."""

    rules: ExclusionRules
    full: set[str] = field(default_factory=set)
    """Places that have more than was measured."""
    _place: dict[str, str] = field(default_factory=dict)
    """The place that each directory belongs to; empty for the directories above places."""
    _count: dict[str, int] = field(default_factory=dict)

    def __call__(self, path: str, directory: bool) -> Inclusion:
        place = self._place.get(path.rpartition("/")[0], "")
        if not place:
            if self.rules.selection(path, directory) is Inclusion.ALL:
                if directory and self.rules.leads_below(path):
                    self._place[path] = ""
                    return Inclusion.ALL
                return Inclusion.NOTHING
            place = path
        if f"{path}/".startswith(_NEVER_MISSED):
            return Inclusion.NOTHING
        count = self._count[place] = self._count.get(place, 0) + 1
        if count > MOST_MEASURED:
            self.full.add(place)
            return Inclusion.NOTHING
        if directory:
            self._place[path] = place
        return Inclusion.ALL


def find_omissions(
    gone: Iterable[Removal], cleaned: CleanedTree, before: Tree, rules: ExclusionRules, full: Iterable[str] = ()
) -> tuple[Omission, ...]:
    """What clients may need of what rules leave out or remove from files.

    `before`: the tree before files were rewritten. `full`: places that have more than `gone` lists.
    """
    every = (*_omissions_by_rule(gone, rules, tuple(full)), *_omissions_by_rewrite(cleaned, before, rules))
    return tuple(sorted(every, key=lambda each: each.paths))


def _omissions_by_rule(gone: Iterable[Removal], rules: ExclusionRules, full: Sequence[str]) -> Iterator[Omission]:
    for each in gone:
        paths = tuple(path for path in each.paths if not f"{path}/".startswith(_NEVER_MISSED))
        consequences = (rules.secrets.consequence(path) for path in paths) if rules.cleanup else ()
        consequence = next(filter(None, consequences), "")
        keep = rules.keep_setting(paths[0]) if paths else ""
        if keep and (consequence or each.bytes >= LARGE):
            at_least = any(f"{path}/".startswith(f"{place}/") for path in paths for place in full)
            yield Omission(each.rule, paths, each.files, each.bytes, at_least, consequence, keep)


def _omissions_by_rewrite(cleaned: CleanedTree, before: Tree, rules: ExclusionRules) -> Iterator[Omission]:
    rows = {
        path: row for row, paths in rules.secrets.find_edited(before, (Action.REWRITTEN,)).items() for path in paths
    }
    for path, row in rows.items():
        file = before.follow(path)
        changed = any(before.resolve(path) in step.paths for step in cleaned.steps)
        if not row.consequence or row.name not in LOSSES or not changed or not isinstance(file, File):
            continue
        noun, count_in = LOSSES[row.name]
        count = count_in(read_small_file(file, path, MOST, Faults(skip_unreadable=True)))
        if count:
            consequence = f"{units.plural(count, noun)}: {row.consequence}"
            keep = f"OMIT_IMAGE_SECRETS='{row.pattern}'"
            yield Omission(str(row), (path,), 0, 0, at_least=False, consequence=consequence, keep=keep)
