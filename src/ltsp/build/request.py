"""The request of a run of `ltsp image`, parsed and checked before any work."""

from __future__ import annotations

import grp
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltsp.boot.kernel_rules import KernelRule
from ltsp.build import hooks
from ltsp.build.client_initrd import NO_KERNEL, ClientInitrdRequest
from ltsp.build.exclusions import ExclusionRules, load_rules
from ltsp.errors import UsageError
from ltsp.host import privilege
from ltsp.mksquashfs import options as mksquashfs_options
from ltsp.mksquashfs import sort_file
from ltsp.mksquashfs.options import Parameters
from ltsp.publish.store import Store
from ltsp.publish.version import Version
from ltsp.settings.applets import LtspOptions
from ltsp.settings.image_options import ImageOptions
from ltsp.settings.resolve import Hooks
from ltsp.source import spec
from ltsp.source.location import make_source_absolute
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.superblock import MAX_BLOCK_SIZE
from ltsp.tree.name import encode, printable


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The same for each image of the run."""

    options: ImageOptions
    parameters: Parameters
    rules: ExclusionRules
    priorities: Mapping[str, int]
    """Of the sort file, by path."""
    commands_before: Sequence[hooks.HookCommand]
    commands_after: Sequence[hooks.HookCommand]
    ltsp: LtspOptions
    store: Store
    group: int | None
    """Of the images, if given."""
    client: ClientInitrdRequest
    time: int | None
    """Of the images, in seconds since 1970, if given."""

    @property
    def skips_unreadable(self) -> bool:
        """By default, root must be able to read everything; other users skip what they cannot read."""
        skip = self.options.skip_unreadable
        return not privilege.is_root() if skip is None else skip

    @property
    def uses_built_in_engine(self) -> bool:
        """Whether the built-in engine supports all that was asked."""
        return self.options.engine != "mksquashfs" and not self.parameters.unknown


def make_request(options: ImageOptions, ltsp: LtspOptions, commands: Hooks, conf_directory: str) -> BuildRequest:
    """`conf_directory` has the lists and executables of the site.

    Raises UsageError and ConfError for invalid options and files, LtspError if a library for the codec is missing.
    """
    parameters = mksquashfs_options.parse([*(["-all-root"] if options.all_root else []), *options.mksquashfs_params])
    if parameters.unknown and options.engine == "own":
        raise UsageError(
            f"the built-in engine does not support {printable(' '.join(parameters.unknown))}", "leave out --engine=own"
        )
    if options.verify and (parameters.unknown or options.engine == "mksquashfs"):
        why = f"{printable(' '.join(parameters.unknown))} needs" if parameters.unknown else "--engine asks for"
        raise UsageError(
            f"--verify only works with the built-in engine, but {why} mksquashfs", "leave out one of the two options"
        )
    if options.kernel_initrd == NO_KERNEL and options.boot_transport:
        raise UsageError(
            "--boot-test needs a kernel, but --kernel-initrd=none publishes none", "remove one of the two options"
        )
    if options.boot_transport:
        from ltsp.boottest.servers import require_http_library  # noqa: PLC0415 -- as in `build`

        require_http_library(options.boot_transport)
    if options.kernel_initrd not in ("", NO_KERNEL):
        KernelRule.parse(options.kernel_initrd)
    request = BuildRequest(
        options,
        parameters,
        load_rules(options, parameters.excludes, conf_directory, ltsp.home_dir),
        _read_sort_file(options.sort_file or parameters.sort_file),
        hooks.find_commands_before(commands, os.path.join(conf_directory, "image.d")),
        hooks.list_commands_after(commands),
        ltsp,
        Store(ltsp.base_dir, ltsp.tftp_dir),
        _look_up_group(options.image_group),
        ClientInitrdRequest.of(options),
        _source_date_epoch(),
    )
    if request.uses_built_in_engine:
        _check_codec_available(options, parameters)
    else:
        from ltsp.mksquashfs import engine  # noqa: PLC0415 -- rarely used

        engine.check_parameters(parameters)
    return request


def _check_codec_available(options: ImageOptions, parameters: Parameters) -> None:
    """Raises LtspError if the codec is an extra that is not installed."""
    chosen = parameters.compression()
    if chosen is None and options.compression != "auto":
        chosen = Compression.preset(options.compression, options.preset)
    if chosen is not None and chosen.name != "none":
        chosen.codec(MAX_BLOCK_SIZE)


def _read_sort_file(path: str | None) -> Mapping[str, int]:
    if path is None:
        return {}
    try:
        with open(encode(path), "rb") as file:
            return sort_file.parse(file.read(), printable(path))
    except OSError as error:
        raise UsageError(f"cannot read the sort file {printable(path)}: {error.strerror}") from error


def _look_up_group(name: str) -> int | None:
    """Raises UsageError if this machine has no such group."""
    if not name:
        return None
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(
            f"IMAGE_GROUP: group {printable(name)} not found", "list the groups of this machine: getent group"
        ) from None


def _source_date_epoch() -> int | None:
    """The time that all files of a reproducible build get. reproducible-builds.org, SOURCE_DATE_EPOCH"""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 1 << 32):
        raise UsageError(f"environment: SOURCE_DATE_EPOCH: {text!a} is not a number of seconds below 2^32")
    return int(text)


def find_changed_source(store: Store, name: str, argument: str) -> str:
    """The recorded source of the image `name`; empty if it is the same as `argument` or unknown."""
    state = store.state(name)
    published = state.image if isinstance(state.image, Version) else state.current
    if published is None or not (recorded := published.manifest.source.argument):
        return ""
    before = make_source_absolute(recorded, store.base_dir)
    return "" if spec.is_same_source(before, argument) else before
