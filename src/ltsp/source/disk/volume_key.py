"""The key of an encrypted volume: cryptsetup finds it, by a key file of the user's, from the volume's header alone.

What it reads is what somebody may have made to harm it, so that it gets no rights; and the key is a secret, so that
it passes through pipes and nothing else.
"""

from __future__ import annotations

import os
import re
import stat
from typing import BinaryIO, Final

from ltsp.errors import FormatError, LtspError, ProgramTimeout, SourceError
from ltsp.host import command
from ltsp.tree.name import encode, printable

_MOST_HEADER: Final = 160 << 20
_SPARE: Final = 1 << 20
"""Bytes behind the header: a volume has some."""
_MOST_KEY: Final = 8 << 20
"""Bytes of a key file, as cryptsetup is built."""
_SECONDS: Final = 60
"""A key slot is made to take two, on the machine where it was made; a header may ask for years."""
_LEAST_MEMORY: Final = 2 << 30
"""Bytes of address space; a key slot takes 1 GiB where it is made by cryptsetup's defaults, and at most 4."""
_NO_KEY: Final = 2
"""The exit status of cryptsetup(8) for a key that fits no slot."""
_BY_HAND: Final = "unlock and mount it, and name the directory"
_DUMPED_KEY: Final = re.compile(rb"^MK dump:((?:\s+[0-9a-f]{2})+)\s*$", re.MULTILINE)


def find_volume_key(header: bytes, key_file: str) -> bytes:
    """Of the volume that begins with the header.

    Raises SourceError where the key file cannot be read or does not fit, FormatError for what cryptsetup refuses, and
    LtspError where it is missing.
    """
    if len(header) > _MOST_HEADER:
        raise FormatError("the header of LUKS is larger than any can be")
    with _open_key_file(key_file) as key_input, open(os.memfd_create("header"), "w+b", buffering=0) as file:
        view = memoryview(header)
        while view:
            view = view[file.write(view) :]
        file.truncate(len(header) + _SPARE)
        options = ["--batch-mode", "--dump-volume-key", "--key-file=-"]
        try:
            done = command.run(
                ["cryptsetup", "luksDump", *options, f"/proc/self/fd/{file.fileno()}"],
                accepted=range(256),
                package="cryptsetup-bin",
                standard_input=key_input,
                descriptors=[file.fileno()],
                as_nobody=True,
                seconds=_SECONDS,
                memory=max(_LEAST_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2),
            )
        except ProgramTimeout as error:
            raise FormatError(f"its key slots were not tried after {_SECONDS} seconds", _BY_HAND) from error
    if done.status == _NO_KEY:
        raise SourceError(f"the key in {printable(key_file)} fits none of its key slots", "give --key-file another one")
    if done.status:
        # Such as a key slot that takes more memory, which not every release says.
        raise FormatError(command.failure("cryptsetup", done.status, done.stderr).message, _BY_HAND)
    match = _DUMPED_KEY.search(done.stdout)
    if match is None:
        raise LtspError("cryptsetup said no key")
    return bytes.fromhex(match[1].decode("ascii"))


def check_key_file(path: str) -> None:
    """Raises SourceError for what is no key file, also where it turns out that no volume is encrypted."""
    _open_key_file(path).close()


def _open_key_file(key_file: str) -> BinaryIO:
    """Raises SourceError for what is no key file: the key is read once for each time that the volume is opened."""
    shown = f"the key file {printable(key_file)}"
    try:
        # Without waiting for somebody who writes to a pipe.
        key = os.open(encode(key_file), os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise SourceError(f"cannot read {shown}: {error.strerror}") from error
    status = os.fstat(key)
    if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= _MOST_KEY:
        return open(key, "rb", buffering=0)
    os.close(key)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{shown} is no regular file", "write the key to a file that only you can read")
    if status.st_size:
        raise SourceError(
            f"{shown} has more than {_MOST_KEY >> 20} MiB, which no key has", "give --key-file another one"
        )
    raise SourceError(f"{shown} is empty", "give --key-file another one")
