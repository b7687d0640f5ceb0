"""Finding the kernel of an image and its initrd in the tree, and explaining the choice.

All links are followed inside the tree; a link to a file of the server resolves to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ltsp.boot.kernel_header import (
    is_kernel_version,
    looks_like_kernel,
    parse_version_from_name,
    read_bzimage_size,
    read_embedded_version,
    version_key,
)
from ltsp.boot.kernel_rules import (
    INITRD_NAME,
    INITRD_PATHS,
    KERNEL_RULES,
    VERSION_PLACEHOLDER,
    KernelRank,
    KernelRule,
    expand_rule,
)
from ltsp.boot.no_kernel import MODULES_DIRECTORY, RefusedKernel, has_modules, no_kernel_error
from ltsp.boot.unified_kernel import UnifiedKernel
from ltsp.errors import FileUnreadable, FormatError
from ltsp.tree.content import Content
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, File, Node
from ltsp.tree.tree import Tree

_MAX_KERNEL_SIZE: Final = 1 << 30
"""Bytes; the largest that distributions ship have some 90 MiB, unified ones with all firmware some 300."""
_MAX_INITRD_SIZE: Final = 4 << 30
_MAX_VERSION_SEARCHES: Final = 64
"""Maximum number of files that are searched for their version. Each may take a second, and a tree may have many."""
_MAX_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class PassedOverKernel:
    """A kernel that was not chosen although it has precedence: it is newer, or the system's default."""

    path: str
    reason: str
    """Safe to print."""

    def __str__(self) -> str:
        return f"/{printable(self.path)} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel to boot."""

    path: str
    """Where the rule found it; this may be a link to the file."""
    initrd_path: str | None
    """The same as `path` if one file contains both."""
    version: str | None
    """As stated in the file, else in its name; None if in neither."""
    kernel: Content
    initrd: Content | None
    reason: str = ""
    """Why it was chosen."""
    passed_over: tuple[PassedOverKernel, ...] = ()
    warnings: tuple[str, ...] = ()
    """Kernels that were passed over for a fault, and faults of the chosen one."""

    def __str__(self) -> str:
        """Safe to print: its path, why it was chosen, and which kernels were passed over."""
        if self.initrd_path == self.path:
            initrd = " with an embedded initrd"
        else:
            initrd = f" with /{printable(self.initrd_path)}" if self.initrd_path else " without an initrd"
        passed = "; ".join(map(str, self.passed_over[:_MAX_SHOWN]))
        more = f" and {len(self.passed_over) - _MAX_SHOWN} more" if len(self.passed_over) > _MAX_SHOWN else ""
        return f"/{printable(self.path)}{initrd}: {self.reason}" + (f"; passed over: {passed}{more}" if passed else "")

    def to_json(self) -> dict[str, object]:
        """The choice as JSON."""
        return {
            "path": self.path,
            "version": self.version,
            "initrd": self.initrd_path,
            "reason": self.reason,
            "passed_over": [{"path": each.path, "reason": each.reason} for each in self.passed_over],
        }


def find_kernel(tree: Tree, name: str, user_rule: str | None = None) -> Kernel:
    """The kernel of an image: by the user's rule, of a live medium, the system's default, then the newest.

    `name` is that of the image, for the error. A kernel without an initrd is chosen only if no other has one, and a
    kernel that states another version than its name only if there is no other.
    Raises LtspError if there is none, FileUnreadable without permission to read it, UsageError for a bad rule.
    """
    rules = (KernelRule.parse(user_rule), *KERNEL_RULES) if user_rule else KERNEL_RULES
    search = _KernelSearch(tree, rules)
    kernel = search.kernel()
    if kernel is None:
        raise no_kernel_error(tree, name, rules, search.list_refused())
    for path, content in ((kernel.path, kernel.kernel), (kernel.initrd_path or "", kernel.initrd)):
        if content is not None:
            _check_readable(path, content)
    return kernel


def _check_readable(path: str, content: Content) -> None:
    """Raises FileUnreadable without permission: on Ubuntu, only root can read kernels."""
    try:
        with content.open():
            pass
    except PermissionError as error:
        raise FileUnreadable(
            f"cannot read /{printable(path)}, which clients would boot: {error.strerror}",
            f"run as root, or make it readable in the source: chmod a+r /{printable(path)}",
        ) from error


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A path that matches a rule."""

    rule: KernelRule
    path: str
    placeholder_text: str
    """The text in the path that `<version>` of the rule matches."""
    named_version: str | None
    """The version in the path, or in the path of the file that it resolves to."""
    file: File | None
    fault: str
    """Why the file cannot be booted; empty if no reason is known yet."""


@dataclass(frozen=True, slots=True)
class _CandidateVerdict:
    """The result of checking a candidate."""

    rank: KernelRank
    kernel: Kernel | None
    """None if it cannot be booted."""
    reason: str = ""
    """Why it cannot be booted, or is only a last resort."""
    version: str | None = None
    """The version of a kernel that cannot be booted, if known."""
    lacks_modules: bool = False
    """Whether missing modules are the only reason."""

    @property
    def is_sound(self) -> bool:
        return self.kernel is not None and not self.reason

    @property
    def is_doubtful(self) -> bool:
        return self.kernel is not None and bool(self.reason)


@dataclass(slots=True)
class _KernelSearch:
    tree: Tree
    rules: Sequence[KernelRule]
    verdicts: dict[str, _CandidateVerdict] = field(default_factory=dict)
    """By path, in the order in which the candidates were checked."""
    _embedded_versions: dict[int, str | None] = field(default_factory=dict)
    """Stated versions, by the identity of the node."""

    def kernel(self) -> Kernel | None:
        for rank in KernelRank:
            for candidate in self._list_candidates(rank):
                verdict = self._judge_candidate(candidate)
                if not self.verdicts.get(candidate.path, verdict).is_sound or verdict.is_sound:
                    self.verdicts[candidate.path] = verdict
                if verdict.is_sound and verdict.kernel and (verdict.kernel.initrd or candidate.rule.is_user_rule):
                    return self._choose(verdict.kernel, rank)
            if rank is KernelRank.CHOSEN and (kernel := self._choose_doubtful()):
                return kernel
        lone = next((each for each in self.verdicts.values() if each.is_sound), None)
        return self._choose(lone.kernel, lone.rank) if lone and lone.kernel else self._choose_doubtful()

    def _choose_doubtful(self) -> Kernel | None:
        for verdict in self.verdicts.values():
            if verdict.is_doubtful and verdict.kernel:
                return self._choose(verdict.kernel, verdict.rank, doubtful=True)
        return None

    def _list_candidates(self, rank: KernelRank) -> list[_Candidate]:
        """Candidates of a rank: newest first, within a version in the order of the table, without a version last."""
        found = [
            self._make_candidate(rule, path, version)
            for rule in self.rules
            if rule.rank is rank
            for place in rule.directories
            for path, version in sorted(expand_rule(self.tree, rule, place), reverse=True)
        ]
        return sorted(found, key=lambda candidate: version_key(self._find_version(candidate) or ""), reverse=True)

    def _make_candidate(self, rule: KernelRule, path: str, found: str) -> _Candidate:
        resolved = self.tree.resolve(path)
        node = None if resolved is None else self.tree.get(resolved)
        names = (name for each in (path, resolved or "") if (name := parse_version_from_name(each)))
        named_version = found if is_kernel_version(found) else next(names, None)
        file = node if isinstance(node, File) else None
        return _Candidate(rule, path, found, named_version, file, _find_fault(node, _MAX_KERNEL_SIZE))

    def _find_version(self, candidate: _Candidate) -> str | None:
        """The version in the name, if any, so that the file need not be read yet; else the one in the file."""
        if candidate.named_version or candidate.file is None or candidate.fault:
            return candidate.named_version
        try:
            unified = UnifiedKernel.parse(candidate.file.content)
        except (OSError, FormatError):
            return None
        return self._read_embedded_version(candidate.file, unified.kernel if unified else candidate.file.content)

    def _read_embedded_version(self, file: File, kernel: Content) -> str | None:
        if id(file) not in self._embedded_versions:
            try:
                may_search = len(self._embedded_versions) < _MAX_VERSION_SEARCHES
                self._embedded_versions[id(file)] = read_embedded_version(kernel) if may_search else None
            except OSError:
                self._embedded_versions[id(file)] = None  # copying the kernel will say so
        return self._embedded_versions[id(file)]

    def _judge_candidate(self, candidate: _Candidate) -> _CandidateVerdict:
        file, rule = candidate.file, candidate.rule
        if file is None or candidate.fault:
            return _CandidateVerdict(rule.rank, None, candidate.fault, candidate.named_version)
        try:
            unified = UnifiedKernel.parse(file.content)
        except FormatError as error:
            return _CandidateVerdict(rule.rank, None, error.message, candidate.named_version)
        except OSError:
            unified = None  # copying the kernel will say so
        else:
            if rule.unified and unified is None:
                return _CandidateVerdict(rule.rank, None, "it has no section .linux, so it is not a unified kernel")
        content = unified.kernel if unified else file.content
        embedded = self._read_embedded_version(file, content)
        if broken := _find_truncation(content) or ("" if embedded else _find_wrong_type(content)):
            return _CandidateVerdict(rule.rank, None, broken, embedded or candidate.named_version)
        named_version = candidate.named_version or (unified.version if unified else None)
        version = embedded or (named_version if named_version and is_kernel_version(named_version) else None)
        initrd_path, initrd = candidate.path, unified.initrd if unified else None
        found = (initrd_path, initrd) if initrd else self._find_initrd(candidate, version)
        return self._check_kernel(Kernel(candidate.path, found[0], version, content, found[1]), rule, named_version)

    def _check_kernel(self, kernel: Kernel, rule: KernelRule, named_version: str | None) -> _CandidateVerdict:
        version, shown = kernel.version, f"/{printable(kernel.path)}"
        faults: list[str] = []
        warnings: list[str] = []
        if version and named_version and version != named_version:
            faults.append(f"its version is {printable(version)}, not {printable(named_version)}")
            warnings.append(f"{shown} is version {printable(version)} despite its name; clients get its modules")
        if version and self._lacks_modules(rule, version):
            place = f"{MODULES_DIRECTORY}/{version}"
            lacking = f"{'no' if self.tree.follow(place) is None else 'no modules in'} /{printable(place)}"
            if not rule.is_user_rule:
                if not named_version:
                    faults.append(f"its version is {printable(version)}")
                return _CandidateVerdict(rule.rank, None, "; ".join((*faults, lacking)), version, lacks_modules=True)
            faults.append(lacking)
            warnings.append(f"{shown} has no modules: /{MODULES_DIRECTORY}/{printable(version)} is not in the image")
        if rule.substitutions and kernel.initrd is None:
            warnings.append(f"--kernel-initrd={printable(rule.kernel)} matches the kernel {shown}, but no initrd")
        return _CandidateVerdict(rule.rank, replace(kernel, warnings=tuple(warnings)), "; ".join(faults))

    def _lacks_modules(self, rule: KernelRule, version: str) -> bool:
        modules_directory = self.tree.follow(MODULES_DIRECTORY)
        if rule.live and not (isinstance(modules_directory, Directory) and modules_directory.entries):
            return False
        return not has_modules(self.tree, version)

    def _find_initrd(self, candidate: _Candidate, version: str | None) -> tuple[str | None, Content | None]:
        """The initrd next to the kernel, or elsewhere in the system for its version; never that of another version."""
        rule = candidate.rule
        paths = rule.initrd_paths(candidate.path, candidate.placeholder_text)
        if version and not rule.is_user_rule:
            paths += [path.replace(VERSION_PLACEHOLDER, version) for path in INITRD_PATHS]
        for path in paths:
            resolved = self.tree.resolve(path)
            node = None if resolved is None else self.tree.get(resolved)
            if resolved is None or not isinstance(node, File) or _find_fault(node, _MAX_INITRD_SIZE):
                continue
            other = INITRD_NAME.fullmatch(resolved.rpartition("/")[2])
            if rule.is_user_rule or not (other and version) or other[1] == version:
                return path, node.content
        return None, None

    def _choose(self, kernel: Kernel, rank: KernelRank, *, doubtful: bool = False) -> Kernel:
        paths = list(self.verdicts)
        considered = paths if doubtful else paths[: paths.index(kernel.path)]
        faulty = {path: self.verdicts[path].reason for path in considered if path != kernel.path}
        faulty = {path: reason for path, reason in faulty.items() if reason}
        sound = (each for path in considered if (each := self.verdicts[path].kernel) and path not in faulty)
        lone = {each.path: "it has no initrd" for each in sound if each.version != kernel.version}
        newer = dict(self._find_newer_kernels(kernel)) if rank is KernelRank.DEFAULT else {}
        unmatched_rules = [rule for rule in self.rules if rule.is_user_rule and rank is not KernelRank.CHOSEN]
        warnings = [
            f"--kernel-initrd={printable(rule.kernel)} matches no kernel; using another" for rule in unmatched_rules
        ]
        warnings += [f"passed over /{printable(path)}: {reason}" for path, reason in faulty.items()]
        return replace(
            kernel,
            reason=_describe_choice(kernel, rank, doubtful=doubtful, for_initrd=bool(lone)),
            passed_over=tuple(PassedOverKernel(*each) for each in (faulty | lone | newer).items()),
            warnings=(*warnings, *kernel.warnings),
        )

    def _find_newer_kernels(self, default: Kernel) -> Iterator[tuple[str, str]]:
        """The path of each newer kernel, and why it is passed over."""
        versions = {default.version}
        for candidate in self._list_candidates(KernelRank.NAMED) if default.version else ():
            version = self._find_version(candidate)
            if version_key(version or "") <= version_key(default.version or ""):
                return
            reason = self._judge_candidate(candidate).reason
            if reason or version not in versions:
                yield candidate.path, reason or f"newer, but /{printable(default.path)} is the system's default"
            versions.add(version)

    def list_refused(self) -> list[RefusedKernel]:
        return [
            RefusedKernel(
                str(PassedOverKernel(path, verdict.reason)),
                verdict.version,
                is_file=isinstance(self.tree.follow(path), File),
                lacks_modules=verdict.lacks_modules,
                live=verdict.rank is KernelRank.LIVE,
            )
            for path, verdict in self.verdicts.items()
        ]


def _describe_choice(kernel: Kernel, rank: KernelRank, *, doubtful: bool, for_initrd: bool) -> str:
    if rank is KernelRank.CHOSEN:
        return "chosen by --kernel-initrd"
    if doubtful:
        return "no other kernel can be booted"
    if rank is KernelRank.LIVE:
        return "kernel of the live medium"
    if kernel.version is None:
        return "the only one; its version is unknown"
    if rank is KernelRank.DEFAULT:
        return "the system's default"
    return "newest with modules and an initrd" if for_initrd else "newest with modules"


def _find_fault(node: Node | None, max_size: int) -> str:
    """Why this is not a file to boot; empty if it may be one."""
    if node is None:
        return "a dangling symbolic link"
    if not isinstance(node, File):
        return "not a regular file"
    if node.content.size == 0:
        return "empty"
    return f"larger than {max_size >> 20} MiB" if node.content.size > max_size else ""


def _find_truncation(kernel: Content) -> str:
    """The sizes of a truncated kernel, as written to a full disk or by an interrupted copy; else empty."""
    try:
        size = read_bzimage_size(kernel)
    except OSError:
        return ""  # copying the kernel will say so
    return f"truncated: it has {kernel.size} of {size} bytes" if kernel.size < size else ""


def _find_wrong_type(kernel: Content) -> str:
    """A message if the file begins like no kernel; else empty."""
    try:
        return "" if looks_like_kernel(kernel) else "not a kernel: no known header"
    except OSError:
        return ""  # copying the kernel will say so
