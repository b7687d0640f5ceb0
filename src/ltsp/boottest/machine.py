"""The virtual machine that acts as a client, and its QEMU arguments.

The machine has one virtio network card in QEMU's user network, where this machine's loopback is 10.0.2.2. With BIOS,
iPXE in QEMU's option ROM boots it. UEFI firmware cannot start a script, which the boot file is, so iPXE is on a small
disk and requests the boot file by DHCP, as a network card's firmware would.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

HOST = "10.0.2.2"
"""This machine's loopback as the guest sees it. QEMU, "Network emulation", user network"""

_DISK = "ipxe"


class Accelerator(Enum):
    """How the guest's instructions run: on the processor, or emulated by QEMU."""

    KVM = "kvm"
    TCG = "tcg"

    @property
    def arguments(self) -> tuple[str, ...]:
        match self:
            case Accelerator.KVM:
                return ("-accel", "kvm", "-cpu", "host")
            case Accelerator.TCG:
                return ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max")


@dataclass(frozen=True, slots=True)
class Bios:
    """SeaBIOS, which is part of QEMU."""


@dataclass(frozen=True, slots=True)
class Uefi:
    code: str
    """Path of the firmware, `OVMF_CODE.fd`."""
    variables: str
    """Path of its empty variables, `OVMF_VARS.fd`; never modified."""
    disk: str
    """A directory with EFI/BOOT/BOOTX64.EFI, which is iPXE; the guest sees it as a disk."""


@dataclass(frozen=True, slots=True)
class NetworkBoot:
    """The firmware gets an address, and fetches an iPXE script."""

    bootfile: str
    """A name below `tftp`, or a URL."""
    tftp: str = ""
    """The directory that TFTP serves; empty for none."""


@dataclass(frozen=True, slots=True)
class DirectBoot:
    """QEMU loads the kernel itself, without network boot and iPXE."""

    kernel: str
    arguments: str
    initrd: str = ""


@dataclass(frozen=True, slots=True)
class VirtualMachine:
    boot: NetworkBoot | DirectBoot
    firmware: Bios | Uefi = Bios()
    accel: Accelerator = Accelerator.TCG
    memory: int = 1024
    """MiB."""
    cpus: int = 2
    mac: str = "52:54:00:12:34:56"
    fw_cfg: tuple[tuple[str, str], ...] = ()
    """Names (`opt/…`) and texts that firmware and guest can read."""

    def arguments(self, console: int, monitor: int) -> list[str]:
        """The command line of QEMU; the numbers are descriptors of connected sockets."""
        return [
            "qemu-system-x86_64",
            "-no-user-config",
            "-nodefaults",
            "-no-reboot",
            *("-name", "ltsp-boottest"),
            *("-machine", "q35,graphics=off"),
            *self.accel.arguments,
            *("-smp", str(self.cpus)),
            *("-m", str(self.memory)),
            *("-display", "none"),
            *("-vga", "std"),
            *("-device", "virtio-rng-pci"),
            *("-chardev", f"socket,id=console,fd={console}"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=monitor,fd={monitor}"),
            *("-mon", "chardev=monitor,mode=control"),
            *self._firmware(),
            *self._network(),
            *self._direct(),
            *(word for name, text in self.fw_cfg for word in ("-fw_cfg", f"name={_value(name)},string={_value(text)}")),
        ]

    def _firmware(self) -> list[str]:
        match self.firmware:
            case Bios():
                return []
            case Uefi(code, variables, disk):
                return [
                    *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_value(code)}"),
                    *("-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={_value(variables)}"),
                    *("-blockdev", f"driver=vvfat,node-name={_DISK},read-only=on,dir={_value(disk)}"),
                    *("-device", f"virtio-blk-pci,drive={_DISK},bootindex=0"),
                ]

    def _network(self) -> list[str]:
        card = f"virtio-net-pci,netdev=net,mac={self.mac}"
        match self.boot:
            case NetworkBoot(bootfile, tftp):
                served = f",tftp={_value(tftp)}" if tftp else ""
                index = 0 if isinstance(self.firmware, Bios) else 1
                return [
                    *("-netdev", f"user,id=net{served},bootfile={_value(bootfile)}"),
                    *("-device", f"{card},bootindex={index}"),
                ]
            case DirectBoot():
                return ["-netdev", "user,id=net", "-device", card]

    def _direct(self) -> list[str]:
        match self.boot:
            case NetworkBoot():
                return []
            case DirectBoot(kernel, arguments, initrd):
                loaded = ["-kernel", kernel, "-append", arguments]
                return [*loaded, "-initrd", initrd] if initrd else loaded


def _value(text: str) -> str:
    """A value in a QEMU option list, with commas doubled."""
    return text.replace(",", ",,")
