"""Consoles that were recorded from QEMU, and lines that a boot may print."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ltsp.boot.menu import MENU_MARK, Menu
from ltsp.boottest.console import REPORT_PREFIX, BootProblem, BootStage, Console
from ltsp.publish.pointer import Pointer

RECORDED = Path(__file__).parent / "consoles"

NO_BOOTFILE = BootProblem(
    "no bootable device: the network boot failed",
    "check that the boot file exists in TFTP_DIR/ltsp: run ltsp ipxe",
)
IPXE_SHELL = BootProblem("iPXE opened its shell", "a script ran `shell` or chained to a missing file: run ltsp ipxe")


def fed(*pieces: bytes, console=None):
    console = console or Console()
    for second, piece in enumerate(pieces, 1):
        console.feed(piece, float(second))
    return console


def in_pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize(
    ("name", "stage", "trouble"),
    [
        ("no_bootfile", BootStage.IPXE, NO_BOOTFILE),
        ("ipxe_shell", BootStage.IPXE, IPXE_SHELL),
        ("uefi_ipxe_shell", BootStage.IPXE, IPXE_SHELL),
        (
            "panic",
            BootStage.KERNEL,
            BootProblem(
                "the kernel panicked: VFS: Unable to mount root fs on unknown-block(0,0)",
                "the kernel got no usable initrd, or no rdinit=; see the lines of iPXE above",
            ),
        ),
        (
            "initramfs_shell",
            BootStage.INITRD,
            BootProblem(
                "the distribution's initrd gave up and opened a shell",
                "boot with the client's own initrd (rdinit=/ltsp/init), or see the console's last lines",
            ),
        ),
    ],
)
def test_a_recorded_boot_has_its_last_stage_and_problem(name, stage, trouble, size):
    console = fed(*in_pieces((RECORDED / f"{name}.bin").read_bytes(), size))
    assert (console.stage, console.problem) == (stage, trouble)
    assert list(console.seconds) == [each for each in BootStage if each in console.seconds]


def test_a_line_that_the_firmware_broke_is_read_whole():
    said = "tftp://10.0.2.2/ltsp/lab/20200101T000000Z-00000000/vmlinuz... No such file or directory (http://ipxe.org/2d12603b)"
    console = fed(f"iPXE initialising devices...ok\r\n{said[:80]}\r\n{said[80:]}\r\n".encode())
    assert console.clue is not None
    assert console.clue.cause.endswith("20200101T000000Z-00000000/vmlinuz: No such file or directory")


def test_a_failed_fetch_of_ipxe_explains_a_boot_that_gave_up():
    console = fed((RECORDED / "no_bootfile.bin").read_bytes())
    assert console.clue is not None
    assert console.clue.cause == "iPXE could not fetch tftp://10.0.2.2/missing.ipxe: No such file or directory"


OURS = [
    (b"SeaBIOS (version 1.16.2-debian-1.16.2-1)\r\n", BootStage.FIRMWARE),
    (b"iPXE initialising devices...ok\r\n", BootStage.IPXE),
    (f"{MENU_MARK}\r\n".encode(), BootStage.MENU),
    (b"[    0.000000] Linux version 6.1.0-50-amd64 (debian-kernel@lists.debian.org)\r\n", BootStage.KERNEL),
    (b"ltsp: stage start\r\n", BootStage.INITRD),
    (b"ltsp: stage network\r\n", BootStage.NETWORK),
    (b"ltsp: stage attach\r\n", BootStage.ATTACH),
    (b"ltsp: stage overlay\r\n", BootStage.OVERLAY),
    (b"ltsp: stage site\r\n", BootStage.SITE),
    (b"ltsp: stage switch\r\n", BootStage.ROOT),
    (b"Welcome to \x1b[1mDebian GNU/Linux 12 (bookworm)\x1b[0m!\r\n", BootStage.SYSTEMD),
    (b"\r\nDebian GNU/Linux 12 lab7 ttyS0\r\n\r\nlab7 login: ", BootStage.LOGIN),
]


def test_the_stages_of_a_good_boot_and_their_seconds():
    console = fed(*(piece for piece, _ in OURS))
    assert console.seconds == {BootStage.POWER: 0.0, **{stage: second for second, (_, stage) in enumerate(OURS, 1)}}
    assert not console.is_over


def test_a_stage_that_was_passed_is_not_reached_again():
    console = fed(b"ltsp: stage switch\n", b"ltsp: stage network\nLinux version 6\n")
    assert console.seconds == {BootStage.POWER: 0.0, BootStage.ROOT: 1.0}


def test_a_report_ends_the_boot_wherever_in_a_line_it_begins():
    console = fed(
        b"lab7 login: ", b"\r\nlab7 login: " + REPORT_PREFIX.encode() + b'{"a":1}\r\nKernel panic - not syncing: x\n'
    )
    assert console.report == '{"a":1}'
    assert console.problem is None
    assert console.stage is BootStage.LOGIN


def test_the_login_prompt_may_come_after_the_report():
    console = fed(b"ltsp: stage switch\n", REPORT_PREFIX.encode() + b"{}\n", b"lab7 ttyS0\r\n\r\nlab7 login: ")
    assert console.seconds[BootStage.LOGIN] == 3.0


def test_an_interrupted_report_is_read_from_its_repetition():
    console = fed(REPORT_PREFIX.encode() + b'{"a":\n', REPORT_PREFIX.encode() + b'{"a":1}\n')
    assert console.report == '{"a":1}'


@pytest.mark.parametrize("line", [b"lab7 login: [  OK  ] Finished x.\n", b"lab7 login: root (automatic login)\n"])
def test_a_login_prompt_is_recognized_with_text_after_it(line):
    assert fed(line).stage is BootStage.LOGIN


def test_the_last_line_of_the_clients_init_is_cause_and_remedy():
    console = fed(b"ltsp: FATAL: no answer from 10.0.2.2: check the cable, then the server\n")
    assert console.problem == BootProblem("no answer from 10.0.2.2", "check the cable, then the server")
    assert fed(b"[    3.1] ltsp: FATAL: out of ideas\n").problem == BootProblem("out of ideas", "")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        # init/initramfs.c, unpack_to_rootfs and its helpers; after them the boot goes on.
        *(
            (f"Initramfs unpacking failed: {reason}", f"the kernel could not unpack the initrds: {reason}")
            for reason in (
                "invalid magic at start of compressed archive",
                "junk within compressed archive",
                "junk in compressed archive",
                "no cpio magic",
                "write error",
                "compression method lz4 not configured",
                "Decoding failed",
            )
        ),
        (
            "rootfs image is not initramfs (junk within compressed archive); looks like an initrd",
            "the kernel could not unpack the initrds: junk within compressed archive",
        ),
        ("EFI stub: ERROR: Failed to load initrd!", "the kernel did not get its initrds: Failed to load initrd!"),
        (
            "INITRD: 0x7f000000+0x100000 is not a memory region - disabling initrd",
            "the kernel did not get its initrds: INITRD: 0x7f000000+0x100000 is not a memory region - disabling initrd",
        ),
    ],
)
def test_an_initrd_that_the_kernel_lost_ends_the_boot_at_once(line, cause):
    console = fed(f"[    0.9] {line}\r\n".encode(), b"ltsp: stage start\r\nlab7 login: ")
    assert console.problem is not None
    assert console.problem.cause == cause
    assert console.problem.remedy
    assert BootStage.INITRD not in console.seconds


def said_at(label, script):
    """The lines that a script prints between a label and the next one."""
    lines = iter(script.splitlines())
    behind = itertools.dropwhile(lambda line: line != f":{label}", lines)
    next(behind)
    here = itertools.takewhile(lambda line: not line.startswith(":"), behind)
    return "".join(line.removeprefix("echo").strip() + "\n" for line in here if line.startswith("echo"))


@pytest.mark.parametrize(
    ("label", "cause", "remedy"),
    [
        ("gone", "version 20260101T000000Z-12345678 of lab could not be fetched", "ltsp kernel lab publishes it again"),
        ("no-add-on", "ltsp.img not found", "run ltsp initrd on the server"),
        ("no-image", "cannot fetch the image of lab", "run ltsp ipxe --http=1 on the server"),
    ],
)
def test_messages_of_pointer_and_menu_are_cause_and_remedy_and_the_end(label, cause, remedy):
    files = ("vmlinuz", "client.img")
    pointer = Pointer("lab", "20260101T000000Z-12345678", None, "images/.versions/lab/V/image.img", files, "12")
    menu = said_at("_failed", Menu("/srv/ltsp").text()).replace("${ltsp-name}", "lab")
    console = fed(b"ltsp: menu\n", said_at(label, pointer.to_script()).encode())
    assert console.clue is not None
    assert (console.clue.cause, console.stage, console.is_over) == (cause, BootStage.MENU, False)
    assert remedy in console.clue.remedy
    console = fed(menu.encode(), console=console)
    assert console.problem is not None
    assert console.problem.cause == "the menu could not boot lab"


def test_a_pointer_without_a_kernel_says_what_to_type():
    console = fed(Pointer("lab", "20260101T000000Z-12345678", None).to_script().replace("echo ", "").encode())
    assert console.clue == BootProblem("lab has no kernel", "run ltsp kernel lab on the server")


BROKEN = b"ltsp: FATAL: htt[    7.012345] random: crng init done\np://a/b cannot be fetched: run ltsp http\n"


@pytest.mark.parametrize(
    "lines",
    [
        b"ltsp: FATAL: htt[    7.027098] ltsp: FATAL: http://a/b cannot be fetched: run ltsp http\np://a/b cannot be\n",
        BROKEN + b"[    7.027098] ltsp: FATAL: http://a/b cannot be fetched: run ltsp http\n",
        b"ltsp: FATAL: httltsp: FATAL: http://a/b cannot be fetched: run ltsp http\np://a/b cannot\n",
    ],
)
def test_a_fatal_message_is_read_from_a_complete_line(lines):
    assert fed(lines).problem == BootProblem("http://a/b cannot be fetched", "run ltsp http")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"(initramfs) ", "the distribution's initrd gave up and opened a shell"),
        (b"dracut:/# ", "the distribution's initrd gave up and opened a shell"),
        (b"You are in emergency mode. After logging in, type\n", "systemd entered emergency mode"),
        (b"UEFI Interactive Shell v2.2\n", "no bootable device: the network boot failed"),
        (b"Kernel panic - not syncing: Attempted to kill init!\n", "the kernel panicked: Attempted to kill init!"),
    ],
)
def test_marks_that_end_the_boot(line, cause):
    trouble = fed(line).problem
    assert trouble is not None
    assert trouble.cause == cause
    assert trouble.remedy


@pytest.mark.parametrize(
    "line",
    [
        b"echo type iPXE> to see\n",
        b"BusyBox is fine\n",
        b"Press Ctrl-B for the iPXE command line...\n",
        b"udevadm: last login: never\n",
    ],
)
def test_lines_that_only_look_like_the_end_end_nothing(line):
    console = fed(line)
    assert not console.is_over
    assert console.stage is BootStage.POWER


def test_the_tail_is_bounded_and_holds_the_prompt():
    console = fed(b"".join(b"line %d\n" % number for number in range(1000)), b"x" * 10000)
    assert len(console.tail) == 41
    assert console.tail[0] == "line 960"
    assert len(console.tail[-1]) == 500
