"""Fixed-size binary records: a frozen dataclass whose annotations are its layout.

    @dataclass(frozen=True, slots=True)
    class Point(Record):
        x: U16
        y: U16

`Point(1, 2).pack()` is four bytes, little-endian and without padding, and `Point.unpack` reads them back. A record
may extend another one, whose fields then come first. Values are checked elsewhere.
"""

from __future__ import annotations

import struct
from typing import ClassVar, Final, Self

from ltsp.errors import FormatError

U16 = int
I16 = int
U32 = int
U64 = int

_CODES: Final = {"U16": "H", "I16": "h", "U32": "I", "U64": "Q"}
"""`struct` formats by annotation text: evaluating the annotations would take much of the start-up time."""


class BinaryRecord:
    """Base of the records; each annotation U16, I16, U32 or U64 of a subclass is a field of that kind."""

    __slots__ = ()

    layout: ClassVar[struct.Struct] = struct.Struct("<")
    """Its `size` is that of the record in bytes; hot loops use it directly for the bare numbers."""
    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        base = cls.__base__
        assert base is not None
        assert issubclass(base, BinaryRecord)
        own = cls.__annotations__
        cls.layout = struct.Struct(base.layout.format + "".join(_CODES[own[name]] for name in own))
        cls.fields = (*base.fields, *own)

    def pack(self) -> bytes:
        """Raises struct.error if a value does not fit its field, which is a bug in the caller."""
        return self.layout.pack(*[getattr(self, name) for name in self.fields])

    @classmethod
    def unpack(cls, data: bytes | memoryview, at: int = 0) -> Self:
        """The record that begins at an offset of `data`, which may hold more.

        Raises FormatError if the data ends within it.
        """
        try:
            return cls(*cls.layout.unpack_from(data, at))
        except struct.error:
            there = max(len(data) - at, 0)
            raise FormatError(f"{cls.__name__} record is truncated: {there} of {cls.layout.size} bytes") from None
