"""From what a source holds to what is going to be written: the tree after all rules, its kernel, its compression."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ltsp.boot.codecs import readable_codecs
from ltsp.boot.kernel import Kernel, find_kernel
from ltsp.build.omissions import LeftOut, left_out
from ltsp.build.request import NO_KERNEL, Order
from ltsp.errors import SourceError
from ltsp.inspection import nested_roots, rootfs_check
from ltsp.mksquashfs import sort_file
from ltsp.mksquashfs.options import Parameters
from ltsp.mksquashfs.override import override
from ltsp.settings.applets import ImageOptions
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.writer import WriteOptions
from ltsp.transform.cleanup import Cleaned, clean, findings
from ltsp.transform.secrets import Secrets
from ltsp.transform.skeleton import completed
from ltsp.transform.survey import Removal, Survey, survey
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class Prepared:
    tree: Tree
    cleaned: Cleaned
    survey: Survey
    kernel: Kernel | None
    write_options: WriteOptions
    codec: str
    """The name of the compression, also where only the real mksquashfs has it."""
    codec_reason: str
    """Why it is this one, for the plan."""
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    """What may be missed."""


def prepare(
    taken: Tree, name: str, order: Order, faults: Faults, gone: Iterable[Removal] = (), full: Iterable[str] = ()
) -> Prepared:
    """The tree that was taken in, made ready. `gone` is what was not taken in; see `left_out`.

    Raises SourceError where the tree is no system, LtspError where it has no kernel or its accounts make no sense.
    """
    options, parameters, rules = order.options, order.parameters, order.rules
    _refuse_other_things(taken, name)
    taken = completed(taken, rules.selection)
    taken = taken.select(rules.exact_selection(taken)) if rules.exact else taken
    if rules.cleanup:
        cleaned = clean(taken, rules.secrets, faults)
    else:
        cleaned = Cleaned(taken, (), tuple(findings(taken, rules.secrets, faults)), ())
    tree = override(cleaned.tree, parameters.override)
    kernel = None
    if options.kernel_initrd != NO_KERNEL:
        kernel = find_kernel(tree, name, options.kernel_initrd or None)
        _refuse_to_serve_secrets(tree, kernel, rules.secrets)
    codecs = readable_codecs(tree, kernel.version if kernel else None)
    compression, reason = _compression(options, parameters, codecs)
    listed = sort_file.priorities(order.priorities, tree)
    write_options = parameters.applied(
        WriteOptions(compression, threads=options.threads, xattrs=options.xattrs, time=order.time, first=listed.files)
    )
    warnings = (
        *rules.notes,
        *(kernel.warnings if kernel else ()),
        *(f"the sort file names /{printable(path)}, which is not in the image" for path in listed.missing),
    )
    codec = parameters.foreign_compressor or compression.name
    missed = left_out(gone, cleaned, taken, rules, full)
    return Prepared(
        tree,
        cleaned,
        survey(tree),
        kernel,
        write_options,
        codec,
        reason,
        warnings,
        missed,
    )


def _refuse_to_serve_secrets(tree: Tree, kernel: Kernel, secrets: Secrets) -> None:
    """See that neither of the files that anybody may fetch is a link to what the table of secrets lists."""
    for path in filter(None, (kernel.path, kernel.initrd_path)):
        target = tree.resolve(path)
        if target is not None and secrets.is_private(target):
            raise SourceError(
                f"/{printable(path)} leads to /{printable(target)}, which is no file for clients to fetch",
                "make it lead to a kernel or initrd, or choose others with --kernel-initrd",
            )


def _refuse_other_things(tree: Tree, name: str) -> None:
    """See that it is a system: images are not looked into before."""
    if lack := rootfs_check.lack_of_tree(tree):
        raise SourceError(f"{name}: {lack}", nested_roots.remedy(tree))


def _compression(
    options: ImageOptions, parameters: Parameters, codecs: frozenset[str] | None
) -> tuple[Compression, str]:
    """The codec of an image: of `-m`, of COMPRESSION, or what its own kernel can read."""
    if parameters.compressor or parameters.foreign_compressor:
        return parameters.compression() or Compression(), "as --mksquashfs-params says"
    if options.compression != "auto":
        return Compression.preset(options.compression, options.preset), "as chosen"
    if codecs is not None and "zstd" in codecs:
        return Compression.preset("zstd", options.preset), "which the image's own kernel reads"
    reason = "as nobody says what the image's kernel reads" if codecs is None else "as the image's kernel reads no zstd"
    return Compression.preset("gzip", options.preset), reason
