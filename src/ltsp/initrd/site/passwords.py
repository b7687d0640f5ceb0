"""PASSWORDS_x: passwords of a client's accounts, as hashes for its /etc/shadow.

A word is `USER/SECRET`. USER is a name, or a regular expression for whole names. SECRET is a hash of crypt(5), or the
password in base64, often with the newline that was passed to base64(1); an empty SECRET is an empty password.

The hash is `$6$SALT$HASH` of "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper, version 0.6, whose steps are
numbered as there. Python 3.13 removed its own module.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ltsp.settings.resolve import Setting

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_HASH = re.compile(
    r"\$6\$(?:rounds=[0-9]+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}"
    r"|\$5\$(?:rounds=[0-9]+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{43}"
    r"|\$g?y\$[./0-9A-Za-z]+\$[./0-9A-Za-z]{1,86}\$[./0-9A-Za-z]{43}"
    r"|\$7\$[./0-9A-Za-z]{11,97}\$[./0-9A-Za-z]{43}"
    r"|\$2[aby]\$[0-9]{2}\$[./0-9A-Za-z]{53}"
    r"|\$1\$[./0-9A-Za-z]{1,8}\$[./0-9A-Za-z]{22}"
)
"""The methods of libxcrypt that are suitable for passwords. crypt(5)"""
_CHARACTER_CLASS = re.compile(r"\[:(\w+):\]")
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_EXPRESSION = re.compile(r"[A-Za-z0-9_.$^*+?|()\[\]\\:-]+")
_MAX_LENGTH = 256
"""Maximum characters of an expression, and bytes of a password."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts that may get passwords, and a key for the salts."""

    users: frozenset[str] = frozenset()
    """Accounts that expressions match: people of the server and of the images, no service accounts."""
    named_only: frozenset[str] = frozenset({"root"})
    """Accounts that must be named explicitly."""
    key: bytes = b""
    """A secret of this server. Salts are derived from it, so that the same settings always give the same bytes."""


def hash_passwords(setting: Setting, accounts: Accounts, warnings: list[str]) -> Mapping[str, str]:
    """The hash of each account that a setting names; later words override earlier ones.

    Raises ValueError if a word is invalid; the message never repeats the word.
    """
    found: dict[str, str] = {}
    for number, word in enumerate(setting.value.split(), 1):
        name, slash, secret = word.partition("/")
        if not slash or not name:
            raise ValueError(f"word {number} is not USER/PASSWORD (password in base64 or hashed)")
        names = _match_accounts(name, accounts)
        if not names or (names == [name] and name not in accounts.users | accounts.named_only):
            warnings.append(f"{setting.where}: {setting.key}: neither the server nor an image has an account {name!a}")
        for each in names:
            found[each] = _hash_secret(each, secret, accounts.key, number)
    return found


def _match_accounts(expression: str, accounts: Accounts) -> list[str]:
    is_plain = _NAME.fullmatch(expression) and "." not in expression
    if is_plain or expression in accounts.users | accounts.named_only:
        return [expression]
    if len(expression) > _MAX_LENGTH or not _EXPRESSION.fullmatch(_CHARACTER_CLASS.sub("", expression)):
        raise ValueError(f"{expression[:_MAX_LENGTH]!a} is not a regular expression for user names")
    try:
        pattern = re.compile(_CHARACTER_CLASS.sub(lambda match: _CLASSES.get(match[1], ""), expression))
    except re.error as error:
        raise ValueError(f"{expression!a} is not a regular expression for user names: {error}") from None
    return sorted(name for name in accounts.users if pattern.fullmatch(name))


def _hash_secret(name: str, secret: str, key: bytes, number: int) -> str:
    if not secret:
        return ""
    if secret.startswith("$"):
        if not _HASH.fullmatch(secret):
            raise ValueError(
                f"word {number} has an invalid hash; create one with `openssl passwd -6`, in single quotes"
            )
        return secret
    return sha512_crypt(_decode_password(secret, number), derive_salt(key + b"\0" + name.encode("ascii")))


def _decode_password(secret: str, number: int) -> bytes:
    """The password, without a newline at its end."""
    try:
        password = base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"word {number} has neither a hash nor base64 after the slash") from None
    password = password.removesuffix(b"\n").removesuffix(b"\r")
    if len(password) > _MAX_LENGTH or any(byte < 32 or byte == 127 for byte in password):
        raise ValueError(f"word {number} has a password with control characters, or with more than {_MAX_LENGTH} bytes")
    return password


ROUNDS = 5000
"""The default, which is not part of the hash."""
SALT_LENGTH = 16
"""Maximum number of significant characters of a salt."""
ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def sha512_crypt(password: bytes, derive_salt: str) -> str:
    """The hash of a password; `derive_salt` is up to 16 characters of the alphabet."""
    raw_salt = derive_salt.encode("ascii")
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
    return f"$6${derive_salt}${_encode_hash(state)}"


def derive_salt(key: bytes) -> str:
    """A salt derived from a key, which reveals nothing about it."""
    digest = hashlib.sha256(key).digest()
    return "".join(ALPHABET[byte & 63] for byte in digest[:SALT_LENGTH])


def _repeat_to_length(digest: bytes, length: int) -> bytes:
    return (digest * (length // len(digest) + 1))[:length]


def _encode_hash(digest: bytes) -> str:
    """Step 22: three bytes at a time, in a special order, lowest six bits first."""
    groups = [(number, 21 + number, 42 + number) for number in range(21)]
    # Each group is rotated by one against the one before: (0,21,42), (22,43,1), (44,2,23), …
    text = ""
    for number, group in enumerate(groups):
        turned = group[number % 3 :] + group[: number % 3]
        value = digest[turned[0]] << 16 | digest[turned[1]] << 8 | digest[turned[2]]
        text += "".join(ALPHABET[value >> shift & 63] for shift in (0, 6, 12, 18))
    return text + ALPHABET[digest[63] & 63] + ALPHABET[digest[63] >> 6]
