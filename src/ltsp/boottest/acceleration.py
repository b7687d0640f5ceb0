"""Checking whether KVM works: not only whether /dev/kvm exists, but whether a virtual processor runs an instruction.

In some containers and virtual machines, KVM can be opened and then hangs, or refuses the processor's registers.
"""

from __future__ import annotations

import os

from ltsp.boottest.machine import Accelerator
from ltsp.host import command

_SECONDS = 2.0
_FIRMWARE_SIZE = 1 << 16
_RESET_VECTOR = 0xFFF0
"""Where a PC's processor starts, in the last 64 KiB below 4 GiB."""
_ANSWER = 0x2A
_EXIT_STATUS = _ANSWER << 1 | 1
"""The exit status that QEMU's isa-debug-exit derives from the value written to its port."""


def make_exit_rom() -> bytes:
    """A ROM that exits with its first instructions."""
    # mov dx, 0x501; mov al, ANSWER; out dx, al; hlt
    code = bytes((0xBA, 0x01, 0x05, 0xB0, _ANSWER, 0xEE, 0xF4))
    return code.rjust(_RESET_VECTOR + len(code), b"\xf4").ljust(_FIRMWARE_SIZE, b"\xf4")


def choose_accelerator() -> Accelerator:
    """KVM if it works, else TCG, which emulates."""
    return (
        Accelerator.KVM if os.access("/dev/kvm", os.R_OK | os.W_OK) and is_working(Accelerator.KVM) else Accelerator.TCG
    )


def is_working(accel: Accelerator, seconds: float = _SECONDS) -> bool:
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
        with command.serve(arguments, descriptors=[rom.fileno()], package="qemu-system-x86") as trial:
            return trial.status(seconds) == _EXIT_STATUS
