"""/proc/swaps: files are told from partitions, and odd names are read back."""

from __future__ import annotations

from ltsp.host.mounts import list_swap_files, parse_swaps


def test_swap_files_are_named_and_partitions_are_not():
    table = (
        b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        b"/dev/dm-1                               partition\t999420\t\t0\t\t-2\n"
        b"/swap\\040file                          file\t\t2097148\t\t0\t\t-3\n"
        b"/deleted                                file\t\t1\t\t0\t\t-3\n"
    )
    assert parse_swaps(table) == (b"/swap file", b"/deleted")


def test_this_machines_table_is_read():
    assert all(path.startswith(b"/") for path in list_swap_files())
