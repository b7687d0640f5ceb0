"""Text of ltsp.conf never breaks out of its file, line or quotes."""

from __future__ import annotations

import io
import re
import shlex

from hypothesis import assume, given
from hypothesis import strategies as st

from ltsp.cpio import newc
from ltsp.errors import ConfError
from ltsp.initrd.site import quoting
from ltsp.initrd.site.layer import LIST_NAMES, build_site_tree
from ltsp.initrd.site.passwords import Accounts
from ltsp.initrd.site.settings import build_common_layer, build_section_layer, server_facts
from ltsp.settings.client_sections import read_client_settings
from ltsp.settings.conf import parse_conf
from ltsp.settings.conf_keys import Reader, keys_of
from ltsp.settings.resolve import Setting
from ltsp.tree.node import File

KEYS = [
    key.replace("*", "X") for key in keys_of(Reader.INITRD) if not key.startswith(("PRE_INIT", "POST_INIT", "PWMERGE"))
]
PIECES = [
    *(
        "'",
        '"',
        "\\",
        "\n",
        "\r",
        "\0",
        "\x1b",
        "\x85",
        "\u2028",
        "$(reboot)",
        "`id`",
        ";",
        "|",
        "%{IP}",
        "%{",
        "%s",
        "#",
    ),
    *("../", "/", "[Service]\n", "ExecStart=x", "a", "10.0.0.1", "* * * * *", "root", "nfs", " ", "\t", ":", "0", "1"),
    *("$6$abc$", "YWJj", "\udcff", "=", "{", "}", "+", "-", "@", "alice"),
]
VALUES = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))


def made_of(key, value):
    faults = []
    setting = Setting(key, value, "ltsp.conf:7")
    made = build_section_layer({key: setting}, {}, ("pc*",), Accounts(frozenset({"alice"})), faults, [])
    return made, faults


@given(key=st.sampled_from(KEYS), value=VALUES)
def test_a_value_is_refused_with_file_and_line_or_stays_where_it_belongs(key, value):
    made, faults = made_of(key, value)
    assert all(fault.startswith(f"ltsp.conf:7: {key}") for fault in faults)
    assert len(faults) <= 1
    for text in made.env.values():
        assert re.fullmatch(r"[A-Za-z0-9.:_%{} -]*", text), "as the shell of the client takes it, in single quotes"
    for path, pieces in made.parts.items():
        for name, text in pieces.items():
            assert text == "" or text.endswith("\n")
            if path in {"etc/hosts", "etc/fstab"} or name.startswith("CRONTAB"):
                assert text.count("\n") <= 1, "one line"
    for name in LIST_NAMES:
        for entry in getattr(made, name):
            assert re.fullmatch(r"[A-Za-z0-9:_.@\\/-]+", entry)
            assert ".." not in entry.split("/")
    for name, hashed in made.shadow.items():
        assert re.fullmatch(r"[A-Za-z0-9_.$-]+", name)
        assert re.fullmatch(r"[./A-Za-z0-9$=]*", hashed)


@given(key=st.sampled_from(KEYS), value=VALUES)
def test_every_file_of_a_layer_is_text_without_control_characters(key, value):
    made, _ = made_of(key, value)
    for path, node in made.files.items():
        assert re.fullmatch(r"[A-Za-z0-9:_.@/\\-]+", path)
        assert ".." not in path.split("/")
        if isinstance(node, File):
            text = node.content.data.decode()
            assert all(character.isprintable() or character in "\n\t" for character in text)


@given(VALUES)
def test_a_line_of_hosts_begins_with_an_address(value):
    try:
        line = quoting.check_hosts_line(value)
    except ValueError:
        return
    assume(line and not line.startswith("#"))
    first = line.split()[0]
    assert first == "%{SERVER}" or quoting.is_address(first)


@given(VALUES)
def test_settings_of_display_managers_stay_lines(value):
    try:
        text = quoting.check_ini_lines(value)
    except ValueError:
        return
    assert text == "" or text.endswith("\n")


@given(VALUES)
def test_commands_stay_unchanged(value):
    try:
        text = quoting.check_script(value)
    except ValueError:
        return
    assert text.rstrip("\n") == value.rstrip("\n")


HEADERS = ["[clients]", "[common]", "[pc*]", "[52:54:00:*]", "[192.168.67.*|a]", "[x]", "[init/]", "[init/pc1]", "[::]"]
LINES = st.one_of(
    st.sampled_from([*HEADERS, "INCLUDE=x", "INCLUDE='x clients'", "echo hello", "A=$B", "POST_INIT_A=$B"]),
    st.builds(lambda key, value: f"{key}={shlex.quote(value)}", st.sampled_from(KEYS), VALUES),
)


@given(st.lists(LINES, max_size=8))
def test_any_file_of_settings_becomes_an_archive_or_faults_with_their_lines(lines):
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    try:
        conf = parse_conf(text, "ltsp.conf")
    except ConfError:
        return
    settings = read_client_settings(conf)
    faults, warnings = list(settings.faults), list(settings.warnings)
    shared = settings.common.settings
    layers = {"common": build_common_layer(shared, Accounts(), faults, warnings, has_autologin=True)}
    for number, each in enumerate(settings.sections):
        layers[f"section/{number:04}"] = build_section_layer(
            each.settings, shared, each.match, Accounts(), faults, warnings
        )
    assert all(re.match(r"ltsp\.conf:[0-9]+: ", message) for message in (*faults, *warnings))
    archive = io.BytesIO()
    written = newc.write_archive(build_site_tree(layers, server_facts(shared)), archive)
    assert written.size == len(archive.getvalue())
