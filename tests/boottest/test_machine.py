from __future__ import annotations

import pytest

from ltsp.boottest.machine import Accelerator, Bios, DirectBoot, NetworkBoot, Uefi, VirtualMachine

HEAD = "qemu-system-x86_64 -no-user-config -nodefaults -no-reboot -name ltsp-boottest -machine q35,graphics=off"
TAIL = """-display none -vga std -device virtio-rng-pci -chardev socket,id=console,fd=7 -serial chardev:console
    -chardev socket,id=monitor,fd=8 -mon chardev=monitor,mode=control"""
TCG = "-accel tcg,thread=multi,tb-size=512 -cpu max"
CARD = "virtio-net-pci,netdev=net,mac=52:54:00:12:34:56"

GOLDEN = {
    "a BIOS machine boots its card by TFTP": (
        VirtualMachine(NetworkBoot("boot.ipxe", "/srv/tftp")),
        f"""{HEAD} {TCG} -smp 2 -m 1024 {TAIL}
        -netdev user,id=net,tftp=/srv/tftp,bootfile=boot.ipxe -device {CARD},bootindex=0""",
    ),
    "by HTTP there is no TFTP": (
        VirtualMachine(NetworkBoot("http://10.0.2.2/boot.ipxe"), accel=Accelerator.KVM, memory=512, cpus=1),
        f"""{HEAD} -accel kvm -cpu host -smp 1 -m 512 {TAIL}
        -netdev user,id=net,bootfile=http://10.0.2.2/boot.ipxe -device {CARD},bootindex=0""",
    ),
    "a UEFI machine finds iPXE on a disk, and iPXE the boot file": (
        VirtualMachine(NetworkBoot("boot.ipxe", "/srv/tftp"), Uefi("/f/CODE.fd", "/f/VARS.fd", "/tmp/disk")),
        f"""{HEAD} {TCG} -smp 2 -m 1024 {TAIL}
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/f/CODE.fd
        -drive if=pflash,unit=1,format=raw,snapshot=on,file=/f/VARS.fd
        -blockdev driver=vvfat,node-name=ipxe,read-only=on,dir=/tmp/disk
        -device virtio-blk-pci,drive=ipxe,bootindex=0
        -netdev user,id=net,tftp=/srv/tftp,bootfile=boot.ipxe -device {CARD},bootindex=1""",
    ),
    "a kernel can be booted without firmware": (
        VirtualMachine(DirectBoot("/k", "console=ttyS0", "/i"), fw_cfg=(("opt/a", "one"), ("opt/b", "two"))),
        f"""{HEAD} {TCG} -smp 2 -m 1024 {TAIL} -netdev user,id=net -device {CARD}
        -kernel /k -append console=ttyS0 -initrd /i -fw_cfg name=opt/a,string=one -fw_cfg name=opt/b,string=two""",
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_the_arguments_of_qemu(case):
    machine, golden = GOLDEN[case]
    assert machine.arguments(7, 8) == golden.split()


def test_a_comma_in_a_path_does_not_end_an_option_of_qemu():
    machine = VirtualMachine(NetworkBoot("a,b", "/srv/x,hostfwd=tcp::1-:2"), Bios())
    assert "user,id=net,tftp=/srv/x,,hostfwd=tcp::1-:2,bootfile=a,,b" in machine.arguments(7, 8)
