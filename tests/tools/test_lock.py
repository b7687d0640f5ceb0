"""The lock files have the requirements of pyproject.toml with hashes, and name no index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import ROOT, read_requirements


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package of a lock file."""
    entries = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ").splitlines()
    found = {}
    for entry in entries:
        if entry.startswith("#"):
            continue
        match = re.match(r"([A-Za-z0-9._-]+)==(\S+)(?: ; [^-]+)?((?: +--hash=sha256:[0-9a-f]{64})+)$", entry)
        assert match, entry[:80]
        found[canonicalize_name(match[1])] = (match[2], match[3].count("--hash"))
    return found


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_every_requirement_of_pyproject_is_locked_at_a_version_that_it_allows(name):
    versions = locked(name)
    for line in read_requirements()[name]:
        requirement = Requirement(line)
        version, _ = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), line


@pytest.mark.parametrize("package", ["backports-zstd", "deflate", "lz4"])
def test_the_codecs_are_locked_with_the_files_of_every_processor_and_python(package):
    """A release of these has a file for each of them: a lock with a few hashes would serve one machine only."""
    assert locked("dev")[package][1] >= 25


def test_the_development_lock_agrees_with_what_users_get():
    assert locked("runtime").items() <= locked("dev").items()


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_a_lock_file_names_no_index_and_no_path(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"://|--(index-url|extra-index-url|find-links|trusted-host)|file:", text)
    assert str(Path.home()) not in text
