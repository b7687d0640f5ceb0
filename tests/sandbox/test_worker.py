"""What the sandboxed process imports: it parses hostile data, so nothing that acts on this machine belongs there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ltsp.sandbox import client

_LOADED = re.compile(r"^(?!\.)\S+$", re.MULTILINE)

COMMON = {
    "errors",
    *(f"sandbox.{name}" for name in ("confine", "messages", "protocol", "session", "tree_codec", "worker")),
    *("host.privilege", "host.system_call"),
    *("storage.blocks", "storage.compressed", "storage.extents"),
    *("tree.content", "tree.name", "tree.node", "tree.selection", "tree.tree"),
}
FOR_ARCHIVES = {"sandbox.archive_session"}
FOR_DISKS = {
    *("sandbox.disk_session", "sandbox.disk_messages"),
    *("storage.checksum", "storage.lzo", "tree.faults"),
    # Types and tables of ltsp.inspection, which also runs outside.
    *("host.block_device", "host.mounts", "host.openat2_fallback", "host.root"),
    *(f"inspection.{name}" for name in ("found_system", "fstab", "kernel_drivers", "live_medium", "mount_plan")),
    *("inspection.root_file_systems", "inspection.search"),
    # The order of kernel versions, for boot loader entries.
    "boot.kernel_header",
}
LIBRARIES_FOR_ARCHIVES = {"backports", "deflate"}
LIBRARIES_FOR_DISKS = {"_cffi_backend", "_openssl", "backports", "cryptography", "deflate", "dissect", "google_crc32c"}
LIBRARIES_FOR_DISKS |= {"xxhash"}


@pytest.mark.parametrize(
    ("session", "folders", "modules", "libraries"),
    [
        (client.ARCHIVES, {"archive"}, FOR_ARCHIVES, LIBRARIES_FOR_ARCHIVES),
        (client.DISKS, {"disk", "filesystem"}, FOR_DISKS, LIBRARIES_FOR_DISKS),
    ],
)
def test_the_process_imports_what_parses_and_nothing_that_acts(session, folders, modules, libraries):
    """A module that is new here is to be judged: it runs where hostile data may take over."""
    of_python = loaded("")
    names = loaded(f"import {client._WORKER}, {session}") - of_python
    ours = {name.removeprefix("ltsp.") for name in names if name.startswith("ltsp.")}
    parts = {name.partition(".")[0] for name in ours}
    packages = {name for name in ours if f"{name}." in {each[: len(name) + 1] for each in ours if each != name}}
    assert {name for name in ours - packages if name.partition(".")[0] not in folders} == COMMON | modules
    assert folders <= parts
    assert not parts & {"build", "boottest", "cli", "commands", "initrd", "publish", "report", "services", "source"}
    others = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"ltsp"}
    assert others <= libraries


def loaded(program):
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{program}\nimport sys; print(*sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(_LOADED.findall(done.stdout))
