"""A configuration layer whose systemd unit makes the booted guest report on its console.

It is an additional initrd after the others, so the tested image does not change. The unit waits until systemd has
started everything, prints a line of JSON (three times, since other programs write to consoles too), and powers the
machine off after a while, if it is still running.
"""

from __future__ import annotations

import io

from ltsp.boottest.console import REPORT_PREFIX
from ltsp.cpio import newc
from ltsp.tree.content import Bytes
from ltsp.tree.name import encode
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.tree import Tree

LAYER_DIRECTORY = "ltsp/site/section/9999"
"""After all sections of a site, so that none of them overrides it."""
UNIT_NAME = "ltsp-boottest.service"
_SCRIPT_PATH = "etc/ltsp/boottest"
_POWEROFF_DELAY = 60
"""Seconds from the report to power-off: time for the login prompt, which getty shows when all services are started."""

_REPORTER = rf"""# Reports the state of this system to the boot test. Needs only sh, systemd, util-linux, sed and tr.

# A JSON string: quotes and backslashes are escaped; control characters are dropped.
text() {{ printf '"%s"' "$(printf '%s' "$1" | tr '\t\n' '  ' | tr -d '\000-\037\177' | sed 's/[\\"]/\\&/g')"; }}

# The words as JSON strings with commas in between.
list() {{
    separator=''
    for word in "$@"; do
        printf '%s' "$separator" && text "$word"
        separator=,
    done
}}

state=$(systemctl is-system-running --wait)
failed=$(systemctl --failed --plain --no-legend --no-pager | sed 's/ .*//')
received() {{
    separator=''
    for card in /sys/class/net/*; do
        if [ "${{card##*/}}" = lo ]; then continue; fi
        printf '%s' "$separator" && text "${{card##*/}}" && printf ':%s' "$(cat "$card/statistics/rx_bytes")"
        separator=,
    done
}}
fact() {{ sed -n "s/^$1=//p" /run/ltsp/facts 2>/dev/null; }}
available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)

# Keep the kernel and systemd from writing into the line.
echo 1 >/proc/sys/kernel/printk
kill -s RTMIN+21 1
line=$(
    printf '{{"source":%s,' "$(text "$(findmnt -n -o SOURCE /)")"
    printf '"fstype":%s,' "$(text "$(findmnt -n -o FSTYPE /)")"
    printf '"root":%s,' "$(text "$(fact ROOT)")"
    printf '"state":%s,' "$(text "$state")"
    # shellcheck disable=SC2086 # unit names have no spaces
    printf '"failed":[%s],' "$(list $failed)"
    printf '"cmdline":%s,' "$(text "$(cat /proc/cmdline)")"
    printf '"received":{{%s}},' "$(received)"
    printf '"available":%s}}' "${{available:-0}}"
)
for _ in 1 2 3; do
    printf '\n{REPORT_PREFIX}%s\n' "$line" >/dev/console
    sleep 2
done
sleep {_POWEROFF_DELAY}
systemctl --no-block poweroff
"""

_UNIT_TEXT = f"""[Unit]
Description=Report of the boot test

[Service]
Type=exec
ExecStart=/bin/sh /{_SCRIPT_PATH}

[Install]
WantedBy=multi-user.target
"""


def build_report_tree() -> Tree:
    """The layer at its path in the initrd."""
    files = {
        f"{LAYER_DIRECTORY}/match": "*\n",
        f"{LAYER_DIRECTORY}/enable": f"{UNIT_NAME}\n",
        f"{LAYER_DIRECTORY}/files/etc/systemd/system/{UNIT_NAME}": _UNIT_TEXT,
        f"{LAYER_DIRECTORY}/files/{_SCRIPT_PATH}": _REPORTER,
    }
    return Tree(_build_directory({tuple(path.split("/")): text for path, text in files.items()}))


def build_report_initrd() -> bytes:
    """The layer as an initrd."""
    output = io.BytesIO()
    newc.write_archive(build_report_tree(), output)
    return output.getvalue()


def _build_directory(files: dict[tuple[str, ...], str]) -> Directory:
    files_here = {path[0]: File(Metadata(0o644), Bytes(encode(text))) for path, text in files.items() if len(path) == 1}
    subdirectories = {
        name: _build_directory({path[1:]: text for path, text in files.items() if path[0] == name and len(path) > 1})
        for name in {path[0] for path in files if len(path) > 1}
    }
    return Directory(Metadata(0o755), {**files_here, **subdirectories})
