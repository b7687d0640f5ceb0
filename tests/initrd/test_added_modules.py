"""Modules that did not come with the kernel: DKMS in updates/, vendors in extra/, links to another version's."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from corpus.dict_tree import make_tree
from corpus.elf_files import module, program
from ltsp.errors import FormatError
from ltsp.initrd.client_tree import ClientOptions, build_client_tree
from ltsp.initrd.compressed_file import decompress
from ltsp.initrd.drivers import find_network_drivers, group_modules
from ltsp.initrd.kernel_modules import KernelModules, module_name
from ltsp.initrd.module_file import MAX_MODULE_SIZE, DriverKind, ModuleFile, ModuleKind, is_for_wired_cards
from ltsp.initrd.program_file import BUSYBOX_APPLETS
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

M = "usr/lib/modules/6.1"
PCI, USB = "alias=pci:v000010ECd00008125sv*sd*bc*sc*i*", "alias=usb:v0B95p1790d*dc*dsc*dp*ic*isc*ip*in*"
ETHERNET = ["alloc_etherdev_mqs", "register_netdev"]
ORDER = (
    "kernel/drivers/net/ethernet/intel/igb/igb.ko\nkernel/drivers/net/usb/r8152.ko\n"
    "kernel/drivers/net/wireless/rtl8xxxu.ko\nkernel/drivers/net/phy/realtek.ko\n"
)


def system(files, needs=None, order=ORDER):
    """The modules of an image with these files, by path, of which `needs` says what they need."""
    needs = needs or {}
    tables = {
        f"{M}/modules.dep": "".join(f"{path}: {' '.join(needs.get(path, ()))}\n" for path in files),
        f"{M}/modules.order": order,
    }
    placed = {f"{M}/{path}": data for path, data in files.items() if data is not None}
    return make_tree({"lib": "-> usr/lib", "usr/bin/busybox": program(applets=BUSYBOX_APPLETS), **tables, **placed})


def net(files, needs=None, order=ORDER, network=()):
    modules = KernelModules.read(system(files, needs, order), "6.1")
    return list(map(module_name, group_modules(modules, network)["net"]))


@pytest.mark.parametrize("directory", ["updates/dkms", "extra/r8125", "weak-updates", "kernel/drivers/net/r8125"])
@pytest.mark.parametrize(
    ("records", "wants", "is_in"),
    [
        ([PCI], ETHERNET, True),
        ([USB], ["usbnet_probe", "usbnet_suspend"], True),
        (["alias=platform:dwmac-x", "alias=of:N*T*Cvendor,dwmac"], ["stmmac_dvr_probe"], True),
        (["alias=mdio:0000000000011100110010000100????"], ["phy_drivers_register"], True),
        (["alias=virtio:d00000001v*"], ["register_virtio_driver"], True),
        (["alias=pci:v*d*sv*sd*bc02sc00i*"], ["vendors_own_core_probe"], True),
        ([PCI], None, True),  # stripped: nobody can say
        (["alias=pci:v000010DEd*sv*sd*bc03sc*i*"], None, False),  # but that is a graphics card
        ([PCI], [*ETHERNET, "wiphy_new_nm", "cfg80211_scan_done"], False),
        ([USB], ["usbnet_probe", "usb_cdc_wdm_register"], False),  # a modem
        ([PCI], ["drm_dev_alloc", "__pci_register_driver"], False),
        (["description=a bridge of a virtual machine's"], ETHERNET, False),
        (["alias=rtnl-link-wireguard"], [*ETHERNET, "rtnl_link_register"], False),
    ],
)
def test_a_driver_is_recognized_by_its_kind_not_by_its_path(directory, records, wants, is_in):
    assert net({f"{directory}/x.ko": module(records, wants=wants)}) == (["x"] if is_in else [])


@pytest.mark.parametrize(
    ("path", "is_in"), [("updates/dkms/igb.ko", True), ("extra/realtek.ko.xz", True), ("updates/rtl8xxxu.ko", False)]
)
def test_a_replacement_of_the_kernels_own_module_has_its_kind(path, is_in):
    """modules.dep has no other module of that name, and the file need not say it."""
    data = module(["alias=x"], wants=["vendors_core_probe"])
    assert net({path: lzma.compress(data) if path.endswith("xz") else data}) == ([module_name(path)] if is_in else [])


def test_a_driver_in_several_files_is_judged_as_one():
    core, pci, en = "extra/core.ko", "extra/core-pci.ko", "extra/core-en.ko"
    parts = {core: module(wants=ETHERNET), pci: module([PCI], wants=["core_probe"])}
    assert set(net(parts, {pci: [core]})) == {"core", "core_pci"}
    parts = {core: module([PCI], wants=[]), en: module(wants=ETHERNET)}
    assert set(net(parts, {en: [core]})) == {"core", "core_en"}


def test_a_wireless_driver_in_several_files_is_wireless():
    core, pci = "updates/mac.ko", "updates/wifi-pci.ko"
    parts = {core: module(wants=["ieee80211_alloc_hw_nm"]), pci: module([PCI], wants=ETHERNET)}
    assert net(parts, {pci: [core]}) == []


def test_a_protocol_over_a_cards_driver_is_not_a_card():
    core, rdma = "extra/mlx5_core.ko", "extra/mlx5_ib.ko"
    parts = {core: module([PCI], wants=ETHERNET), rdma: module(["alias=auxiliary:x"], wants=["ib_register_device"])}
    assert net(parts, {rdma: [core]}) == ["mlx5_core"]


def test_weak_updates_link_to_modules_of_another_version():
    other = "usr/lib/modules/6.1-old"
    files = {"weak-updates/r8125.ko": "-> /lib/modules/6.1-old/extra/r8125.ko"}
    tree = system(files).edit({})
    changes = {f"{other}/extra/r8125.ko": module([PCI], wants=ETHERNET)}
    tree = make_tree({**dict(tree.walk()), **changes})
    modules = KernelModules.read(tree, "6.1")
    made = build_client_tree(tree, modules)
    assert made.modules["net"] == ("weak-updates/r8125.ko",)
    assert made.tree.get("ltsp/modules/6.1/weak-updates/r8125.ko") is not None


@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_a_module_elsewhere_in_the_image_is_followed_there(suffix):
    """modules.dep has the whole path of what lies in a directory that depmod.d(5) calls external."""
    path, data = f"/opt/cards/r8125.ko{suffix}", module([PCI], wants=ETHERNET)
    near = "/lib/modules/6.1/extra/helper.ko"
    tree = make_tree(
        {
            **dict(system({}).walk()),
            f"{M}/modules.dep": f"{path}: {near}\n{near}:\n",
            path[1:]: lzma.compress(data) if suffix else data,
            f"{M}/extra/helper.ko": module(wants=[]),
        }
    )
    made = build_client_tree(tree, KernelModules.read(tree, "6.1"))
    assert made.modules["net"] == ("extra/helper.ko", "opt/cards/r8125.ko")
    with made.tree.get("ltsp/modules/6.1/opt/cards/r8125.ko").content.open() as stream:
        assert stream.read(1 << 20) == data
    with made.tree.get("ltsp/modules.load").content.open() as stream:
        assert b"opt/cards/r8125.ko: extra/helper.ko opt/cards/r8125.ko\n" in stream.read(1 << 20)


def test_an_absolute_path_never_reaches_the_server_and_an_unreadable_module_is_named(tmp_path):
    (tmp_path / "r8125.ko").write_bytes(module([PCI], wants=ETHERNET))
    tree = make_tree({**dict(system({}).walk()), f"{M}/modules.dep": f"{tmp_path}/r8125.ko:\n/opt/../x.ko:\n"})
    made = build_client_tree(tree, KernelModules.read(tree, "6.1"))
    assert made.modules["net"] == ()
    assert f"left out modules of the image that cannot be read: {tmp_path}/r8125.ko, /opt/../x.ko" in (made.warnings)


def test_a_link_out_of_the_tree_never_reaches_the_server(tmp_path):
    secret = tmp_path / "r8125.ko"
    secret.write_bytes(module([PCI], wants=ETHERNET))
    modules = KernelModules.read(system({"weak-updates/r8125.ko": f"-> {secret}"}), "6.1")
    assert modules.unreadable == ("weak-updates/r8125.ko",)
    assert group_modules(modules)["net"] == ()


def test_a_file_that_is_not_a_module_is_left_out_and_named():
    tree = system({"updates/broken.ko": b"text", "updates/gone.ko": None})
    made = build_client_tree(tree, KernelModules.read(tree, "6.1"))
    assert "left out modules of the image that cannot be read: updates/broken.ko, updates/gone.ko" in (made.warnings)


def test_a_missing_replacement_of_the_kernels_own_module_is_an_error():
    """A client with that card booted yesterday."""
    tree = system({"updates/dkms/igb.ko": None})
    with pytest.raises(FormatError, match=r"updates/dkms/igb.ko, which is not in the image: .*depmod -a 6.1"):
        build_client_tree(tree, KernelModules.read(tree, "6.1"))


def test_a_module_that_depmod_has_not_seen_is_named():
    tree = make_tree({**dict(system({}).walk()), f"{M}/updates/dkms/r8125.ko": module([PCI], wants=ETHERNET)})
    warnings = build_client_tree(tree, KernelModules.read(tree, "6.1")).warnings
    assert any(
        "clients cannot load updates/dkms/r8125.ko: not listed in modules.dep of kernel 6.1" in text
        for text in warnings
    )
    assert any("depmod -a 6.1" in text for text in warnings)


def test_chosen_drivers_are_found_anywhere_and_usb_drivers_include_host_controllers():
    files = {
        "updates/dkms/r8125.ko": module([PCI], wants=ETHERNET),
        "updates/dkms/ax-usb-nic.ko": module([USB], wants=["usbnet_probe"]),
        "updates/r8152.ko": module(["alias=x"], wants=[]),
        "kernel/drivers/usb/host/xhci-pci.ko": module(),
    }
    assert net(files, network=["r8125"]) == ["r8125"]
    assert set(net(files, network=["ax_usb_nic"])) == {"ax_usb_nic", "xhci_pci"}
    assert set(net(files, network=["r8152"])) == {"r8152", "xhci_pci"}


def test_a_kernel_with_no_driver_but_one_of_dkms_can_boot():
    modules = KernelModules.read(system({"updates/dkms/r8125.ko": module([PCI], wants=ETHERNET)}), "6.1")
    assert find_network_drivers(modules) == {"r8125"}


def test_firmware_of_an_added_driver_is_included():
    tree = system({"updates/r8125.ko": module([PCI, "firmware=rtl_nic/rtl8125b-2.fw"], wants=ETHERNET)})
    tree = make_tree({**dict(tree.walk()), "usr/lib/firmware/rtl_nic/rtl8125b-2.fw": "firmware"})
    made = build_client_tree(tree, KernelModules.read(tree, "6.1"), ClientOptions())
    assert made.tree.get("ltsp/firmware/rtl_nic/rtl8125b-2.fw") is not None


# By real modules, with kmod's own programs to compare with


def _modules_of(debian_root: Path) -> Path:
    return max((debian_root / "usr/lib/modules").iterdir())


def _suffix(root: Path) -> str:
    """What follows `.ko` in the names of its modules: Debian compresses them since 13."""
    return next(root.glob("usr/lib/modules/*/kernel/**/tg3.ko*")).suffix.removeprefix(".ko")


def _dependencies(directory: Path) -> dict[str, list[str]]:
    lines = (directory / "modules.dep").read_text().splitlines()
    return {path: rest.split() for path, _, rest in (line.partition(":") for line in lines)}


@pytest.mark.oracle
def test_the_kinds_of_the_kernels_own_modules_agree_with_their_directories(debian_root):
    """The rule for modules that others add, asked about the 500 network modules of a distribution's kernel."""
    directory = _modules_of(debian_root)
    needs = _dependencies(directory)
    areas = ("kernel/drivers/net/", "kernel/net/", "kernel/drivers/staging/", "kernel/drivers/infiniband/")
    paths = [path for path in needs if path.startswith(areas)]
    assert len(paths) > 400
    files = {path: decompress((directory / path).read_bytes(), path, MAX_MODULE_SIZE) for path in paths}
    kinds = {path: ModuleKind.of(ModuleFile.parse(files[path], path)) for path in paths}
    judged = {path for path in paths if is_for_wired_cards(path, kinds, needs[path])}
    own = {path for path in paths if path.startswith("kernel/drivers/net/ethernet/")}
    # What is missed are parts that have no aliases and make no interface: libraries, which come with their drivers.
    # mlx4_core, the half of a driver that has the hardware, comes with the other half.
    libraries = {path for path in own - judged if DriverKind.HARDWARE not in kinds[path].kinds}
    assert {module_name(path) for path in own - judged - libraries} <= {"mlx4_core", "cavium_ptp"}
    assert len(libraries) < 10
    assert not [path for path in judged if "/can/" in path or "/wwan/" in path or path.startswith("kernel/net/")]
    assert {module_name(path) for path in judged if "/wireless/" in path} <= {"ray_cs"}


@pytest.fixture
def moved(debian_root, tmp_path) -> Path:
    """A root with some of a distribution's modules, of which three were added in the three ways that there are."""
    real = _modules_of(debian_root)
    needs = _dependencies(real)
    suffix = _suffix(debian_root)
    version, old = "6.1.0-dkms", "6.1.0-old"
    there, before = tmp_path / "usr/lib/modules" / version, tmp_path / "usr/lib/modules" / old
    by_name = {module_name(path): path for path in needs}
    wanted = [
        by_name[name] for name in ("e1000e", "igb", "r8169", "realtek", "tg3", "virtio_net", "iwlwifi", "bonding")
    ]
    for path in {*wanted, *(needed for one in wanted for needed in needs[one])}:
        (there / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(real / path, there / path)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(real / name, there / name)
    for name, to in {
        "e1000e": "updates/dkms/e1000e.ko",
        "r8169": "updates/dkms/r8125.ko",
        "bonding": "extra/x.ko",
    }.items():
        (there / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(there / by_name[name], there / f"{to}{suffix}")
    (before / "extra").mkdir(parents=True)
    shutil.move(there / by_name["igb"], before / f"extra/igb.ko{suffix}")
    (there / "weak-updates").mkdir()
    (there / f"weak-updates/igb.ko{suffix}").symlink_to(f"../../{old}/extra/igb.ko{suffix}")
    (tmp_path / "lib").symlink_to("usr/lib")
    return tmp_path


def _depmod(root: Path, search: str) -> None:
    settings = root / "depmod.d"
    settings.mkdir()
    (settings / "search.conf").write_text(f"search {search}\n")
    subprocess.run(["depmod", "-b", root, "-C", settings, "6.1.0-dkms"], check=True, stderr=subprocess.DEVNULL)


def _shown(root: Path, name: str) -> list[str]:
    """What modprobe(8) would load, in its order, by paths as in modules.dep."""
    done = subprocess.run(
        ["modprobe", "-d", root, "-S", "6.1.0-dkms", "-C", "/var/empty", "--show-depends", name],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("insmod")]
    return [line.rpartition("/6.1.0-dkms/")[2] for line in lines]


@pytest.mark.oracle
def test_added_drivers_are_taken_as_modprobe_would_load_them(moved):
    _depmod(moved, "updates extra built-in weak-updates")
    with DirectorySource("d", str(moved), "").open(select_all, Faults()) as image:
        modules = KernelModules.read(image, "6.1.0-dkms")
    names = set(map(module_name, group_modules(modules)["net"]))
    assert {"e1000e", "r8125", "igb", "tg3", "virtio_net"} <= names
    assert not names & {"x", "iwlwifi"}
    for name, path in {
        "e1000e": "updates/dkms/e1000e.ko",
        "r8125": "updates/dkms/r8125.ko",
        "igb": "weak-updates/igb.ko",
    }.items():
        shown = _shown(moved, name)
        added = f"{path}{_suffix(moved)}"
        assert shown[-1] == added
        assert modules.load_order([added])[-1] == added
        assert set(shown) <= set(modules.load_order([added]))


@pytest.mark.oracle
@pytest.mark.parametrize(("search", "first"), [("updates built-in", "updates/"), ("built-in updates", "kernel/")])
def test_of_two_modules_of_a_name_the_one_that_depmod_found_first_is_used(moved, search, first):
    there = moved / "usr/lib/modules/6.1.0-dkms"
    (own,) = there.glob("kernel/**/tg3.ko*")
    shutil.copy(own, there / "updates" / own.name)
    _depmod(moved, search)
    with DirectorySource("d", str(moved), "").open(select_all, Faults()) as image:
        net = group_modules(KernelModules.read(image, "6.1.0-dkms"))["net"]
    (taken,) = (path for path in net if module_name(path) == "tg3")
    assert taken.startswith(first)
    assert _shown(moved, "tg3")[-1] == taken
