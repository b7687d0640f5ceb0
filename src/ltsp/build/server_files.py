"""What applets write for a server's programs: configuration files and iPXE binaries, replaced only if they change."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import join

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.report.internal_error import suggest_remedy
from ltsp.report.report import Report
from ltsp.settings import naming
from ltsp.tree.name import printable

_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_LARGEST_BINARY = 64 << 20


@dataclass(frozen=True, slots=True)
class Binary:
    name: str
    """Below TFTP_DIR/ltsp."""
    sources: tuple[str, ...]
    """Paths in packages, the best first."""
    package: str
    """With the names in other distributions."""
    needed: bool = False


_IPXE = "ipxe (ipxe-bootimgs-x86 on Fedora)"
BINARIES = (
    Binary(
        naming.IPXE_BIOS,
        ("/usr/lib/ipxe/undionly.kpxe", "/usr/share/ipxe/undionly.kpxe", "/usr/share/ipxe/x86_64/undionly.kpxe"),
        _IPXE,
        needed=True,
    ),
    Binary(
        naming.IPXE_UEFI,
        (
            "/usr/lib/ipxe/snponly.efi",
            "/usr/share/ipxe/ipxe-snponly-x86_64.efi",
            "/usr/share/ipxe/snponly.efi",
            "/usr/share/ipxe/x86_64/snponly.efi",
            "/usr/lib/ipxe/ipxe.efi",
            "/boot/ipxe.efi",
        ),
        _IPXE,
        needed=True,
    ),
    Binary(
        naming.IPXE_ARM,
        (
            "/usr/lib/ipxe/snponly-arm64.efi",
            "/usr/share/ipxe/arm64-efi/snponly.efi",
            "/usr/share/ipxe/ipxe-snponly-aa64.efi",
            "/usr/lib/ipxe/ipxe-arm64.efi",
        ),
        "ipxe (ipxe-bootimgs-aarch64 on Fedora)",
    ),
    Binary(naming.MEMTEST_BIOS, ("/boot/memtest86+x64.bin", "/boot/memtest86+.bin", "/boot/memtest.bin"), "memtest86+"),
    Binary(naming.MEMTEST_UEFI, ("/boot/memtest86+x64.efi", "/boot/memtest.efi"), "memtest86+"),
)
MEMTESTS = (naming.MEMTEST_BIOS, naming.MEMTEST_UEFI)


def write_config(path: str, text: str, report: Report, *, overwrite: bool, dry_run: bool) -> bool:
    """Write the file if its text changed; a dry run only shows the change. Returns whether it was written.

    Raises LtspError if it cannot be written.
    """
    shown = printable(path)
    try:
        old = _read_text(path)
    except OSError as error:
        raise LtspError(f"cannot read {shown}: {error.strerror}") from error
    if old == text:
        report.say(f"unchanged {shown}")
        return False
    if old is not None and not overwrite:
        report.say(f"kept {shown} because of --overwrite=0; the generated file would differ")
        return False
    if dry_run:
        _show_change(shown, old, text, report)
        return False
    try:
        files.make_directories(os.path.dirname(path), _DIRECTORY_MODE)
        files.replace_file(path, text.encode(), _FILE_MODE)
    except OSError as error:
        raise LtspError(f"cannot write {shown}: {error.strerror}", suggest_remedy(error)) from error
    report.say(f"wrote {shown}" if old is None else f"replaced {shown}")
    return True


def _read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _show_change(path: str, old: str | None, text: str, report: Report) -> None:
    """Show the text of a new file, or the changes to an existing one."""
    if old is None:
        report.say(f"would write {path}:")
        lines = text.splitlines()
    else:
        report.say(f"would replace {path}:")
        lines = list(difflib.unified_diff(old.splitlines(), text.splitlines(), path, path, lineterm=""))
    for line in lines:
        report.say(printable(line))


def install_binaries(
    directory: str, binaries: Sequence[Binary], report: Report, *, replace_existing: bool, dry_run: bool
) -> tuple[Binary, ...]:
    """Copy the missing binaries, or all of them if `replace_existing`; return those that were not found.

    Raises LtspError if one cannot be read or written.
    """
    missing: list[Binary] = []
    for binary in binaries:
        path = join(directory, binary.name)
        exists = os.path.isfile(path)
        if exists and not replace_existing:
            continue
        source = next((each for each in binary.sources if os.path.isfile(each)), None)
        if source is None:
            if not exists:
                missing.append(binary)
        elif dry_run:
            report.say(f"would copy {source} to {printable(path)}")
        elif _copy_binary(source, path):
            report.say(f"copied {source} to {printable(path)}")
    return tuple(missing)


def check_missing_binaries(missing: Sequence[Binary]) -> None:
    """Raises LtspError if one is missing that PCs need to boot."""
    needed = [binary for binary in missing if binary.needed]
    if needed:
        names = ", ".join(binary.name for binary in needed)
        packages = ", ".join(dict.fromkeys(binary.package for binary in needed))
        raise LtspError(
            f"iPXE not found ({names}): no PC can boot from this server",
            f"install the package {packages}, or copy the files to TFTP_DIR/ltsp, then run ltsp ipxe again",
        )


def _copy_binary(source: str, path: str) -> bool:
    """Whether the file changed."""
    try:
        data = _read_binary(source)
        if os.path.isfile(path) and _read_binary(path) == data:
            return False
        files.make_directories(os.path.dirname(path), _DIRECTORY_MODE)
        files.replace_file(path, data, _FILE_MODE)
    except OSError as error:
        raise LtspError(
            f"cannot copy {source} to {printable(path)}: {error.strerror}", suggest_remedy(error)
        ) from error
    return True


def _read_binary(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LARGEST_BINARY)
