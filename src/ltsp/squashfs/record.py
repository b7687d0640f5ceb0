"""Fixed-size binary records: a frozen dataclass whose annotations are its layout.

    @dataclass(frozen=True, slots=True)
    class Point(Record):
        x: U16
        y: U16

`Point(1, 2).pack()` is four bytes, little-endian and without padding, and `Point.unpack` reads them back. A record
may extend another one, whose fields then come first. What a number means is checked elsewhere.
"""

from __future__ import annotations

import struct
from typing import Annotated, ClassVar, Self, get_type_hints

from ltsp.errors import FormatError

U16 = Annotated[int, "H"]
I16 = Annotated[int, "h"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]


class Record:
    """Base of the records; each annotation `Annotated[type, code]` of a subclass is a field with that struct code."""

    __slots__ = ()

    layout: ClassVar[struct.Struct]
    """Its `size` is that of the record in bytes; hot loops take the bare numbers from it."""
    fields: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        hints = get_type_hints(cls, include_extras=True)
        codes = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
        cls.layout = struct.Struct("<" + "".join(codes.values()))
        cls.fields = tuple(codes)

    def pack(self) -> bytes:
        """Raises struct.error when a value does not fit its field, which is a fault of whoever made the record."""
        return self.layout.pack(*[getattr(self, name) for name in self.fields])

    @classmethod
    def unpack(cls, data: bytes | memoryview, at: int = 0) -> Self:
        """The record that begins at an offset of `data`, which may hold more.

        Raises FormatError when the data ends within it.
        """
        try:
            return cls(*cls.layout.unpack_from(data, at))
        except struct.error:
            there = max(len(data) - at, 0)
            raise FormatError(f"{cls.__name__} record is cut off: {there} of {cls.layout.size} bytes") from None
