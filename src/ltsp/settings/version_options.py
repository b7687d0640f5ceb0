"""The options of `ltsp versions` and `ltsp info`, and those about versions that other applets share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ltsp.settings.option import AppletOptions, Integer, OptionGroup, Reach, Text, help_switch, option, switch


@dataclass(frozen=True, slots=True)
class VersionedOptions(AppletOptions):
    """Options of every applet that changes the versions of an image."""

    keep_versions: int = option(
        Integer(minimum=1),
        "how many versions of an image to keep",
        default=2,
        group=OptionGroup.PUBLISHING,
        details="Including the current version and the one before. Pinned versions, those in use and the newest staged "
        "one are kept in addition.",
    )
    keep_days: int = option(
        Integer("DAYS"),
        "how many days to keep each version",
        default=3,
        group=OptionGroup.PUBLISHING,
        details="Clients that booted a version keep reading it; this is how long they may stay on.",
    )
    keep_share: int = option(
        Integer("PERCENT", maximum=100),
        "how much of the disk the versions kept only by KEEP_DAYS may use",
        default=25,
        group=OptionGroup.PUBLISHING,
        details="Percentage of the file system of the images. The oldest versions are removed first, and reported. The "
        "current version, the one before, those of KEEP_VERSIONS, pinned ones and those in use do not count.",
    )
    wait: int = option(
        Integer("SECONDS"),
        "how long to wait for a running build of the same image to finish",
        default=0,
        group=OptionGroup.PUBLISHING,
        details="After that, the exit status is 75, and the message names the process that holds the lock.",
    )
    help: bool = help_switch()


@dataclass(frozen=True, slots=True)
class InfoOptions(AppletOptions):
    """ltsp-info(8)"""

    json: bool = switch("print JSON", reach=Reach.ONCE)
    help: bool = help_switch()


def _version_option(summary: str, details: str = "") -> str | None:
    declared: str | None = option(Text("VERSION"), summary, default=None, details=details, reach=Reach.ONCE)
    return declared


def _versions_option(summary: str, details: str = "") -> tuple[str, ...]:
    declared: tuple[str, ...] = option(
        Text("VERSION"), summary, default=(), details=details, reach=Reach.ONCE, is_repeatable=True
    )
    return declared


@dataclass(frozen=True, slots=True)
class VersionsOptions(VersionedOptions):
    """ltsp-versions(8)"""

    use: str | None = _version_option("make this version current")
    pin: tuple[str, ...] = _versions_option("keep this version until it is unpinned; may be given several times")
    unpin: tuple[str, ...] = _versions_option("allow this version to be removed again; may be given several times")
    remove: tuple[str, ...] = _versions_option(
        "remove this version; may be given several times", "The current version and pinned ones cannot be removed."
    )
    prune: bool = switch("remove all versions that do not have to be kept", reach=Reach.ONCE)
    remove_all: bool = switch(
        "remove the named images: all versions, kernels and menu entries",
        reach=Reach.ONCE,
        details="Fails if a version is pinned, in use or not made here; the message says which.",
    )
    force: bool = switch(
        "with --remove-all: also remove versions that are pinned, in use or not made here", reach=Reach.ONCE
    )
    keep: int | None = option(
        Integer(minimum=1),
        "how many versions --prune keeps",
        default=None,
        default_text="KEEP_VERSIONS",
        reach=Reach.ONCE,
    )
    json: bool = switch("print JSON", reach=Reach.ONCE)

    def contradictions(self, operands: int) -> Iterator[str]:
        of_version = self.use or self.pin or self.unpin or self.remove
        if self.keep is not None and not self.prune:
            yield "option --keep requires --prune"
        if self.force and not self.remove_all:
            yield "option --force requires --remove-all"
        if self.remove_all and not operands:
            yield "option --remove-all requires the names of the images"
        if self.remove_all and (of_version or self.prune):
            yield "option --remove-all cannot be combined with --use, --pin, --unpin, --remove or --prune"
        if of_version and operands != 1:
            yield f"--use, --pin, --unpin and --remove require exactly one image, but {operands} are given"

    @property
    def removes_versions(self) -> bool:
        return bool(self.remove) or self.prune or self.remove_all

    @property
    def has_actions(self) -> bool:
        """Whether anything changes before the versions are listed."""
        return bool(self.use or self.pin or self.unpin) or self.removes_versions
