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
from ltsp.transform.exclude import Exclusions, tune_image_excludes
from ltsp.transform.links import PathContext
from ltsp.transform.named_places import find_bind_mounts
from ltsp.transform.pattern import literal
from ltsp.transform.rewrite import LOSS_COUNTERS, MAX_FILE_SIZE
from ltsp.transform.rules import ListLine, parse_lines
from ltsp.transform.secret_rows import Action, tune_image_secrets
from ltsp.transform.secrets import Secrets
from ltsp.transform.survey import Removal
from ltsp.tree.faults import Faults, read_small_file
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.node import File
from ltsp.tree.selection import Inclusion, Selection, combine_selections, select_all
from ltsp.tree.tree import Tree

_MAX_LIST_SIZE = 1 << 20
_LINK_DIRECTORIES = frozenset({"home", "etc/ssl/private"})
"""Where administrators put links to data on a larger disk, or to the keys of a service."""
LARGE_SIZE = 100 << 20
"""Bytes; so much data is likely to be missed."""
MAX_MEASURED_ENTRIES = 2_000
"""How many entries of one place are measured: it may have millions, and is not in the image anyway."""
_NEVER_MISSED = ("dev/", "proc/", "run/", "sys/", "tmp/", "var/cache/", "var/lib/apt/lists/", "var/tmp/")
"""What each system creates itself. hier(7)"""
_MAX_SHOWN_PATHS = 2
"""Paths that a line names; --json lists all."""


@dataclass(frozen=True, slots=True)
class ExclusionRules:
    exclusions: Exclusions
    secrets: Secrets
    cleanup: bool
    """Whether secrets are left out; if not, they are only reported."""
    mksquashfs_selection: Selection
    """What `-m -wildcards` leaves out."""
    exact_paths: tuple[str, ...]
    """The paths that they leave out literally; mksquashfs compares inodes then, so the tree is needed."""
    warnings: tuple[str, ...]
    link_directories: frozenset[str] = _LINK_DIRECTORIES
    """Directories whose entries are followed if they are links, although all of them are left out."""
    notes: tuple[str, ...] = ()
    """How links of the tree extend the rules, a line each, safe to print."""

    @property
    def selection(self) -> Selection:
        return combine_selections(
            self.exclusions.select_path,
            self.secrets.select_path if self.cleanup else select_all,
            self.mksquashfs_selection,
        )

    @property
    def link_search_selection(self) -> Selection:
        """Only what shows where links lead: the directories that rules go through, and their entries."""
        selection = self.selection
        directories = self._directories_to_list()

        def select(path: str, directory: bool) -> Inclusion:
            if not directory or path in directories:
                return Inclusion.ALL
            leads_on = self.has_rules_below(path) and selection(path, True) is Inclusion.ALL
            return Inclusion.ALL if leads_on else Inclusion.EMPTIED

        return select

    def selection_for_reading(self, *, links_known: bool) -> Selection:
        """What to read: nothing below a directory that is left out, but all entries of the other directories, which may
        be links that rules follow. `links_known`: the entries of these directories are known already.
        """
        selection = self.selection
        extra_directories = frozenset() if links_known else self._directories_to_list()

        def select(path: str, directory: bool) -> Inclusion:
            return selection(path, directory) if directory and path not in extra_directories else Inclusion.ALL

        return select

    def _directories_to_list(self) -> frozenset[str]:
        """Directories whose entries show where rules lead, although no rule goes through them or they are left out."""
        settings = self.secrets.find_emptied_settings_directories() | set(map(os.path.dirname, LOGIN_DEFS))
        return self.link_directories | (settings if self.cleanup else frozenset())

    def find_keeping_setting(self, path: str) -> str:
        """The setting that keeps a path; empty if the command line leaves it out."""
        if (found := self.exclusions.find_rule(path)) is not None:
            return f"OMIT_IMAGE_EXCLUDES='{found}'"
        row = self.secrets.row(path) if self.cleanup else None
        return "" if row is None else row.keeping_setting

    def follow_links(self, tree: Tree, *, is_outline: bool = False) -> ExclusionRules:
        """The rules for this tree, extended to where its links and bind mounts lead.

        `is_outline`: whether the tree is an outline, so that paths that it lacks may exist.

        Raises SourceError if there are too many links to follow.
        """
        paths = PathContext(self.link_directories, find_bind_mounts(tree), is_outline=is_outline)
        exclusions, followed = self.exclusions.follow_links(tree, paths)
        notes, link_directories = [*followed.notes], followed.link_directories
        secrets = self.secrets
        if self.cleanup:
            paths = replace(paths, is_left_out=lambda path: exclusions.find_rule(path) is not None)
            secrets, more = secrets.add_named_places(tree, is_outline=is_outline).follow_links(tree, paths)
            notes, link_directories = [*notes, *more.notes], link_directories | more.link_directories
        notes = [] if is_outline else notes
        return replace(
            self,
            exclusions=exclusions,
            secrets=secrets,
            link_directories=link_directories,
            notes=tuple(dict.fromkeys(notes)),
        )

    def affects(self, directory: str) -> bool:
        """Whether the selection returns anything but ALL below a directory."""
        if self.mksquashfs_selection is not select_all or self.exclusions.affects(directory):
            return True
        return self.cleanup and self.secrets.affects(directory)

    def has_rules_below(self, directory: str) -> bool:
        """Whether a rule applies to paths below a directory."""
        return self.exclusions.has_rules_below(directory) or (self.cleanup and self.secrets.has_rules_below(directory))

    def exact_selection(self, tree: Tree) -> Selection:
        """What `-m -e` leaves out of this tree by path."""
        return exclude.make_path_selection(tree, self.exact_paths) if self.exact_paths else select_all

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
    exclude_lines = tune_image_excludes(
        excluded,
        chain(
            _home_lines(home_dir) if excluded is None else (),
            _read_setting_lines(options.add_image_excludes, "ADD_IMAGE_EXCLUDES"),
        ),
        _read_setting_lines(options.omit_image_excludes, "OMIT_IMAGE_EXCLUDES"),
    )
    secrets = tune_image_secrets(
        _read_site_list(conf_directory, "image.secrets"),
        _read_setting_lines(options.add_image_secrets, "ADD_IMAGE_SECRETS"),
        _read_setting_lines(options.omit_image_secrets, "OMIT_IMAGE_SECRETS"),
        map(decode, mounts.list_swap_files()),
    )
    patterns = [*excludes.patterns, *(line for name in excludes.files for line in _read_exclude_file(name))]
    return ExclusionRules(
        exclusions=Exclusions(line.text for line in exclude_lines.lines),
        secrets=Secrets(secrets.rows, Exclusions(line.text for line in exclude_lines.omitted), omitted=secrets.omitted),
        cleanup=options.cleanup,
        mksquashfs_selection=exclude.make_wildcard_selection(patterns) if excludes.wildcards else select_all,
        exact_paths=() if excludes.wildcards else tuple(patterns),
        warnings=(*exclude_lines.warnings, *secrets.warnings),
        link_directories=_LINK_DIRECTORIES | {os.path.normpath(home_dir).strip("/")},
    )


def _read_site_list(directory: str, name: str) -> Iterator[ListLine] | None:
    """The lines of a list of the site; None if there is none, so that the built-in one applies."""
    path = os.path.join(directory, name)
    try:
        return parse_lines(decode(trusted.read(path, _MAX_LIST_SIZE)), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfError(f"cannot read {printable(path)}: {error.strerror}") from error


def _read_setting_lines(setting: str, key: str) -> Iterator[ListLine]:
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


def _read_text(path: str, option: str) -> str:
    try:
        with open(encode(path), "rb") as file:
            return decode(file.read())
    except OSError as error:
        raise UsageError(f"cannot read {printable(path)} ({option}): {error.strerror}") from error


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
        shown = ", ".join(f"/{printable(path)}" for path in self.paths[:_MAX_SHOWN_PATHS])
        more = f" and {len(self.paths) - _MAX_SHOWN_PATHS} more" if len(self.paths) > _MAX_SHOWN_PATHS else ""
        size = (
            f" ({'more than ' if self.at_least else ''}{units.format_size(self.bytes)})"
            if self.bytes >= LARGE_SIZE
            else ""
        )
        consequence = f": {self.consequence}" if self.consequence else ""
        return f"{shown}{more}{size}{consequence}; to keep it: {printable(self.keep)}"


@dataclass(slots=True)
class OmissionSelection:
    """Selects what rules leave out, of each place only enough to tell whether it is large."""

    rules: ExclusionRules
    partly_measured: set[str] = field(default_factory=set)
    """Places that have more than was measured."""
    _top_by_directory: dict[str, str] = field(default_factory=dict)
    """The place that each directory belongs to; empty for the directories above places."""
    _entries_by_top: dict[str, int] = field(default_factory=dict)

    def __call__(self, path: str, directory: bool) -> Inclusion:
        place = self._top_by_directory.get(path.rpartition("/")[0], "")
        if not place:
            if self.rules.selection(path, directory) is Inclusion.ALL:
                if directory and self.rules.has_rules_below(path):
                    self._top_by_directory[path] = ""
                    return Inclusion.ALL
                return Inclusion.NOTHING
            place = path
        if f"{path}/".startswith(_NEVER_MISSED):
            return Inclusion.NOTHING
        count = self._entries_by_top[place] = self._entries_by_top.get(place, 0) + 1
        if count > MAX_MEASURED_ENTRIES:
            self.partly_measured.add(place)
            return Inclusion.NOTHING
        if directory:
            self._top_by_directory[path] = place
        return Inclusion.ALL


def find_omissions(
    removals: Iterable[Removal],
    cleaned: CleanedTree,
    before: Tree,
    rules: ExclusionRules,
    partly_measured: Iterable[str] = (),
) -> tuple[Omission, ...]:
    """What clients may need of what rules leave out or remove from files.

    `before`: the tree before files were rewritten. `partly_measured`: places that have more than `is_left_out` lists.
    """
    every = (
        *_find_omissions_by_rule(removals, rules, tuple(partly_measured)),
        *_find_omissions_by_rewrite(cleaned, before, rules),
    )
    return tuple(sorted(every, key=lambda each: each.paths))


def _find_omissions_by_rule(
    removals: Iterable[Removal], rules: ExclusionRules, partly_measured: Sequence[str]
) -> Iterator[Omission]:
    for each in removals:
        paths = tuple(path for path in each.paths if not f"{path}/".startswith(_NEVER_MISSED))
        consequences = (rules.secrets.consequence(path) for path in paths) if rules.cleanup else ()
        consequence = next(filter(None, consequences), "")
        keep = rules.find_keeping_setting(paths[0]) if paths else ""
        if keep and (consequence or each.bytes >= LARGE_SIZE):
            at_least = any(f"{path}/".startswith(f"{place}/") for path in paths for place in partly_measured)
            yield Omission(each.rule, paths, each.files, each.bytes, at_least, consequence, keep)


def _find_omissions_by_rewrite(cleaned: CleanedTree, before: Tree, rules: ExclusionRules) -> Iterator[Omission]:
    rows = {
        path: row
        for row, paths in rules.secrets.find_paths_by_row(before, (Action.REWRITTEN,)).items()
        for path in paths
    }
    for path, row in rows.items():
        file = before.follow(path)
        changed = any(before.resolve(path) in step.paths for step in cleaned.steps)
        if not row.consequence or row.name not in LOSS_COUNTERS or not changed or not isinstance(file, File):
            continue
        noun, count_losses = LOSS_COUNTERS[row.name]
        count = count_losses(read_small_file(file, path, MAX_FILE_SIZE, Faults(skip_unreadable=True)))
        if count:
            consequence = f"{units.format_count(count, noun)}: {row.consequence}"
            keep = f"OMIT_IMAGE_SECRETS='{row.pattern}'"
            yield Omission(str(row), (path,), 0, 0, at_least=False, consequence=consequence, keep=keep)
