"""The modules that a client may need before it has its root, in groups that are loaded separately, and their firmware.

Of the firmware, as much goes in as fits, smallest files first: small files are for many common cards; large ones are
for data centre cards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ltsp.initrd.compressed_file import read_decompressed, strip_suffix
from ltsp.initrd.kernel_modules import KernelModules, module_name
from ltsp.initrd.module_file import is_for_wired_cards
from ltsp.tree.name import sort_names
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class ModuleGroup:
    """Modules by the kernel's names, and by directory."""

    names: frozenset[str] = frozenset()
    directories: tuple[str, ...] = ()

    def contains(self, path: str) -> bool:
        return module_name(path) in self.names or strip_suffix(path).startswith(self.directories)


def _split_names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_USB_HOST_MODULES = (
    "xhci_pci xhci_pci_renesas xhci_plat_hcd ehci_pci ehci_platform ohci_pci ohci_platform uhci_hcd dwc2 dwc3"
)
_USB_CARD_DIRECTORY = "kernel/drivers/net/usb/"
_VIRTUAL_BUS_MODULES = "hv_vmbus virtio_mmio"

_WIRED_CARDS = ModuleGroup(
    _split_names(
        "virtio_net vmxnet3 hv_netvsc xen_netfront "
        "asix ax88179_178a aqc111 r8152 r8153_ecm rtl8150 smsc75xx smsc95xx lan78xx pegasus kaweth catc mcs7830 "
        "dm9601 sr9700 sr9800 ch9200 cdc_ether cdc_ncm cdc_eem cdc_subset rndis_host"  # with a wire, no modems
    ),
    ("kernel/drivers/net/ethernet/",),
)
"""The kernel's own drivers of wired network cards."""

MODULE_GROUPS: Mapping[str, ModuleGroup] = {
    # Loaded on every client. af_packet: a module on openSUSE, needed for DHCP.
    "base": ModuleGroup(_split_names("overlay loop squashfs virtio_pci af_packet")),
    "net": ModuleGroup(
        _WIRED_CARDS.names | _split_names(f"{_USB_HOST_MODULES} {_VIRTUAL_BUS_MODULES}"),
        (*_WIRED_CARDS.directories, "kernel/drivers/net/phy/", "kernel/drivers/net/mdio/", "kernel/drivers/net/pcs/"),
    ),
    "nfs": ModuleGroup(_split_names("nfs nfsv3 nfsv4")),
    "nbd": ModuleGroup(_split_names("nbd")),
    # Disks for a local cache, and their file systems; others, which are large, only if an image uses them.
    "storage": ModuleGroup(
        _split_names(
            f"ahci ahci_platform ata_piix sd_mod sr_mod nvme vmd virtio_blk virtio_scsi usb_storage uas mmc_block "
            f"sdhci_pci sdhci_acpi hv_storvsc vmw_pvscsi xen_blkfront {_VIRTUAL_BUS_MODULES} "
            "erofs ext4 isofs vfat exfat nls_cp437 nls_ascii nls_iso8859_1 nls_utf8 crc32c_generic"
        )
    ),
    # For a person at the console of a client that does not boot. All are loaded, so none is for a single machine.
    "keyboard": ModuleGroup(_split_names(f"{_USB_HOST_MODULES} usbhid hid_generic i8042 atkbd")),
}


_DEVICE_GROUPS = frozenset({"net", "storage", "keyboard"})
"""Groups whose modules are loaded for devices, as by udev, except those that the image's modprobe.d(5) blocks. Modules
of the other groups are essential and loaded by name, even if they are blocked.
"""


def find_network_drivers(modules: KernelModules) -> frozenset[str]:
    """Names of the drivers of wired network cards, loadable or built in, that are not blocked."""
    builtin = (path for path in modules.builtin if _WIRED_CARDS.contains(path))
    return frozenset(map(module_name, (*builtin, *_network_modules(modules)))) - find_blocked_drivers(modules).keys()


def find_blocked_drivers(modules: KernelModules) -> dict[str, str]:
    """The drivers of wired network cards that the image's modprobe.d(5) blocks: by name, the file that does."""
    files = {
        module_name(path): modules.conf.find_blocking_file(module_name(path)) for path in _network_modules(modules)
    }
    return {name: file for name, file in files.items() if file is not None}


def find_blocked_requirements(modules: KernelModules, groups: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The modules that no client boots without and that modprobe.d(5) disables: by name, the file that does."""
    required = {module_name(path) for name, paths in groups.items() if name not in _DEVICE_GROUPS for path in paths}
    rules = {name: modules.conf.find_disabling_rule(name) for name in sorted(required)}
    return {name: rule.path for name, rule in rules.items() if rule is not None}


def group_modules(
    modules: KernelModules, network_drivers: Collection[str] = (), file_systems: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Paths of the modules of each group and their dependencies, in loading order.

    Modules of base, which is always loaded, are in no other group. Modules that the image's modprobe.d(5) blocks are
    not in groups for devices, unless another module needs them. `network_drivers`: names of drivers to include instead
    of all; USB drivers also include those of USB host controllers. `file_systems`: modules of the images' file systems,
    besides the usual ones.
    """
    groups = dict(MODULE_GROUPS)
    groups["storage"] = ModuleGroup(MODULE_GROUPS["storage"].names | _split_names(" ".join(file_systems)))
    if network_drivers:
        groups["net"] = chosen = ModuleGroup(_split_names(" ".join(network_drivers).replace("-", "_")))
        if any(_is_usb(modules, path) for path in _modules_of_group(modules, chosen)):
            groups["net"] = ModuleGroup(chosen.names | _split_names(_USB_HOST_MODULES))
    found: dict[str, tuple[str, ...]] = {}
    for name, group in groups.items():
        wanted = _modules_of_group(modules, group)
        if name == "net" and not network_drivers:
            wanted.extend(_out_of_tree_network_modules(modules))
        if name in _DEVICE_GROUPS:
            wanted = [path for path in wanted if modules.conf.find_blocking_file(module_name(path)) is None]
        base_paths = found.get("base", ())
        found[name] = tuple(path for path in modules.load_order(wanted) if path not in base_paths)
    return found


def _network_modules(modules: KernelModules) -> list[str]:
    return [*_modules_of_group(modules, _WIRED_CARDS), *_out_of_tree_network_modules(modules)]


def _modules_of_group(modules: KernelModules, group: ModuleGroup) -> list[str]:
    return [path for path in modules.dependencies if group.contains(modules.in_tree_equivalent(path))]


def _out_of_tree_network_modules(modules: KernelModules) -> list[str]:
    """The modules that did not come with the kernel and drive wired network cards."""
    return [
        path
        for path in modules.out_of_tree_kinds
        if is_for_wired_cards(path, modules.out_of_tree_kinds, modules.dependencies[path])
    ]


def _is_usb(modules: KernelModules, path: str) -> bool:
    kind = modules.out_of_tree_kinds.get(path)
    return modules.in_tree_equivalent(path).startswith(_USB_CARD_DIRECTORY) or (kind is not None and kind.is_usb)


_FIRMWARE_DIRECTORY: Final = "lib/firmware"
_MAX_FIRMWARE_SIZE: Final = 64 << 20
"""Maximum bytes of one file."""


@dataclass(frozen=True, slots=True)
class DriverFirmware:
    included: Mapping[str, bytes]
    """By path below lib/firmware, decompressed."""
    left_out: tuple[str, ...]
    """In the image, but beyond the limit."""
    missing: tuple[str, ...]
    """Not in the image."""

    @classmethod
    def collect(cls, tree: Tree, version: str, wanted: Iterable[str], limit: int) -> DriverFirmware:
        """Collect the wanted files; `maximum` is the limit in bytes for all files together.

        Raises FormatError if one is damaged, and OSError.
        """
        found: dict[str, bytes] = {}
        missing = []
        for path in sort_names(list(set(wanted))):
            data = _read_firmware(tree, version, path)
            if data is None:
                missing.append(path)
            else:
                found[path] = data
        included: dict[str, bytes] = {}
        size = 0
        for path in sorted(found, key=lambda path: (len(found[path]), path)):
            size += len(found[path])
            if size > limit:
                break
            included[path] = found[path]
        return cls(included, tuple(path for path in found if path not in included), tuple(missing))


def _read_firmware(tree: Tree, version: str, path: str) -> bytes | None:
    """The file from the kernel's search path, in its order. drivers/base/firmware_loader/main.c"""
    for subdirectory in (f"updates/{version}", "updates", version, ""):
        data = read_decompressed(
            tree, "/".join(filter(None, (_FIRMWARE_DIRECTORY, subdirectory, path))), _MAX_FIRMWARE_SIZE
        )
        if data is not None:
            return data
    return None
