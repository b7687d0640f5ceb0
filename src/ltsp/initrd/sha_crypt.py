"""SHA-512 hashes of passwords, as crypt(5) has them: `$6$SALT$HASH`.

The algorithm is that of "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper, version 0.6; steps are numbered as
there. Python 3.13 removed its own module.
"""

from __future__ import annotations

import hashlib

ROUNDS = 5000
"""The default, which is not part of the hash."""
SALT_LENGTH = 16
"""Maximum number of significant characters of a salt."""
ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def sha512_crypt(password: bytes, salt: str) -> str:
    """The hash of a password; `salt` is up to 16 characters of the alphabet."""
    raw_salt = salt.encode("ascii")
    other = hashlib.sha512(password + raw_salt + password).digest()  # 4-8
    length = len(password)
    digest = hashlib.sha512(password + raw_salt + _repeat_to_length(other, length))  # 1-3, 9-10
    bits = length
    while bits:  # 11
        digest.update(other if bits & 1 else password)
        bits >>= 1
    state = digest.digest()
    p = _repeat_to_length(hashlib.sha512(password * length).digest(), length)  # 13-16
    s = _repeat_to_length(hashlib.sha512(raw_salt * (16 + state[0])).digest(), len(raw_salt))  # 17-20
    for number in range(ROUNDS):  # 21
        pieces = [
            p if number & 1 else state,
            s if number % 3 else b"",
            p if number % 7 else b"",
            state if number & 1 else p,
        ]
        state = hashlib.sha512(b"".join(pieces)).digest()
    return f"$6${salt}${_encode(state)}"


def salt(key: bytes) -> str:
    """A salt derived from a key, which reveals nothing about it."""
    digest = hashlib.sha256(key).digest()
    return "".join(ALPHABET[byte & 63] for byte in digest[:SALT_LENGTH])


def _repeat_to_length(digest: bytes, length: int) -> bytes:
    return (digest * (length // len(digest) + 1))[:length]


def _encode(digest: bytes) -> str:
    """Step 22: three bytes at a time, in a special order, lowest six bits first."""
    groups = [(number, 21 + number, 42 + number) for number in range(21)]
    # Each group is rotated by one against the one before: (0,21,42), (22,43,1), (44,2,23), …
    text = ""
    for number, group in enumerate(groups):
        turned = group[number % 3 :] + group[: number % 3]
        value = digest[turned[0]] << 16 | digest[turned[1]] << 8 | digest[turned[2]]
        text += "".join(ALPHABET[value >> shift & 63] for shift in (0, 6, 12, 18))
    return text + ALPHABET[digest[63] & 63] + ALPHABET[digest[63] >> 6]
