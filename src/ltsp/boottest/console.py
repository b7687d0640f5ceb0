"""Parsing a client's serial console: which stages the boot reached and when, and what ended it.

A state machine that is fed bytes and the seconds since power-on; it neither waits nor reads.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from ltsp.boottest.terminal import Terminal

_TAIL_LINES = 40
"""Number of last lines that are kept."""
_MAX_LINE_LENGTH = 500
"""Maximum characters of a line in the tail."""

_COLUMNS = 80
"""The column at which the firmware's console, and iPXE's, wraps lines. SeaBIOS, sercon.c"""

REPORT_PREFIX = "ltsp-boottest: "
"""Prefix of the booted system's report; JSON follows."""


class BootStage(Enum):
    """The stages of a boot, in this order. The value is for people."""

    POWER = "power on"
    FIRMWARE = "firmware"
    IPXE = "iPXE"
    MENU = "menu"
    KERNEL = "kernel"
    INITRD = "initrd"
    NETWORK = "network"
    ATTACH = "attaching the image"
    OVERLAY = "overlay"
    SITE = "site configuration"
    ROOT = "root mounted"
    SYSTEMD = "systemd"
    LOGIN = "login"


_ORDER = {stage: number for number, stage in enumerate(BootStage)}

_STAGE_PATTERNS: tuple[tuple[BootStage, re.Pattern[str]], ...] = tuple(
    (stage, re.compile(pattern))
    for stage, pattern in (
        (BootStage.FIRMWARE, r"SeaBIOS \(version|BdsDxe: |^UEFI "),
        (BootStage.IPXE, r"\biPXE initialising devices|^Features: .*\b(?:TFTP|HTTP)\b"),
        (BootStage.MENU, r"^ltsp: menu\b"),
        (BootStage.KERNEL, r"\bLinux version \d"),
        (BootStage.INITRD, r"\bltsp: stage start\b|^Loading, please wait\.\.\.|\bdracut-cmdline\b|\bRunning in initr"),
        (BootStage.NETWORK, r"\bltsp: stage network\b"),
        (BootStage.ATTACH, r"\bltsp: stage attach\b"),
        (BootStage.OVERLAY, r"\bltsp: stage overlay\b"),
        (BootStage.SITE, r"\bltsp: stage site\b"),
        (BootStage.ROOT, r"\bltsp: stage switch\b|^Begin: Running /scripts/init-bottom|Reached target .*Switch Root"),
        (
            BootStage.SYSTEMD,
            r"\bsystemd\[1\]: (?:Detected architecture|Hostname set|Queued start job)|^Welcome to .+!$",
        ),
        (BootStage.LOGIN, r"^(?!Last )\S+ login:(?: |$)"),
    )
)
"""From SeaBIOS, EDK2's BdsDxe, iPXE's startup.c, our menu, the kernel's linux_banner, our init, systemd, agetty."""


@dataclass(frozen=True, slots=True)
class BootProblem:
    cause: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class _ProblemPattern:
    """A line that shows a problem; {0}, {1} in the texts are groups of the pattern."""

    pattern: re.Pattern[str]
    cause: str
    remedy: str

    def match(self, line: str) -> BootProblem | None:
        match = self.pattern.search(line)
        if match is None:
            return None
        groups = [group or "" for group in match.groups()]
        return BootProblem(self.cause.format(*groups).strip(), self.remedy.format(*groups).strip())


def _compile_patterns(*rows: tuple[str, str, str]) -> tuple[_ProblemPattern, ...]:
    return tuple(_ProblemPattern(re.compile(pattern), cause, remedy) for pattern, cause, remedy in rows)


_UNBROKEN = r"(?:(?!\[ *\d+\.\d{6}\] ).)+"
"""Text that is not interrupted by a kernel message, which begins with the time. Kernel: printk.c, print_time"""

_FATAL_PATTERNS = _compile_patterns(
    # The client's init prints it to the console and to the kernel's log, so one may interrupt the other.
    (rf"^.*ltsp: FATAL: ({_UNBROKEN}?): ({_UNBROKEN})$", "{0}", "{1}"),
    (rf"^.*ltsp: FATAL: ({_UNBROKEN})$", "{0}", ""),
    (
        # The kernel continues without the rest, and a client may even reach its login. init/initramfs.c; the second
        # message is that of kernels with support for RAM disks.
        r"Initramfs unpacking failed: (.*)$|rootfs image is not initramfs \((.*)\); looks like an initrd",
        "the kernel could not unpack the initrds: {0}{1}",
        "publish them again (ltsp kernel, ltsp initrd); otherwise the kernel cannot decompress them, or lacks memory",
    ),
    (
        # drivers/firmware/efi/libstub; init/initramfs.c, reserve_initrd_mem
        r"EFI stub: ERROR: (Failed to (?:load initrd|open file|read file).*)$|\b(INITRD: .* - disabling initrd)",
        "the kernel did not get its initrds: {0}{1}",
        "update the menu, which must load each initrd named in `initrd=`: ltsp ipxe; or give the client more memory",
    ),
    (
        r"Kernel panic - not syncing: (VFS: Unable to mount root fs.*)$",
        "the kernel panicked: {0}",
        "the kernel got no usable initrd, or no rdinit=; see the lines of iPXE above",
    ),
    (
        r"Kernel panic - not syncing: (System is deadlocked on memory|Out of memory.*)$",
        "the kernel panicked: {0}",
        "give the client more memory, or a transport that does not load the whole image into it",
    ),
    (r"Kernel panic - not syncing: (.+)$", "the kernel panicked: {0}", "see the console's last lines"),
    (
        r"^\(initramfs\)$|^dracut:/#|\bALERT! .*Dropping to a shell!",
        "the distribution's initrd gave up and opened a shell",
        "boot with the client's own initrd (rdinit=/ltsp/init), or see the console's last lines",
    ),
    (
        r"(?:You are in|Entering) (?:emergency|rescue) mode",
        "systemd entered emergency mode",
        "see the console's last lines for the unit that failed, often a mount in fstab",
    ),
    (
        r"^LTSP: cannot boot ?(.*?): the lines above say why",
        "the menu could not boot {0}",
        "ltsp info lists the images, and ltsp ipxe updates the menu",
    ),
    (r"^iPXE>$", "iPXE opened its shell", "a script ran `shell` or chained to a missing file: run ltsp ipxe"),
    (
        r"^No bootable device|^UEFI Interactive Shell|BdsDxe: No bootable option",
        "no bootable device: the network boot failed",
        "check that the boot file exists in TFTP_DIR/ltsp: run ltsp ipxe",
    ),
)
"""Lines that end the boot."""

_CLUE_PATTERNS = _compile_patterns(
    (
        r"^(.*\S)\.\.\. ?(\S.*\S) \(https?://ipxe\.org/",
        "iPXE could not fetch {0}: {1}",
        "check the path and the server",
    ),
    (
        r"^Version (\S+) of (\S+) could not be fetched",
        "version {0} of {1} could not be fetched",
        "ltsp versions {1} shows whether it exists, and ltsp kernel {1} publishes it again",
    ),
    (r"^(.+?): run (ltsp \S+(?: \S+)?) on the server\b", "{0}", "run {1} on the server"),
    (r"^(.+): command not found$", "iPXE has no command {0}", "use the distribution's iPXE, which has it"),
)
"""Lines that explain why a boot fails or hangs, but do not end it."""


@dataclass(slots=True)
class Console:
    seconds: dict[BootStage, float] = field(default_factory=lambda: {BootStage.POWER: 0.0})
    """When each stage was reached, since power-on."""
    problem: BootProblem | None = None
    """The problem that ended the boot; nothing is parsed after it."""
    clue: BootProblem | None = None
    """The last problem that did not end the boot."""
    report: str | None = None
    """The JSON of the booted system's report."""
    _terminal: Terminal = field(default_factory=Terminal)
    _wrapped_part: str = ""
    """The beginning of a line that the firmware wrapped."""
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    def feed(self, data: bytes, now: float) -> None:
        """Parse what the console printed until `now`, in seconds since power-on."""
        for line in self._terminal.feed(data):
            whole = self._wrapped_part + line
            self._wrapped_part = whole if len(line) == _COLUMNS and BootStage.KERNEL not in self.seconds else ""
            self._parse_line(whole, now)
            if line:
                self._tail.append(line[:_MAX_LINE_LENGTH])
        self._parse_prompt(self._terminal.line, now)

    @property
    def stage(self) -> BootStage:
        """The last stage that was reached."""
        return max(self.seconds, key=_ORDER.__getitem__)

    @property
    def is_over(self) -> bool:
        """Whether the boot ended or reported."""
        return self.problem is not None or self.report is not None

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines, safe to print, including an unfinished one."""
        last = self._terminal.line
        return (*self._tail, last[:_MAX_LINE_LENGTH]) if last else tuple(self._tail)

    def _parse_line(self, line: str, now: float) -> None:
        if self.is_over:
            self._await_login(line, now)
            return
        before, mark, report = line.partition(REPORT_PREFIX)
        if mark:
            self._record_stage(before.rstrip(), now)
            if report.endswith("}"):
                self.report = report
            else:
                # The reporter repeats it.
                self.clue = BootProblem("other output interrupted the booted system's report", "try again")
            return
        self._record_stage(line, now)
        self.problem = _find_problem(_FATAL_PATTERNS, line)
        self.clue = _find_problem(_CLUE_PATTERNS, line) or self.clue

    def _parse_prompt(self, line: str, now: float) -> None:
        """Parse a prompt, which waits on an unfinished line; other text there may be incomplete."""
        if self.is_over:
            self._await_login(line, now)
        elif line.endswith((":", ">", ")", "#")):
            self._record_stage(line, now)
            self.problem = (
                _find_problem(_FATAL_PATTERNS, line) if line.startswith(("iPXE>", "(initramfs)", "dracut:/#")) else None
            )

    def _await_login(self, line: str, now: float) -> None:
        """Wait for the login prompt, which getty may show after the report, when all services are started."""
        if self.problem is None:
            self._record_stage(line, now)

    def _record_stage(self, line: str, now: float) -> None:
        """Record the stage of a line. Later stages are tried first, and earlier ones are never recorded again."""
        furthest = _ORDER[self.stage]
        for stage, pattern in reversed(_STAGE_PATTERNS):
            if _ORDER[stage] <= furthest:
                return
            if pattern.search(line):
                self.seconds[stage] = round(now, 2)
                return


def _find_problem(patterns: tuple[_ProblemPattern, ...], line: str) -> BootProblem | None:
    return next((problem for pattern_row in patterns if (problem := pattern_row.match(line))), None)
