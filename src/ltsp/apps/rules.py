"""What an image leaves out by the lists of the site and the options of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from ltsp.errors import ConfError, UsageError
from ltsp.host import swaps
from ltsp.settings import trusted
from ltsp.settings.applets import ImageOptions
from ltsp.squashfs.parameters import Excludes, ExcludeStyle
from ltsp.transform import exclude
from ltsp.transform.exclude import Exclusions, image_excludes
from ltsp.transform.lines import Line, lines
from ltsp.transform.pattern import literal
from ltsp.transform.secrets import Secrets, image_secrets
from ltsp.transform.selection import combined
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.selection import Selection, everything
from ltsp.tree.tree import Tree

_LARGEST_LIST = 1 << 20


@dataclass(frozen=True, slots=True)
class Rules:
    exclusions: Exclusions
    secrets: Secrets
    cleanup: bool
    """Whether the secrets stay out; else they are only told of."""
    parameters: Selection
    """What `-m -e` and `-m -ef` leave out by patterns."""
    exact: tuple[str, ...]
    """The paths that they leave out without patterns; mksquashfs goes by inodes then, so the tree must be there."""
    warnings: tuple[str, ...]

    @property
    def selection(self) -> Selection:
        return combined(self.exclusions.take, self.secrets.take if self.cleanup else everything, self.parameters)

    def exact_selection(self, tree: Tree) -> Selection:
        """What `-m -e` leaves out of this tree by path."""
        return exclude.plain(tree, self.exact) if self.exact else everything

    def rule(self, path: str) -> str:
        """The line that leaves a path out, of whichever list comes first."""
        if (found := self.exclusions.rule(path)) is not None:
            return found
        if self.cleanup and (found := self.secrets.rule(path)) is not None:
            return found
        return "mksquashfs -e"


def rules(options: ImageOptions, excludes: Excludes, conf_directory: str, home_dir: str) -> Rules:
    """The rules of a run. The site's lists lie beside ltsp.conf, and people's files below `home_dir`.

    Raises ConfError for a bad list and one that others could have written, UsageError for a bad pattern or a missing
    file.
    """
    excluded = _site_list(conf_directory, "image.excludes")
    tuned = image_excludes(
        excluded,
        chain(
            _homes(home_dir) if excluded is None else (), _named_lines(options.add_image_excludes, "ADD_IMAGE_EXCLUDES")
        ),
        _named_lines(options.omit_image_excludes, "OMIT_IMAGE_EXCLUDES"),
    )
    secrets = image_secrets(
        _site_list(conf_directory, "image.secrets"),
        _named_lines(options.add_image_secrets, "ADD_IMAGE_SECRETS"),
        _named_lines(options.omit_image_secrets, "OMIT_IMAGE_SECRETS"),
        map(decode, swaps.active()),
    )
    patterns = [*excludes.patterns, *(line for name in excludes.files for line in _exclude_file(name))]
    return Rules(
        exclusions=Exclusions(line.text for line in tuned.lines),
        secrets=Secrets(secrets.rows, Exclusions(line.text for line in tuned.omitted)),
        cleanup=options.cleanup,
        parameters=_selection(excludes.style, patterns),
        exact=tuple(patterns) if excludes.style is ExcludeStyle.EXACT else (),
        warnings=(*tuned.warnings, *secrets.warnings),
    )


def _selection(style: ExcludeStyle, patterns: list[str]) -> Selection:
    match style:
        case ExcludeStyle.EXACT:
            return everything
        case ExcludeStyle.WILDCARDS:
            return exclude.wildcards(patterns)
        case ExcludeStyle.REGEX:
            return exclude.regulars(patterns)


def _site_list(directory: str, name: str) -> Iterator[Line] | None:
    """The lines of a list of the site's own; None where there is none, and the built-in one holds."""
    path = os.path.join(directory, name)
    try:
        return lines(decode(trusted.read(path, _LARGEST_LIST)), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfError(f"cannot read {printable(path)}: {error.strerror}") from error


def _named_lines(setting: str, key: str) -> Iterator[Line]:
    """The lines of a setting, which is an absolute path of a file of them, or is them itself."""
    if setting.startswith("/") and "\n" not in setting:
        return lines(_text(setting, key), setting)
    return lines(setting, key)


def _homes(directory: str) -> Iterator[Line]:
    path = os.path.normpath(directory).strip("/")
    if path:
        yield Line(f"{literal(path)}/*", "HOME_DIR", 1)


def _exclude_file(name: str) -> list[str]:
    return exclude.exclude_file(_text(name, "-ef"))


def _text(path: str, asked_by: str) -> str:
    try:
        with open(encode(path), "rb") as file:
            return decode(file.read())
    except OSError as error:
        raise UsageError(f"cannot read {printable(path)} of {asked_by}: {error.strerror}") from error
