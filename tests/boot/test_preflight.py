from __future__ import annotations

from dataclasses import replace

import pytest

from corpus.dict_tree import make_tree
from ltsp.boot.distribution import Distribution, detect_distribution, kernel_install_command, suggest_kernel_package
from ltsp.boot.kernel_codecs import choose_initrd_codec, find_squashfs_codecs, read_kernel_options
from ltsp.boot.preflight import PreflightFacts, Severity, check_no_errors, find_problems
from ltsp.errors import LtspError
from ltsp.initrd.drivers import find_network_drivers
from ltsp.initrd.kernel_modules import KernelModules
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

NEEDED = frozenset({"overlay", "squashfs", "loop", "af_packet", "nfs", "nfsv3", "nfsv4", "nbd"})
GOOD = PreflightFacts(
    version="6.1.0-18-amd64",
    modules=NEEDED | {"e1000e"},
    network_drivers=frozenset({"e1000e", "virtio_net"}),
    kernel_options=frozenset({"CONFIG_BLK_DEV_INITRD", "CONFIG_DEVTMPFS", "CONFIG_TMPFS"}),
    image_codec="zstd",
    kernel_codecs=frozenset({"zstd", "gzip"}),
    has_nbd_client=True,
    distribution=Distribution.DEBIAN,
)


def test_a_complete_image_has_no_problems():
    assert find_problems(GOOD) == ()
    assert find_problems(replace(GOOD, kernel_options=None, kernel_codecs=None)) == ()


ERRORS = {
    "no overlay": (
        replace(GOOD, modules=GOOD.modules - {"overlay"}),
        "lacks the module overlay, which makes the root writable",
    ),
    "no squashfs": (
        replace(GOOD, modules=GOOD.modules - {"squashfs"}, kernel_codecs=frozenset()),
        "lacks the module squashfs, which reads the image",
    ),
    "no packets for DHCP": (replace(GOOD, modules=GOOD.modules - {"af_packet"}), "is needed for DHCP"),
    "no network driver": (replace(GOOD, network_drivers=frozenset()), "has no driver for wired network cards"),
    "a codec that it cannot read": (replace(GOOD, image_codec="xz"), "cannot read squashfs images compressed with xz"),
    "no initrd": (
        replace(GOOD, kernel_options=frozenset({"CONFIG_DEVTMPFS", "CONFIG_TMPFS"})),
        r"was built without support for initrds \(CONFIG_BLK_DEV_INITRD\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_each_requirement_of_all_clients_is_one_error(case):
    facts, message = ERRORS[case]
    (lack,) = find_problems(facts)
    assert lack.severity is Severity.ERROR
    with pytest.raises(LtspError, match=f"no client could boot lab: kernel 6.1.0-18-amd64 .*{message}") as caught:
        check_no_errors((lack,), "lab")
    assert lack.hint in caught.value.hint
    assert "--no-preflight" in caught.value.hint


WARNINGS = {
    "no NFS": (replace(GOOD, modules=GOOD.modules - {"nfs", "nfsv3", "nfsv4"}), "lacks nfs, nfsv3, nfsv4"),
    "NFS without a version": (replace(GOOD, modules=GOOD.modules - {"nfsv3", "nfsv4"}), "lacks nfsv3, nfsv4"),
    "no NBD": (replace(GOOD, modules=GOOD.modules - {"nbd"}), "lacks nbd"),
    "no nbd-client": (replace(GOOD, has_nbd_client=False), "nbd-client not found"),
    "a kernel for virtual machines": (
        replace(GOOD, network_drivers=frozenset({"virtio_net", "ena"})),
        "has no drivers for common network cards, only ena, virtio_net",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_each_requirement_of_some_clients_is_one_warning(case):
    facts, message = WARNINGS[case]
    (lack,) = find_problems(facts)
    assert lack.severity is Severity.WARNING
    assert message in lack.message
    check_no_errors((lack,), "lab")


def test_errors_are_gathered_and_come_first():
    lacks = find_problems(replace(GOOD, modules=frozenset(), network_drivers=frozenset()))
    severities = [lack.severity for lack in lacks]
    assert severities == [Severity.ERROR] * 5 + [Severity.WARNING] * 2
    with pytest.raises(LtspError, match=r"overlay.*squashfs.*loop.*wired"):
        check_no_errors(lacks, "lab")


@pytest.mark.parametrize(
    ("distribution", "version", "package"),
    [
        (Distribution.DEBIAN, "6.1.0-18-cloud-amd64", "linux-image-amd64 in place of linux-image-cloud-amd64"),
        (Distribution.DEBIAN, "6.1.0-18-amd64", "linux-image-6.1.0-18-amd64"),
        (Distribution.UBUNTU, "6.8.0-31-generic", "linux-modules-extra-6.8.0-31-generic"),
        (Distribution.UBUNTU, "5.15.0-1050-kvm", "linux-image-generic in place"),
        (Distribution.FEDORA, "6.5.6-300.fc39.x86_64", "kernel-modules-6.5.6-300.fc39.x86_64"),
        (Distribution.SUSE, "6.4.0-150600.21-default", "kernel-default in place of kernel-default-base"),
        (Distribution.ARCH, "6.7.1-arch1-1", "6.7.1-arch1-1"),
        (Distribution.ALPINE, "6.6.8-0-virt", "linux-lts in place of linux-virt"),
        (Distribution.OTHER, "6.1", "all modules of kernel 6.1"),
    ],
)
def test_the_package_is_the_distributions_own(distribution, version, package):
    assert package in suggest_kernel_package(distribution, version)
    facts = replace(GOOD, distribution=distribution, version=version, network_drivers=frozenset())
    assert package in find_problems(facts)[0].hint


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ('PRETTY_NAME="Debian"\nID=debian\n', Distribution.DEBIAN),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", Distribution.UBUNTU),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', Distribution.FEDORA),
        ('ID="opensuse-leap"\n', Distribution.SUSE),
        ("# ID=arch\nID=gentoo\n", Distribution.OTHER),
        ("ID='arch\n", Distribution.OTHER),
    ],
)
def test_the_distribution_is_what_os_release_says(text, distribution):
    tree = make_tree({"etc/os-release": "-> ../usr/lib/os-release", "usr/lib/os-release": text})
    assert detect_distribution(tree) is distribution
    assert detect_distribution(make_tree({})) is Distribution.OTHER


@pytest.mark.parametrize(
    ("entries", "command"),
    [
        ({"etc/os-release": "ID=debian\n"}, "apt-get update && apt-get install -y linux-image-generic systemd-sysv"),
        (
            {"etc/os-release": "ID=debian\n", "bin/sh": "\x7fELF" + "\0" * 14 + "\x3e\0", "sbin/init": "init"},
            "apt-get update && apt-get install -y linux-image-amd64",
        ),
        ({"etc/os-release": "ID=ubuntu\n"}, "apt-get update && apt-get install -y linux-image-generic systemd-sysv"),
        ({"etc/os-release": "ID=fedora\n", "sbin/init": "init"}, "dnf install -y kernel"),
        ({"etc/os-release": "ID=alpine\n"}, "apk add linux-lts openrc"),
        ({"etc/os-release": "ID=gentoo\n"}, ""),
        ({}, ""),
    ],
)
def test_the_command_that_installs_a_kernel_into_a_container(entries, command):
    assert kernel_install_command(make_tree(entries)) == command


@pytest.mark.parametrize(
    ("configuration", "codec"),
    [
        ("CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n", "zstd"),
        ("CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n", "gzip"),
        ("CONFIG_RD_XZ=y\n", "none"),
        (None, "gzip"),
    ],
)
def test_an_initrd_is_compressed_with_a_codec_that_the_kernel_supports(configuration, codec):
    assert (
        choose_initrd_codec(make_tree({} if configuration is None else {"boot/config-6.1": configuration}), "6.1")
        == codec
    )


@pytest.mark.oracle
def test_a_debian_root_lacks_only_nbd_client(debian_root):
    (version,) = (path.name for path in (debian_root / "usr/lib/modules").iterdir())
    with DirectorySource("d", str(debian_root), "").open(select_all, Faults()) as tree:
        modules = KernelModules.read(tree, version)
        facts = PreflightFacts(
            version=version,
            modules=modules.names,
            network_drivers=find_network_drivers(modules),
            kernel_options=read_kernel_options(tree, version),
            image_codec="zstd",
            kernel_codecs=find_squashfs_codecs(tree, version),
            has_nbd_client=False,
            distribution=detect_distribution(tree),
        )
        assert choose_initrd_codec(tree, version) == "zstd"
    (lack,) = find_problems(facts)
    assert lack.hint.startswith("install the package nbd-client")


def test_chosen_drivers_are_an_error_if_the_kernel_has_none_of_them():
    (lack,) = find_problems(replace(GOOD, chosen_drivers=("r8196", "e1000-e")))
    assert (lack.severity, lack.message) == (
        Severity.ERROR,
        "kernel 6.1.0-18-amd64 has none of the chosen network drivers: r8196 e1000-e",
    )
    assert "--client-drivers" in lack.hint
    assert find_problems(replace(GOOD, chosen_drivers=("e1000e",))) == ()


def test_a_chosen_driver_that_the_kernel_does_not_have_is_named():
    """The others are used, and a room of PCs with that card would not boot."""
    (lack,) = find_problems(replace(GOOD, chosen_drivers=("e100e", "e1000e")))
    assert (lack.severity, lack.message) == (Severity.WARNING, "kernel 6.1.0-18-amd64 has no module e100e")
    assert lack.hint == "did you mean e1000e?"


WITHHELD = {"e1000e": "etc/modprobe.d/a.conf", "r8169": "etc/modprobe.d/b.conf"}


def test_drivers_blocked_by_the_image_do_not_count():
    (lack,) = find_problems(replace(GOOD, network_drivers=frozenset(), blocked_drivers=WITHHELD))
    assert lack.message.endswith("has no driver for wired network cards")
    assert lack.hint == (
        "in the source, remove the lines about e1000e, r8169 from /etc/modprobe.d/a.conf, /etc/modprobe.d/b.conf"
    )


def test_a_chosen_driver_blocked_by_the_image_does_not_count():
    network = frozenset({"r8169"})
    (lack,) = find_problems(
        replace(GOOD, network_drivers=network, blocked_drivers=WITHHELD, chosen_drivers=("e1000e",))
    )
    assert lack.message.endswith("has none of the chosen network drivers: e1000e")
    assert lack.hint == "in the source, remove the lines about e1000e from /etc/modprobe.d/a.conf"
