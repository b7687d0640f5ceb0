"""What an image leaves out by the lists of the site and the options of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from ltsp.errors import ConfError, UsageError
from ltsp.host import swaps, trusted
from ltsp.mksquashfs.options import Excludes, ExcludeStyle
from ltsp.settings.applets import ImageOptions
from ltsp.transform import exclude
from ltsp.transform.accounts import LOGIN_DEFS
from ltsp.transform.exclude import Exclusions, image_excludes
from ltsp.transform.links import Paths
from ltsp.transform.named_places import binds
from ltsp.transform.pattern import literal
from ltsp.transform.rule_list import ListLine, parse_lines
from ltsp.transform.secrets import Secrets, image_secrets
from ltsp.transform.selection import combine_selections
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.selection import Inclusion, Selection, select_all
from ltsp.tree.tree import Tree

_LARGEST_LIST = 1 << 20
_SEARCHED = frozenset({"home", "etc/ssl/private"})
"""Where an administrator puts links to what he keeps on a larger disk, or with the keys of a service."""


@dataclass(frozen=True, slots=True)
class ExclusionRules:
    exclusions: Exclusions
    secrets: Secrets
    cleanup: bool
    """Whether the secrets stay out; else they are only told of."""
    parameters: Selection
    """What `-m -e` and `-m -ef` leave out by patterns."""
    exact: tuple[str, ...]
    """The paths that they leave out without patterns; mksquashfs goes by inodes then, so the tree must be there."""
    warnings: tuple[str, ...]
    looked_into: frozenset[str] = _SEARCHED
    """Directories whose entries are followed where they are links, though all of them are left out."""
    notes: tuple[str, ...] = ()
    """What links of the tree do to rules, a line each, safe to print."""

    @property
    def selection(self) -> Selection:
        return combine_selections(
            self.exclusions.take, self.secrets.take if self.cleanup else select_all, self.parameters
        )

    @property
    def outline_selection(self) -> Selection:
        """Just what says where links lead the rules: the directories that rules go through, and what is in them."""
        selection = self.selection
        listed = self._listed()

        def select(path: str, directory: bool) -> Inclusion:
            if not directory or path in listed:
                return Inclusion.ALL
            through = self.leads_below(path) and selection(path, True) is Inclusion.ALL
            return Inclusion.ALL if through else Inclusion.EMPTIED

        return select

    def read_selection(self, *, outlined: bool) -> Selection:
        """What is to be read: nothing below a directory that is left out, but what else is there in the others, as it
        may be links that rules lead to. `outlined`: what these directories hold is known.
        """
        selection = self.selection
        also = frozenset() if outlined else self._listed()

        def select(path: str, directory: bool) -> Inclusion:
            return selection(path, directory) if directory and path not in also else Inclusion.ALL

        return select

    def _listed(self) -> frozenset[str]:
        """Directories whose entries say where rules lead, though no rule goes through them or they are left out."""
        settings = self.secrets.settings_left_out() | set(map(os.path.dirname, LOGIN_DEFS))
        return self.looked_into | (settings if self.cleanup else frozenset())

    def keep_setting(self, path: str) -> str:
        """The setting that lets a path in; empty where it is left out by the command line."""
        if (found := self.exclusions.rule(path)) is not None:
            return f"OMIT_IMAGE_EXCLUDES='{found}'"
        row = self.secrets.row(path) if self.cleanup else None
        return "" if row is None else row.keep_setting

    def follow_links(self, tree: Tree, *, beyond: bool = False) -> ExclusionRules:
        """The rules as they hold in this tree, whose links and bind mounts lead them elsewhere.

        `beyond`: the tree is an outline, and what it does not have may still be there. Raises SourceError where there
        are more links than can be followed.
        """
        paths = Paths(self.looked_into, binds(tree), beyond=beyond)
        exclusions, led = self.exclusions.follow_links(tree, paths)
        notes, kept = [*led.notes], led.looked_into
        secrets = self.secrets
        if self.cleanup:
            paths = replace(paths, gone=lambda path: exclusions.rule(path) is not None)
            secrets, more = secrets.add_named_places(tree, beyond=beyond).follow_links(tree, paths)
            notes, kept = [*notes, *more.notes], kept | more.looked_into
        notes = [] if beyond else notes
        return replace(
            self, exclusions=exclusions, secrets=secrets, looked_into=kept, notes=tuple(dict.fromkeys(notes))
        )

    def concern(self, directory: str) -> bool:
        """Whether the selection says anything but ALL below a directory."""
        if self.parameters is not select_all or self.exclusions.concerns(directory):
            return True
        return self.cleanup and self.secrets.concerns(directory)

    def leads_below(self, directory: str) -> bool:
        """Whether some rule is about what lies in a directory."""
        return self.exclusions.leads_below(directory) or (self.cleanup and self.secrets.leads_below(directory))

    def exact_selection(self, tree: Tree) -> Selection:
        """What `-m -e` leaves out of this tree by path."""
        return exclude.exclude_paths(tree, self.exact) if self.exact else select_all

    def rule(self, path: str) -> str:
        """The line that leaves a path out, of whichever list comes first."""
        if (found := self.exclusions.rule(path)) is not None:
            return found
        if self.cleanup and (found := self.secrets.rule(path)) is not None:
            return found
        return "mksquashfs -e"


def load_rules(options: ImageOptions, excludes: Excludes, conf_directory: str, home_dir: str) -> ExclusionRules:
    """The rules of a run. The site's lists lie beside ltsp.conf, and people's files below `home_dir`.

    Raises ConfError for a bad list and one that others could have written, UsageError for a bad pattern or a missing
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
        map(decode, swaps.list_active()),
    )
    patterns = [*excludes.patterns, *(line for name in excludes.files for line in _read_exclude_file(name))]
    return ExclusionRules(
        exclusions=Exclusions(line.text for line in tuned.lines),
        secrets=Secrets(secrets.rows, Exclusions(line.text for line in tuned.omitted), omitted=secrets.omitted),
        cleanup=options.cleanup,
        parameters=_selection(excludes.style, patterns),
        exact=tuple(patterns) if excludes.style is ExcludeStyle.EXACT else (),
        warnings=(*tuned.warnings, *secrets.warnings),
        looked_into=_SEARCHED | {os.path.normpath(home_dir).strip("/")},
    )


def _selection(style: ExcludeStyle, patterns: list[str]) -> Selection:
    match style:
        case ExcludeStyle.EXACT:
            return select_all
        case ExcludeStyle.WILDCARDS:
            return exclude.exclude_wildcards(patterns)
        case ExcludeStyle.REGEX:
            return exclude.exclude_regexes(patterns)


def _read_site_list(directory: str, name: str) -> Iterator[ListLine] | None:
    """The lines of a list of the site's own; None where there is none, and the built-in one holds."""
    path = os.path.join(directory, name)
    try:
        return parse_lines(decode(trusted.read(path, _LARGEST_LIST)), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfError(f"cannot read {printable(path)}: {error.strerror}") from error


def _setting_lines(setting: str, key: str) -> Iterator[ListLine]:
    """The lines of a setting, which is an absolute path of a file of them, or is them itself."""
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
        raise UsageError(f"cannot read {printable(path)} of {asked_by}: {error.strerror}") from error
