"""What a run of `ltsp image` was asked for, understood and checked before any work."""

from __future__ import annotations

import grp
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltsp.boot.kernel_rules import Rule
from ltsp.build import hooks
from ltsp.build.client_initrd import Wanted
from ltsp.build.exclusions import Rules, rules
from ltsp.errors import UsageError
from ltsp.host import users
from ltsp.mksquashfs import options as mksquashfs_options
from ltsp.mksquashfs import sort_file
from ltsp.mksquashfs.options import Parameters
from ltsp.publish.store import Store
from ltsp.settings.applets import ImageOptions, LtspOptions
from ltsp.settings.hooks import Hooks
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.superblock import LARGEST_BLOCK
from ltsp.tree.name import encode, printable

NO_KERNEL = "none"
"""The value of --kernel-initrd that publishes an image without one."""


@dataclass(frozen=True, slots=True)
class Order:
    """The same for each image of the run."""

    options: ImageOptions
    parameters: Parameters
    rules: Rules
    priorities: Mapping[str, int]
    """Of the sort file, by path."""
    before: Sequence[hooks.Command]
    after: Sequence[hooks.Command]
    ltsp: LtspOptions
    store: Store
    group: int | None
    """Of the images, where it was given."""
    client: Wanted
    time: int | None
    """Of the images, in seconds since 1970, where it was given."""

    @property
    def skips_unreadable(self) -> bool:
        """Root means to have all; anybody else has what there is for them."""
        wanted = self.options.skip_unreadable
        return not users.is_root() if wanted is None else wanted

    @property
    def own_engine(self) -> bool:
        """Whether our own writer can do all that was asked."""
        return self.options.engine != "mksquashfs" and not self.parameters.unknown


def order(options: ImageOptions, ltsp: LtspOptions, commands: Hooks, conf_directory: str) -> Order:
    """Lists and executables of the site lie in `conf_directory`.

    Raises UsageError and ConfError for what is wrong in itself, LtspError where a library for the codec is missing.
    """
    asked = mksquashfs_options.parse([*(["-all-root"] if options.all_root else []), *options.mksquashfs_params])
    if asked.unknown and options.engine == "own":
        raise UsageError(
            f"the built-in engine does not know {printable(' '.join(asked.unknown))}", "leave out --engine=own"
        )
    if options.verify and (asked.unknown or options.engine == "mksquashfs"):
        raise UsageError("--verify compares what the built-in engine wrote, and mksquashfs is asked for")
    if options.kernel_initrd == NO_KERNEL and options.boot_transport:
        raise UsageError("--boot-test cannot boot what --kernel-initrd=none leaves without a kernel", "leave one out")
    if options.boot_transport:
        from ltsp.boottest.test_servers import see_that_it_can_be_served  # noqa: PLC0415 -- as in `build`

        see_that_it_can_be_served(options.boot_transport)
    if options.kernel_initrd not in ("", NO_KERNEL):
        Rule.parse(options.kernel_initrd)
    made = Order(
        options,
        asked,
        rules(options, asked.excludes, conf_directory, ltsp.home_dir),
        _priorities(options.sort_file or asked.sort_file),
        hooks.before(commands, os.path.join(conf_directory, "image.d")),
        hooks.after(commands),
        ltsp,
        Store(ltsp.base_dir, ltsp.tftp_dir),
        _group_id(options.image_group),
        Wanted.of(options),
        _source_date_epoch(),
    )
    if made.own_engine:
        _see_that_codec_is_there(options, asked)
    else:
        from ltsp.mksquashfs import engine  # noqa: PLC0415 -- seldom asked for, and has a part of its own

        engine.see_that_it_takes(asked)
    return made


def _see_that_codec_is_there(options: ImageOptions, asked: Parameters) -> None:
    """A codec that comes as an extra may be missing."""
    chosen = asked.compression()
    if chosen is None and options.compression != "auto":
        chosen = Compression.preset(options.compression, options.preset)
    if chosen is not None and chosen.name != "none":
        chosen.codec(LARGEST_BLOCK)


def _priorities(path: str | None) -> Mapping[str, int]:
    if path is None:
        return {}
    try:
        with open(encode(path), "rb") as file:
            return sort_file.parse(file.read(), printable(path))
    except OSError as error:
        raise UsageError(f"cannot read the sort file {printable(path)}: {error.strerror}") from error


def _group_id(name: str) -> int | None:
    """Raises UsageError where this machine has no such group."""
    if not name:
        return None
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"IMAGE_GROUP: there is no group {printable(name)}", "getent group lists them") from None


def _source_date_epoch() -> int | None:
    """The time that all that is made from one state of things shall have. reproducible-builds.org, SOURCE_DATE_EPOCH"""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 1 << 32):
        raise UsageError(f"environment: SOURCE_DATE_EPOCH: {text!a} is no number of seconds below 2^32")
    return int(text)
