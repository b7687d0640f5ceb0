from __future__ import annotations

import pytest

from corpus.dict_tree import make_tree
from ltsp.errors import LtspError
from ltsp.initrd.drivers import find_network_drivers, group_modules
from ltsp.initrd.kernel_modules import KernelModules, module_name

NFS, LOCKD, SUNRPC, GRACE = "kernel/fs/nfs.ko", "kernel/fs/lockd.ko", "kernel/net/sunrpc.ko", "kernel/fs/grace.ko"
DEP = f"""{NFS}: {LOCKD} {GRACE} {SUNRPC}
{LOCKD}: {GRACE} {SUNRPC}
{GRACE}:
{SUNRPC}:
kernel/fs/ext4.ko: kernel/lib/crc16.ko
kernel/lib/crc16.ko:
kernel/arch/crc32c-intel.ko:
kernel/crypto/crc32c_generic.ko:
"""
ALIAS = """# a comment
alias crypto-crc32c crc32c_generic
alias crypto-crc32c crc32c_intel
alias pci:v*d* ext4
"""
SOFTDEP = """# Soft dependencies
softdep ext4 pre: crypto-crc32c post: grace
softdep cifs gcm
softdep lockd pre: absent
"""


def read(**tables: str) -> KernelModules:
    files = {"dep": DEP, "alias": ALIAS, "softdep": SOFTDEP} | tables
    entries = {f"usr/lib/modules/6.1/modules.{name}": text for name, text in files.items()}
    return KernelModules.read(make_tree({**entries, "lib": "-> usr/lib"}), "6.1")


def test_what_a_module_needs_comes_before_it():
    assert read().load_order([NFS]) == [SUNRPC, GRACE, LOCKD, NFS]


def test_a_module_comes_once_for_all_that_need_it():
    assert read().load_order([NFS, LOCKD, SUNRPC]) == [SUNRPC, GRACE, LOCKD, NFS]


def test_soft_dependencies_come_before_and_after_by_name_or_alias():
    closure = read().load_order(["kernel/fs/ext4.ko"])
    assert closure[-2:] == ["kernel/fs/ext4.ko", GRACE]
    assert set(closure[:-2]) == {
        "kernel/lib/crc16.ko", "kernel/arch/crc32c-intel.ko", "kernel/crypto/crc32c_generic.ko"
    }  # fmt: skip


def test_circular_soft_dependencies_terminate():
    modules = read(softdep="softdep nfs pre: lockd\nsoftdep lockd pre: nfs\n")
    assert set(modules.load_order([NFS])) == {NFS, LOCKD, GRACE, SUNRPC}


def test_modules_come_in_the_kernels_own_order():
    modules = read(order="kernel/net/sunrpc.ko\nkernel/lib/crc16.ko\n")
    assert modules.load_order([GRACE, "kernel/lib/crc16.ko", SUNRPC]) == [SUNRPC, "kernel/lib/crc16.ko", GRACE]


def test_names_are_those_of_modules_and_of_what_is_built_in():
    modules = read(builtin="kernel/fs/squashfs/squashfs.ko\nkernel/drivers/usb/host/xhci-pci.ko\n")
    assert {"squashfs", "xhci_pci", "nfs", "crc32c_intel"} <= modules.names
    assert module_name("kernel/net/8021q/8021q.ko.xz") == "8021q"


def test_unsafe_paths_are_left_out_and_named():
    modules = read(
        dep="../../etc/passwd.ko:\n//abs.ko:\na b.ko:\n$(id).ko:\nkernel/x.ko: ../y.ko kernel/z.ko\nno line\n"
    )
    assert modules.dependencies == {"kernel/x.ko": ("kernel/z.ko",)}
    assert modules.unreadable == ("../../etc/passwd.ko", "//abs.ko", "a b.ko", "$(id).ko", "../y.ko", "no line")


def test_absolute_paths_of_old_tools_are_made_relative():
    modules = read(dep="/lib/modules/6.1/kernel/x.ko: /lib/modules/6.1/kernel/z.ko\n/opt/y.ko:\n")
    assert modules.dependencies == {"kernel/x.ko": ("kernel/z.ko",), "/opt/y.ko": ()}


def test_the_error_for_missing_tables_says_how_to_get_them():
    with pytest.raises(LtspError, match=r"/lib/modules/6.1/modules.dep is not in the image: .*depmod -a 6.1"):
        KernelModules.read(make_tree({"lib/modules/6.1": None}), "6.1")


@pytest.mark.parametrize("version", ["", "../6.1", "6.1 $(id)", "6.1\n", "-rf"])
def test_an_invalid_version_is_refused(version):
    with pytest.raises(LtspError, match="invalid kernel version "):
        KernelModules.read(make_tree({}), version)


ETHERNET = "kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.xz"
TABLE = {
    "kernel/fs/overlayfs/overlay.ko.xz": (),
    "kernel/drivers/virtio/virtio.ko.xz": (),
    "kernel/drivers/virtio/virtio_pci.ko.xz": ("kernel/drivers/virtio/virtio.ko.xz",),
    "kernel/drivers/net/virtio_net.ko.xz": ("kernel/drivers/virtio/virtio.ko.xz",),
    ETHERNET: ("kernel/drivers/ptp/ptp.ko.xz",),
    "kernel/drivers/ptp/ptp.ko.xz": (),
    "kernel/drivers/net/wireless/iwlwifi.ko.xz": (),
    "kernel/drivers/net/usb/r8152.ko.xz": (),
    "kernel/drivers/net/usb/qmi_wwan.ko.xz": (),
    "kernel/fs/xfs/xfs.ko.xz": (),
    "kernel/fs/nls/nls_iso8859-1.ko.xz": (),
    "kernel/drivers/usb/host/xhci-pci.ko.xz": (),
}
MODULES = KernelModules("6.1", TABLE, frozenset(), {}, {})


def test_groups_contain_modules_with_their_dependencies():
    groups = group_modules(MODULES)
    assert set(groups) == {"base", "net", "nfs", "nbd", "storage", "keyboard"}
    assert groups["base"][-1] == "kernel/fs/overlayfs/overlay.ko.xz"
    assert "kernel/drivers/ptp/ptp.ko.xz" in groups["net"]
    assert groups["storage"] == ("kernel/fs/nls/nls_iso8859-1.ko.xz",)


def test_wired_cards_are_in_and_wireless_and_modems_are_not():
    names = set(map(module_name, group_modules(MODULES)["net"]))
    assert {"e1000e", "virtio_net", "r8152"} <= names
    assert not names & {"iwlwifi", "qmi_wwan"}


def test_drivers_of_wired_cards_count_as_modules_and_built_in():
    builtin = frozenset({"kernel/drivers/net/ethernet/broadcom/genet/genet.ko", "kernel/fs/ext4/ext4.ko"})
    modules = KernelModules("6.1", TABLE, builtin, {}, {})
    assert find_network_drivers(modules) == {"genet", "e1000e", "virtio_net", "r8152"}


def test_modules_of_base_are_in_no_other_group_and_shared_ones_are_in_each():
    groups = group_modules(MODULES)
    assert "kernel/drivers/virtio/virtio.ko.xz" not in groups["net"]
    assert "kernel/drivers/usb/host/xhci-pci.ko.xz" in groups["net"]
    assert "kernel/drivers/usb/host/xhci-pci.ko.xz" in groups["keyboard"]


def test_chosen_drivers_replace_the_wired_ones():
    assert group_modules(MODULES, network_drivers=["e1000e"])["net"] == ("kernel/drivers/ptp/ptp.ko.xz", ETHERNET)


def test_chosen_usb_drivers_include_host_controllers():
    assert "kernel/drivers/usb/host/xhci-pci.ko.xz" in group_modules(MODULES, network_drivers=["r8152"])["net"]


def test_the_file_system_of_an_image_is_added():
    assert "kernel/fs/xfs/xfs.ko.xz" in group_modules(MODULES, file_systems=["xfs"])["storage"]
