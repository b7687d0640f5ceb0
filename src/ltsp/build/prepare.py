"""From a source's tree to what is written: all rules applied, with its kernel, compression and clients' initrd."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ltsp.boot.kernel import Kernel, find_kernel
from ltsp.boot.kernel_codecs import find_squashfs_codecs
from ltsp.build.client_initrd import (
    NO_KERNEL,
    ClientBootFiles,
    ClientInitrdRequest,
    make_client_initrd,
)
from ltsp.build.exclusions import Omission, find_omissions
from ltsp.build.request import BuildRequest
from ltsp.errors import SourceError
from ltsp.inspection import root_file_systems
from ltsp.mksquashfs import sort_file
from ltsp.mksquashfs.options import Parameters, override_owners
from ltsp.publish.version import Version
from ltsp.report.report import Report
from ltsp.settings.image_options import ImageOptions
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.writer import WriteOptions
from ltsp.transform.cleanup import CleanedTree, clean_tree, find_suspects
from ltsp.transform.secrets import Secrets
from ltsp.transform.skeleton import add_skeleton
from ltsp.transform.survey import Removal, Survey, survey
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class PreparedTree:
    tree: Tree
    cleaned: CleanedTree
    survey: Survey
    kernel: Kernel | None
    write_options: WriteOptions
    codec: str
    """The name of the compression, even if only the real mksquashfs has it."""
    codec_reason: str
    """Why it was chosen, for the plan."""
    warnings: tuple[str, ...]
    left_out: tuple[Omission, ...]
    """What clients may need."""


def prepare_tree(
    source_tree: Tree,
    name: str,
    request: BuildRequest,
    faults: Faults,
    removals: Iterable[Removal] = (),
    partly_measured: Iterable[str] = (),
) -> PreparedTree:
    """Prepare a tree for writing. `removals` is what the rules left out of it; see `find_omissions`.

    Raises SourceError if the tree is not a root file system, LtspError if it has no kernel or invalid accounts.
    """
    options, parameters, rules = request.options, request.parameters, request.rules
    _check_rootfs(source_tree, name)
    source_tree = add_skeleton(source_tree, rules.selection)
    source_tree = source_tree.select(rules.exact_selection(source_tree)) if rules.exact_paths else source_tree
    if rules.cleanup:
        cleaned = clean_tree(source_tree, rules.secrets, faults)
    else:
        cleaned = CleanedTree(source_tree, (), tuple(find_suspects(source_tree, rules.secrets, faults)), ())
    tree = override_owners(cleaned.tree, parameters.override)
    kernel = None
    if options.kernel_initrd != NO_KERNEL:
        kernel = find_kernel(tree, name, options.kernel_initrd or None)
        _check_boot_files_public(tree, kernel, rules.secrets)
    codecs = find_squashfs_codecs(tree, kernel.version if kernel else None)
    compression, reason = _choose_compression(options, parameters, codecs)
    priorities = sort_file.find_priorities(request.priorities, tree)
    write_options = parameters.apply_to(
        WriteOptions(
            compression,
            threads=options.threads,
            xattrs=options.xattrs,
            time=request.time,
            sort_priorities=priorities.files,
        )
    )
    warnings = (
        *rules.notes,
        *(kernel.warnings if kernel else ()),
        *(f"the sort file names /{printable(path)}, which is not in the image" for path in priorities.missing),
    )
    codec = parameters.foreign_compressor or compression.name
    omissions = find_omissions(removals, cleaned, source_tree, rules, partly_measured)
    return PreparedTree(tree, cleaned, survey(tree), kernel, write_options, codec, reason, warnings, omissions)


def make_initrd(
    prepared: PreparedTree, name: str, wanted: ClientInitrdRequest, before: Version | None, report: Report
) -> ClientBootFiles:
    """The clients' initrd for the kernel of a prepared tree.

    Raises LtspError if no client could boot it.
    """
    codec = prepared.codec if prepared.write_options.is_compressed else ""
    with report.step("making the clients' initrd"):
        return make_client_initrd(prepared.tree, prepared.kernel, codec, name, wanted, before)


def _check_boot_files_public(tree: Tree, kernel: Kernel, secrets: Secrets) -> None:
    """Check that neither of these public files is a link to a secret. Raises SourceError."""
    for path in filter(None, (kernel.path, kernel.initrd_path)):
        target = tree.resolve(path)
        if target is not None and secrets.is_private(target):
            raise SourceError(
                f"/{printable(path)} leads to /{printable(target)}, which is secret, but clients fetch it",
                "point the link at a kernel or initrd, or choose other files with --kernel-initrd",
            )


def _check_rootfs(tree: Tree, name: str) -> None:
    """Check that it is a root file system; images were not opened before. Raises SourceError."""
    if missing := root_file_systems.explain_missing_root_in_tree(tree):
        raise SourceError(f"{name}: {missing}", root_file_systems.suggest_remedy(tree))


def _choose_compression(
    options: ImageOptions, parameters: Parameters, codecs: frozenset[str] | None
) -> tuple[Compression, str]:
    """The codec of an image: from `-m`, COMPRESSION, or what its own kernel can read."""
    if parameters.compressor or parameters.foreign_compressor:
        return parameters.compression() or Compression(), "from --mksquashfs-params"
    if options.compression != "auto":
        return Compression.preset(options.compression, options.preset), "as chosen"
    if codecs is not None and "zstd" in codecs:
        return Compression.preset("zstd", options.preset), "which the image's kernel can read"
    reason = "as the codecs of the image's kernel are unknown" if codecs is None else "as the image's kernel lacks zstd"
    return Compression.preset("gzip", options.preset), reason
