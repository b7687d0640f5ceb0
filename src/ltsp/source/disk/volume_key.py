"""The key of an encrypted volume, which cryptsetup derives from the volume's header and the user's key file.

The header may be hostile, so cryptsetup runs without privileges; and the key is secret, so it passes only through
pipes.
"""

from __future__ import annotations

import os
import re
import stat
from typing import BinaryIO, Final

from ltsp.errors import FormatError, LtspError, ProgramTimeout, SourceError
from ltsp.host import command
from ltsp.tree.name import encode, printable

_MAX_HEADER_SIZE: Final = 160 << 20
_HEADER_PADDING: Final = 1 << 20
"""Bytes added after the header, since a volume must not be empty."""
_MAX_KEY_FILE_SIZE: Final = 8 << 20
"""Limit on the size of a key file in bytes, as in cryptsetup."""
_CRYPTSETUP_TIMEOUT: Final = 60
"""A key slot is tuned to take two, on the machine where it was created; a header may demand years."""
_MIN_MEMORY: Final = 2 << 30
"""Bytes of address space; a key slot takes 1 GiB by cryptsetup's defaults, and at most 4."""
_NO_MATCHING_KEY: Final = 2
"""The exit status of cryptsetup(8) for a key that matches no slot."""
_UNLOCK_HINT: Final = "unlock and mount it, and name the directory"
_DUMPED_KEY_PATTERN: Final = re.compile(rb"^MK dump:((?:\s+[0-9a-f]{2})+)\s*$", re.MULTILINE)


def find_volume_key(header: bytes, key_file: str) -> bytes:
    """The key of the volume that starts with the header.

    Raises SourceError if the key file cannot be read or does not match, FormatError for a header that cryptsetup
    refuses, and LtspError if cryptsetup is not installed.
    """
    if len(header) > _MAX_HEADER_SIZE:
        raise FormatError("the LUKS header is larger than the format allows")
    with _open_key_file(key_file) as key_input, open(os.memfd_create("header"), "w+b", buffering=0) as file:
        view = memoryview(header)
        while view:
            view = view[file.write(view) :]
        file.truncate(len(header) + _HEADER_PADDING)
        options = ["--batch-mode", "--dump-volume-key", "--key-file=-"]
        try:
            result = command.run(
                ["cryptsetup", "luksDump", *options, f"/proc/self/fd/{file.fileno()}"],
                accepted_statuses=range(256),
                package="cryptsetup-bin",
                standard_input=key_input,
                descriptors=[file.fileno()],
                as_nobody=True,
                timeout=_CRYPTSETUP_TIMEOUT,
                memory_limit=max(_MIN_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2),
            )
        except ProgramTimeout as error:
            raise FormatError(
                f"cryptsetup did not finish trying the key slots within {_CRYPTSETUP_TIMEOUT} seconds", _UNLOCK_HINT
            ) from error
    if result.status == _NO_MATCHING_KEY:
        raise SourceError(
            f"the key in {printable(key_file)} matches none of the volume's key slots",
            "choose another file with --key-file",
        )
    if result.status:
        # For example a key slot that needs more memory, which not every release reports.
        raise FormatError(command.exit_error("cryptsetup", result.status, result.stderr).message, _UNLOCK_HINT)
    match = _DUMPED_KEY_PATTERN.search(result.stdout)
    if match is None:
        raise LtspError("cryptsetup returned no volume key")
    return bytes.fromhex(match[1].decode("ascii"))


def check_key_file(path: str) -> None:
    """Raises SourceError for an invalid key file, even if no volume turns out to be encrypted."""
    _open_key_file(path).close()


def _open_key_file(key_file: str) -> BinaryIO:
    """Open the key file, which happens each time that a volume is opened. Raises SourceError if it is invalid."""
    display_name = f"the key file {printable(key_file)}"
    try:
        # O_NONBLOCK: do not wait for a writer if it is a pipe.
        descriptor = os.open(encode(key_file), os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise SourceError(f"cannot read {display_name}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _MAX_KEY_FILE_SIZE:
        return open(descriptor, "rb", buffering=0)
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{display_name} is not a regular file", "write the key to a file that only you can read")
    if status.st_size:
        raise SourceError(
            f"{display_name} is larger than {_MAX_KEY_FILE_SIZE >> 20} MiB, the limit for a key file",
            "choose another file with --key-file",
        )
    raise SourceError(f"{display_name} is empty", "choose another file with --key-file")
