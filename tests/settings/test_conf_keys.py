"""The keys of ltsp.conf and who reads them."""

from __future__ import annotations

import pytest

from ltsp.settings.conf_keys import CONF_KEYS, Reader, Side, find_side, reader_of


@pytest.mark.parametrize(
    ("key", "side"),
    [
        ("BACKUP", Side.SERVER),
        ("COMPRESSION", Side.SERVER),
        ("IPXE_X86_32_IMG", Side.SERVER),
        ("PRE_IMAGE_X", Side.SERVER),
        ("POST_INIT_X", Side.CLIENTS),
        ("POST_INITRD_BOTTOM_X", Side.BOTH),
        ("PRE_SERVICE_X", Side.BOTH),
        ("FSTAB_NFS", Side.CLIENTS),
        ("BASE_DIR", Side.BOTH),
        ("INCLUDE", Side.BOTH),
        ("NAME", Side.NOBODY),
        ("JSON", Side.NOBODY),
        ("FSTAB", Side.NOBODY),
    ],
)
def test_keys_have_readers(key, side):
    assert find_side(key) == side


def test_a_key_is_declared_once():
    names = [name for keys in CONF_KEYS for name in keys.names]
    assert len(names) == len(set(names))


def test_keys_with_a_reader_are_described():
    for keys in CONF_KEYS:
        assert bool(keys.meaning) is bool(keys.value) is (keys.reader is not Reader.NOBODY)


@pytest.mark.parametrize(
    ("key", "reader"),
    [
        ("FSTAB_NFS", Reader.INITRD),
        ("DEFAULT_IMAGE", Reader.IPXE),
        ("PRE_IMAGE_X", Reader.IMAGE),
        ("X_MODES", Reader.NOBODY),
        ("UNKNOWN", Reader.NOBODY),
    ],
)
def test_the_reader_of_a_key(key, reader):
    assert reader_of(key) is reader
