"""The virtual machine that acts as a client: its QEMU arguments, its firmware, and whether KVM works here.

The machine has one virtio network card in QEMU's user network, where this machine's loopback is 10.0.2.2. With BIOS,
iPXE in QEMU's option ROM boots it. UEFI firmware cannot start a script, which the boot file is, so iPXE is on a small
disk and requests the boot file by DHCP, as a network card's firmware would.

In some containers and virtual machines, KVM can be opened and then hangs, or refuses the processor's registers: so a
virtual processor runs one instruction before it is used.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from enum import Enum
from os.path import join

from ltsp.errors import LtspError
from ltsp.host import command

HOST_ADDRESS = "10.0.2.2"
"""This machine's loopback as the guest sees it. QEMU, "Network emulation", user network"""

_IPXE_DISK = "ipxe"


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
            *self._firmware_arguments(),
            *self._network_arguments(),
            *self._kernel_arguments(),
            *(
                word
                for name, text in self.fw_cfg
                for word in ("-fw_cfg", f"name={_escape_value(name)},string={_escape_value(text)}")
            ),
        ]

    def _firmware_arguments(self) -> list[str]:
        match self.firmware:
            case Bios():
                return []
            case Uefi(code, variables, disk):
                return [
                    *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={_escape_value(code)}"),
                    *("-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={_escape_value(variables)}"),
                    *("-blockdev", f"driver=vvfat,node-name={_IPXE_DISK},read-only=on,dir={_escape_value(disk)}"),
                    *("-device", f"virtio-blk-pci,drive={_IPXE_DISK},bootindex=0"),
                ]

    def _network_arguments(self) -> list[str]:
        card = f"virtio-net-pci,netdev=net,mac={self.mac}"
        match self.boot:
            case NetworkBoot(bootfile, tftp):
                tftp_option = f",tftp={_escape_value(tftp)}" if tftp else ""
                index = 0 if isinstance(self.firmware, Bios) else 1
                return [
                    *("-netdev", f"user,id=net{tftp_option},bootfile={_escape_value(bootfile)}"),
                    *("-device", f"{card},bootindex={index}"),
                ]
            case DirectBoot():
                return ["-netdev", "user,id=net", "-device", card]

    def _kernel_arguments(self) -> list[str]:
        match self.boot:
            case NetworkBoot():
                return []
            case DirectBoot(kernel, arguments, initrd):
                loaded = ["-kernel", kernel, "-append", arguments]
                return [*loaded, "-initrd", initrd] if initrd else loaded


def _escape_value(text: str) -> str:
    """A value in a QEMU option list, with commas doubled."""
    return text.replace(",", ",,")


_KVM_TEST_TIMEOUT = 2.0
_FIRMWARE_SIZE = 1 << 16
_RESET_VECTOR = 0xFFF0
"""Where a PC's processor starts, in the last 64 KiB below 4 GiB."""
_EXIT_VALUE = 0x2A
_EXIT_STATUS = _EXIT_VALUE << 1 | 1
"""The exit status that QEMU's isa-debug-exit derives from the value written to its port."""


def make_exit_rom() -> bytes:
    """A ROM that exits with its first instructions."""
    # mov dx, 0x501; mov al, ANSWER; out dx, al; hlt
    code = bytes((0xBA, 0x01, 0x05, 0xB0, _EXIT_VALUE, 0xEE, 0xF4))
    return code.rjust(_RESET_VECTOR + len(code), b"\xf4").ljust(_FIRMWARE_SIZE, b"\xf4")


def choose_accelerator() -> Accelerator:
    """KVM if it works, else TCG, which emulates."""
    return (
        Accelerator.KVM
        if os.access("/dev/kvm", os.R_OK | os.W_OK) and is_accelerator_working(Accelerator.KVM)
        else Accelerator.TCG
    )


def is_accelerator_working(accel: Accelerator, timeout: float = _KVM_TEST_TIMEOUT) -> bool:
    with open(os.memfd_create("firmware"), "wb", buffering=0) as rom:
        rom.write(make_exit_rom())
        arguments = [
            "qemu-system-x86_64",
            *("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
            *("-machine", "pc", "-m", "16"),
            *accel.arguments,
            *("-bios", f"/proc/self/fd/{rom.fileno()}"),
            *("-device", "isa-debug-exit,iobase=0x501,iosize=1"),
        ]
        with command.start_in_background(arguments, descriptors=[rom.fileno()], package="qemu-system-x86") as trial:
            return trial.status(timeout) == _EXIT_STATUS


_OVMF_PATHS = (
    # Debian and Ubuntu
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    # Fedora
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    # Arch
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    # openSUSE
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
)
"""Firmware and its empty variables, without Secure Boot, since distributions' iPXE is not signed."""

_IPXE_PATHS = (
    # Debian and Ubuntu
    "/usr/lib/ipxe/ipxe.efi",
    # Fedora
    "/usr/share/ipxe/ipxe-x86_64.efi",
    # Arch
    "/usr/share/ipxe/x86_64/ipxe.efi",
    # openSUSE
    "/usr/share/ipxe/ipxe-x86_64.efi",
)


def prepare_uefi(directory: str) -> Uefi:
    """Firmware that starts iPXE from a disk, whose files are written to the directory.

    Raises LtspError if one of them is not installed.
    """
    code, variables = next((pair for pair in _OVMF_PATHS if all(map(os.path.isfile, pair))), ("", ""))
    if not code:
        raise LtspError("UEFI firmware for QEMU not found", "install the package ovmf (edk2-ovmf on Fedora and Arch)")
    ipxe = next(filter(os.path.isfile, _IPXE_PATHS), "")
    if not ipxe:
        raise LtspError("iPXE for UEFI not found", "install the package ipxe (ipxe-bootimgs on Fedora and openSUSE)")
    boot_directory = join(directory, "EFI", "BOOT")
    os.makedirs(boot_directory)
    # The default boot file of removable media. UEFI specification, 3.5.1.1
    shutil.copyfile(ipxe, join(boot_directory, "BOOTX64.EFI"))
    return Uefi(code, variables, directory)
