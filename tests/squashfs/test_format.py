"""Records follow their annotations, and device numbers are those of Linux."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltsp.errors import FormatError
from ltsp.squashfs.format import (
    I16,
    U16,
    U32,
    BinaryRecord,
    DirectoryEntry,
    ExtendedFileInode,
    FileInode,
    InodeType,
    XattrValue,
    decode_device,
    encode_device,
    pack_reference,
    unpack_reference,
)
from ltsp.squashfs.superblock import SquashfsSuperblock


@dataclass(frozen=True, slots=True)
class Base(BinaryRecord):
    a: U16


@dataclass(frozen=True, slots=True)
class Derived(Base):
    b: U32
    c: I16 = -1


def test_fields_are_in_the_order_of_the_annotations_little_endian_and_without_padding():
    assert Derived(0x0102, 3).pack() == b"\x02\x01\x03\0\0\0\xff\xff"
    assert Derived.unpack(b"..\x02\x01\x03\0\0\0\xff\xff..", 2) == Derived(0x0102, 3)


@pytest.mark.parametrize("data", [b"", bytes(7)])
def test_a_truncated_record_is_damage(data):
    with pytest.raises(FormatError, match=f"Derived record is truncated: {len(data)} of 8 bytes"):
        Derived.unpack(data)


def test_a_number_that_does_not_fit_is_an_internal_error():
    with pytest.raises(struct.error):
        Base(1 << 16).pack()


def test_records_have_the_sizes_of_the_format():
    sizes = {SquashfsSuperblock: 96, FileInode: 32, ExtendedFileInode: 56, DirectoryEntry: 8, XattrValue: 4}
    assert {record: record.layout.size for record in sizes} == sizes


def test_extended_kinds_have_a_basic_one():
    assert [kind.basic for kind in InodeType] == [*InodeType][:7] * 2


@given(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF))
def test_device_numbers_come_back(major, minor):
    assert decode_device(encode_device(major, minor)) == (major, minor)


def test_device_numbers_are_those_that_linux_has_in_32_bits():
    for major, minor in ((8, 1), (1, 3), (259, 0x12345), (0xFFF, 0xFFFFF)):
        assert encode_device(major, minor) == os.makedev(major, minor) & 0xFFFFFFFF


def test_references_come_back():
    assert unpack_reference(pack_reference(0xABCDEF, 8191)) == (0xABCDEF, 8191)
