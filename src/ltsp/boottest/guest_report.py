"""What the booted system is asked: a layer of site configuration with a unit that reports on the console.

It travels as one more initrd behind the others, so nothing changes in the image that is tested. The unit waits until
systemd is through, prints a line of JSON (thrice, since others write to consoles too), and switches the machine off a
while later, if nobody else did.
"""

from __future__ import annotations

import io

from ltsp.boottest.console import REPORT_PREFIX
from ltsp.cpio import newc
from ltsp.tree.content import Bytes
from ltsp.tree.name import encode
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.tree import Tree

LAYER = "ltsp/site/section/9999"
"""After all sections of a site, so that nothing of theirs is laid over it."""
UNIT = "ltsp-boottest.service"
_SCRIPT = "etc/ltsp/boottest"
_SECONDS_LEFT = 60
"""From the report to the end: time for the login prompt, which getty delays until nothing else is started."""

_REPORTER = rf"""# Tells the boot test how this system is. Only sh, systemd, util-linux, sed and tr are asked for help.

# In JSON, quotes and backslashes are escaped; control characters are dropped.
text() {{ printf '"%s"' "$(printf '%s' "$1" | tr '\t\n' '  ' | tr -d '\000-\037\177' | sed 's/[\\"]/\\&/g')"; }}

# Commas between the words that a command printed.
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

# Neither the kernel nor systemd may write into the line.
echo 1 >/proc/sys/kernel/printk
kill -s RTMIN+21 1
line=$(
    printf '{{"source":%s,' "$(text "$(findmnt -n -o SOURCE /)")"
    printf '"fstype":%s,' "$(text "$(findmnt -n -o FSTYPE /)")"
    printf '"root":%s,' "$(text "$(fact ROOT)")"
    printf '"state":%s,' "$(text "$state")"
    # shellcheck disable=SC2086 # units have no blanks in their names
    printf '"failed":[%s],' "$(list $failed)"
    printf '"cmdline":%s,' "$(text "$(cat /proc/cmdline)")"
    printf '"received":{{%s}},' "$(received)"
    printf '"available":%s}}' "${{available:-0}}"
)
for _ in 1 2 3; do
    printf '\n{REPORT_PREFIX}%s\n' "$line" >/dev/console
    sleep 2
done
sleep {_SECONDS_LEFT}
systemctl --no-block poweroff
"""

_UNIT_TEXT = f"""[Unit]
Description=Report of the boot test

[Service]
Type=exec
ExecStart=/bin/sh /{_SCRIPT}

[Install]
WantedBy=multi-user.target
"""


def build_report_tree() -> Tree:
    """The layer in its place."""
    files = {
        f"{LAYER}/match": "*\n",
        f"{LAYER}/enable": f"{UNIT}\n",
        f"{LAYER}/files/etc/systemd/system/{UNIT}": _UNIT_TEXT,
        f"{LAYER}/files/{_SCRIPT}": _REPORTER,
    }
    return Tree(_directory({tuple(path.split("/")): text for path, text in files.items()}))


def build_report_initrd() -> bytes:
    """The layer as an initrd."""
    output = io.BytesIO()
    newc.write_archive(build_report_tree(), output)
    return output.getvalue()


def _directory(files: dict[tuple[str, ...], str]) -> Directory:
    here = {path[0]: File(Metadata(0o644), Bytes(encode(text))) for path, text in files.items() if len(path) == 1}
    below = {
        name: _directory({path[1:]: text for path, text in files.items() if path[0] == name and len(path) > 1})
        for name in {path[0] for path in files if len(path) > 1}
    }
    return Directory(Metadata(0o755), {**here, **below})
