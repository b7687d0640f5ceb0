"""Completion, as bash itself does it."""

from __future__ import annotations

import os
import shlex
import subprocess

import pexpect
import pytest

from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.option import declared_options
from tools import completion


@pytest.fixture
def base(tmp_path):
    """A base directory with one source or image of each kind."""
    for directory in ("chroot/proc", "no-chroot", "images/.versions/lab/20260101T000000Z-aa", "images"):
        (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    for name in ("disk.img", "images/lab.img", "images/chroot.img"):
        (tmp_path / name).touch()
    return tmp_path


def proposals(base, *words):
    """What bash would propose for the last of the words, as readline splits them."""
    script = "\n".join(
        [
            completion.bash(),
            f"COMP_WORDS=({shlex.join(['ltsp', *words])})",
            "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))",
            "_ltsp",
            "printf '%s\\n' \"${COMPREPLY[@]}\"",
        ]
    )
    environment = {"PATH": os.environ["PATH"], "BASE_DIR": str(base)}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=base
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], sorted(APPLETS)),
        (["i"], ["image", "info", "initrd", "ipxe"]),
        (["-b", "/x", "im"], ["image"]),
        (["-b/x", "im"], ["image"]),
        (["--base-dir", "=", "/x", "im"], ["image"]),
        (["-o", "im"], ["image"]),
        (["--t"], ["--tftp-dir="]),
        (["--help", "=", "ke"], ["kernel"]),
        (["image", "--mk"], ["--mksquashfs-params="]),
        (["image", "--rev"], ["--revert"]),
        (["image", "--backup", "="], ["0", "1"]),
        (["image", "--backup", ""], ["0", "1"]),
        (["image", "-b", ""], ["0", "1"]),
        (["image", "-qb", ""], ["0", "1"]),
        (["image", "-b", "0", "--compression", "=", "z"], ["zstd"]),
        (["image", "--preset", "=", "s"], ["small"]),
        (["image", "-r", ""], ["chroot", "disk", "lab"]),
        (["image", ""], ["chroot", "disk", "lab"]),
        (["image", "l"], ["lab"]),
        (["image", "lab", "-c0", "d"], ["disk"]),
        (["image", "--", "--"], []),
        (["image", "./i"], ["./images"]),
        (["image", "-k", ""], []),
        (["versions", "lab", "--use", ""], ["20260101T000000Z-aa"]),
        (["versions", "lab", "--pin", "=", "2026"], ["20260101T000000Z-aa"]),
        (["versions", "none", "--use", ""], []),
        (["-t", "im"], ["images"]),
        (["info", ""], []),
        (["dhcp-snippet", "m"], ["mikrotik"]),
    ],
)
def test_bash_proposes(base, words, expected):
    assert proposals(base, *words) == expected


def test_a_base_directory_on_the_command_line_is_where_images_are_looked_for(base, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    assert proposals(other, "image", "") == []
    assert proposals(other, f"-b{base}", "image", "l") == ["lab"]
    assert proposals(other, "--base-dir", "=", str(base), "image", "l") == ["lab"]


@pytest.mark.parametrize("applet", APPLETS)
def test_every_long_option_is_proposed(base, applet):
    assert {word.rstrip("=") for word in proposals(base, applet, "-")} == {
        f"--{option.long}" for option in declared_options(APPLETS[applet].options)
    }


def test_an_interactive_bash_completes_at_the_tab(base, tmp_path):
    script = tmp_path / "ltsp.bash"
    script.write_text(completion.bash())
    environment = {"PATH": os.environ["PATH"], "BASE_DIR": str(base), "TERM": "dumb", "INPUTRC": "/dev/null"}
    shell = pexpect.spawn("bash", ["--norc", "--noprofile", "-i"], env=environment, timeout=20, encoding="utf-8")
    shell.sendline(f"PS1='ready> '; bind 'set enable-bracketed-paste off'; . {shlex.quote(str(script))}")
    shell.expect("ready> ")
    shell.send("ltsp im\t--backu\t0 l\t")
    shell.expect_exact("ltsp image --backup=0 lab ")
    shell.sendcontrol("u")
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    shell.close()


@pytest.mark.oracle
def test_the_script_for_zsh_is_zsh(tmp_path):
    script = tmp_path / "_ltsp"
    script.write_text(completion.zsh())
    subprocess.run(["zsh", "-n", str(script)], check=True)


@pytest.mark.oracle
def test_zsh_completes_at_the_tab(base, tmp_path):
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "_ltsp").write_text(completion.zsh())
    environment = {"PATH": os.environ["PATH"], "BASE_DIR": str(base), "TERM": "dumb", "HOME": str(tmp_path)}
    shell = pexpect.spawn("zsh", ["-f", "-i"], env=environment, timeout=20, encoding="utf-8", cwd=str(base))
    shell.sendline(f"PS1='rea''dy> '; unsetopt zle_bracketed_paste; fpath=({functions} $fpath)")
    shell.expect_exact("ready> ")
    shell.sendline("autoload -Uz compinit && compinit -D -u; echo loa''ded")
    shell.expect_exact("loaded")
    shell.send("ltsp im\t--backu\t0 la\t")
    shell.expect("--backup=(\x08=)?0 lab")  # the suffix is drawn anew
    shell.close(force=True)


@pytest.mark.parametrize("options", [LtspOptions, *(applet.options for applet in APPLETS.values())])
def test_zsh_completes_every_option(options):
    text = completion.zsh()
    assert [option.long for option in declared_options(options) if f"--{option.long}" not in text] == []


@pytest.mark.oracle
def test_the_bash_script_passes_shellcheck(tmp_path):
    script = tmp_path / "ltsp"
    script.write_text(completion.bash())
    subprocess.run(["shellcheck", "-s", "bash", str(script)], check=True)
