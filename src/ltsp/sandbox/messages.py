"""What is said to the sandboxed process and by it, as values, and the one codec for them.

A message is a frozen dataclass, and its declaration is its codec: it is sent as a JSON list of the name of its class
and its fields, all of which must be there, with their types. So whatever the process sends, which is not trusted, is
one of the expected messages with fields of the declared types, or an error. Integers are 0 to 2^63 - 1. What the fields
claim is checked where they are used.
"""

from __future__ import annotations

import json
import types
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from ltsp.errors import ReaderFailed

Message = Any
"""An instance of a frozen dataclass whose fields are text, truth values, integers, bytes, enumerations, other messages,
tuples of those, or None."""
_M = TypeVar("_M")
_SENT_AS: Final = {tuple: list, bool: bool, int: int}
"""Types in JSON; others are sent as text."""
_MAX_INTEGER: Final = (1 << 63) - 1
SCRATCH: Final = ""
"""The name of a `FileRequest` for an unnamed file to unpack into."""


def encode(message: Message) -> bytes:
    return json.dumps(_to_json(message)).encode("ascii")


def decode(payload: bytes, *expected: type[_M]) -> _M:
    """The message, of one of the expected classes.

    Raises ReaderFailed if it is anything else.
    """
    try:
        return _parse_record(json.loads(payload), expected)  # type: ignore[no-any-return]
    except (ValueError, TypeError, RecursionError) as error:
        raise protocol_error() from error


def protocol_error() -> ReaderFailed:
    return ReaderFailed("the sandbox worker returned an invalid reply", "please report this")


def _to_json(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case Enum():
            return value.value
        case tuple():
            return [_to_json(each) for each in value]
        case None | bool() | int() | str():
            return value
    kind: Any = type(value)
    return [kind.__name__, *(_to_json(getattr(value, name)) for name, _ in _list_fields(kind))]


@cache
def _list_fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    """The names and types of a message's fields."""
    hints = get_type_hints(kind)
    return tuple((each.name, hints[each.name]) for each in fields(kind))


def _parse_record(value: object, expected: tuple[Any, ...]) -> Any:
    """Raises ValueError or TypeError."""
    if type(value) is not list or not value:
        raise TypeError(value)
    kind = next((each for each in expected if each.__name__ == value[0]), None)
    if kind is None:
        raise ValueError(value[0])
    declared = _list_fields(kind)
    return kind(*(_parse(each, hint) for each, (_, hint) in zip(value[1:], declared, strict=True)))


def _parse(value: object, kind: Any) -> Any:
    """Raises ValueError or TypeError if the value is not of the type."""
    if get_origin(kind) is types.UnionType:
        return None if value is None else _parse(value, next(each for each in get_args(kind) if each is not type(None)))
    if is_dataclass(kind):
        return _parse_record(value, (kind,))
    sent = _SENT_AS.get(get_origin(kind) or kind, str)
    if type(value) is not sent:
        raise TypeError(value)
    match value:
        case list():
            return tuple(_parse(each, get_args(kind)[0]) for each in value)
        case int() if not 0 <= value <= _MAX_INTEGER:
            raise ValueError(value)
        case str() if kind is bytes:
            return bytes.fromhex(value)
    return kind(value)


@dataclass(frozen=True, slots=True)
class Done:
    """A request was carried out, and there is nothing else to say."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error."""

    kind: str
    """Its class in `ltsp.errors`."""
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class FileRequest:
    """A further file: of a disk or layout, or SCRATCH."""

    name: str


@dataclass(frozen=True, slots=True)
class EnterRequest:
    """Which of these directories to read."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnterReply:
    is_entered: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class VolumeKey:
    key: bytes


@dataclass(frozen=True, slots=True)
class ContentRequest:
    number: int


@dataclass(frozen=True, slots=True)
class Hole:
    """Zeros in a content."""

    size: int

    def __post_init__(self) -> None:
        if not self.size:
            raise ValueError(self.size)


@dataclass(frozen=True, slots=True)
class OpenArchive:
    """Begins a session for an archive in a file, or for a layout if there is no file."""

    scratch: str
    """The directory to unpack in."""
    form: str
    """An `ArchiveFormat`."""
    tag: str = ""
    is_layout: bool = False


@dataclass(frozen=True, slots=True)
class CheckArchive:
    """Whether the file is an archive at all."""


@dataclass(frozen=True, slots=True)
class ArchiveCheck:
    is_archive: bool


@dataclass(frozen=True, slots=True)
class ReadArchive:
    """The whole tree."""
