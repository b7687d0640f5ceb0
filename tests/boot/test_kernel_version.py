import itertools
import subprocess

import pytest

from ltsp.boot.kernel_header import version_key

OLD_TO_NEW = [
    [
        "0-rescue-abc",
        "5.10.0-9-amd64",
        "5.10.0-10-amd64",
        "6.1.0-rc7-amd64",
        "6.1.0-9-amd64",
        "6.9",
        "6.10-rc1",
        "6.10",
    ],
    ["6.5.0-0.rc1.20.fc39.x86_64", "6.5.0-57.fc39.x86_64", "6.5.6-200.fc38.x86_64", "6.5.6-300.fc39.x86_64"],
    ["6.1.old", "6.1", "6.1.1"],
    ["6.5.6+debug", "6.5.6"],
    ["6.1.0-17-amd64", "6.1.0-18-cloud-amd64", "6.1.0-18-rt-amd64", "6.1.0-18-amd64"],
    ["6.8.0-31-aws", "6.8.0-31-kvm", "6.8.0-31-generic"],
    ["6.6.31-0-virt", "6.6.31-0-lts"],
    ["6.6.31+rpt-rpi-2712", "6.6.31+rpt-rpi-v7", "6.6.31+rpt-rpi-v8"],
    ["5.14.0-427.el9.aarch64+64k", "5.14.0-427.el9.aarch64"],
    ["5.15.0-91-generic", "6.2.0-39-generic", "6.5.0-14-generic"],
]


@pytest.mark.parametrize("versions", OLD_TO_NEW, ids=str)
def test_versions_sort_from_old_to_new(chance, versions):
    assert sorted(chance.sample(versions, len(versions)), key=version_key) == versions


@pytest.mark.oracle
def test_dpkg_puts_versions_in_the_same_order():
    versions = ["5.10.0-9", "5.10.0-10", "6.1~rc7-1", "6.1-1", "6.1+deb12", "6.1.0", "6.10-1", "6.9-1", "6.1a-1"]
    for one, other in itertools.combinations(versions, 2):
        older = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0
        assert (version_key(one) < version_key(other)) == older, (one, other)
