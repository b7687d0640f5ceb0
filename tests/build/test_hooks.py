from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from corpus.system import make_system
from ltsp.build import hooks
from ltsp.cli.console import ConsoleOptions, make_report
from ltsp.errors import ConfError, LtspError, SourceError, UsageError
from ltsp.settings.applets import LtspOptions
from ltsp.settings.resolve import Hooks, Setting
from ltsp.source.combine import CombinedSource
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all


def hook(key: str, command: str) -> Setting:
    return Setting(key, command, f"/etc/ltsp/ltsp.conf:{len(key)}")


def executable(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


@pytest.fixture
def said():
    return io.StringIO()


@pytest.fixture
def to(said):
    return make_report(ConsoleOptions("plain"), io.StringIO(), said, {})


@pytest.fixture
def source(tmp_path):
    return DirectorySource("lab", str(make_system(tmp_path / "chroot")), "chroot lab")


def opened(source) -> set[str]:
    with source.lock_package_manager(0, str), source.open(select_all, Faults()) as tree:
        return {path for path, _ in tree.walk()}


def test_commands_of_ltsp_conf_come_before_executables_each_in_order(tmp_path):
    for name in ("10-b", "Z", "a", "9-a"):
        executable(tmp_path / "image.d" / name, "true")
    (tmp_path / "image.d/a.dpkg-old").touch(0o755)
    (tmp_path / "image.d/backup~").touch(0o755)
    (tmp_path / "image.d/README").touch(0o644)
    (tmp_path / "image.d/directory").mkdir()
    found = hooks.find_commands_before(Hooks(pre_hooks=(hook("PRE_IMAGE_a", "x"),)), str(tmp_path / "image.d"))
    assert [each.name.removeprefix(f"{tmp_path}/image.d/") for each in found] == [
        "PRE_IMAGE_a",
        "10-b",
        "9-a",
        "Z",
        "a",
    ]


def test_no_directory_means_no_executables(tmp_path):
    assert hooks.find_commands_before(Hooks(), str(tmp_path / "none")) == ()


@pytest.mark.parametrize("place", ["image.d", "image.d/script"])
def test_executables_writable_by_everyone_are_not_run(tmp_path, place):
    executable(tmp_path / "image.d/script", "true")
    (tmp_path / place).chmod(0o777)
    with pytest.raises(ConfError, match=f"{place} is writable by everyone"):
        hooks.find_commands_before(Hooks(), str(tmp_path / "image.d"))


def test_commands_get_variables_and_their_output_is_shown(source, to, said):
    told = hooks.make_environment(source, LtspOptions(base_dir="/base", tftp_dir="/tftp"))
    commands = hooks.find_commands_before(
        Hooks(
            pre_hooks=(
                hook("PRE_IMAGE_a", "echo \"$LTSP_IMAGE $LTSP_SOURCE $LTSP_BASE_DIR $LTSP_TFTP_DIR\"; echo '\033' >&2"),
            )
        ),
        "/nowhere",
    )
    hooks.run(commands, told, to, "nothing happened")
    assert said.getvalue().splitlines() == [
        "running PRE_IMAGE_a",
        "PRE_IMAGE_a: lab chroot lab /base /tftp",
        "PRE_IMAGE_a: \\x1b",
    ]


def test_the_first_command_that_fails_stops_the_build_and_is_named(source, to, said):
    commands = hooks.find_commands_before(
        Hooks(pre_hooks=(hook("PRE_IMAGE_a", "echo why; exit 3"), hook("PRE_IMAGE_b", "echo never"))), "/nowhere"
    )
    with pytest.raises(LtspError) as caught:
        opened(hooks.attach_commands(source, commands, {}, to))
    assert caught.value.message == "/etc/ltsp/ltsp.conf:11: PRE_IMAGE_a: sh failed with exit status 3"
    assert caught.value.hint == "the image was not made"
    assert "never" not in said.getvalue()


def test_a_command_that_does_not_mention_the_root_is_run_before_the_source_is_read(source, to):
    commands = hooks.find_commands_before(
        Hooks(pre_hooks=(hook("PRE_IMAGE_a", f"touch {source.path}/opt/new; ! env | grep ^LTSP_R"),)), ""
    )
    found = hooks.attach_commands(source, commands, {}, to)
    assert (found.name, found.kind, found.description) == (source.name, source.kind, source.description)
    assert found.plan() == source.plan()
    assert not Path(source.path, "opt/new").exists()
    assert "opt/new" in opened(found)


def test_without_commands_the_source_is_unchanged(source, to):
    assert hooks.attach_commands(source, (), {}, to) is source


@pytest.mark.root
def test_changes_below_ltsp_root_go_into_the_image_but_not_the_source(tmp_path, source, to):
    script = executable(tmp_path / "image.d/10-apps", 'rm "$LTSP_ROOT/etc/fstab" && test -e "$LTSP_ROOT/opt/first"')
    commands = hooks.find_commands_before(
        Hooks(pre_hooks=(hook("PRE_IMAGE_a", "touch $LTSP_ROOT/opt/first"),)), str(script.parent)
    )
    before = set(os.listdir(f"{source.path}/opt"))
    paths = opened(hooks.attach_commands(source, commands, {}, to))
    assert "opt/first" in paths
    assert "etc/fstab" not in paths
    assert set(os.listdir(f"{source.path}/opt")) == before
    assert Path(source.path, "etc/fstab").exists()


def test_a_source_without_writable_view_is_an_error_before_any_work(source, to, said):
    commands = hooks.find_commands_before(
        Hooks(pre_hooks=(hook("PRE_IMAGE_a", "echo ran"), hook("PRE_IMAGE_b", "touch $LTSP_ROOT/x"))), "/nowhere"
    )
    with pytest.raises(SourceError, match=r"^/etc/ltsp/ltsp\.conf:11: PRE_IMAGE_b uses LTSP_ROOT, but chroot lab"):
        hooks.attach_commands(CombinedSource(source, (), lambda _path: source), commands, {}, to)
    assert said.getvalue() == ""


def test_commands_after_the_image_cannot_use_ltsp_root():
    with pytest.raises(UsageError) as caught:
        hooks.list_commands_after(Hooks(post_hooks=(hook("POST_IMAGE_x", "touch $LTSP_ROOT/x"),)))
    assert caught.value.hint == "rename it to PRE_IMAGE_x"
    (command,) = hooks.list_commands_after(Hooks(post_hooks=(hook("POST_IMAGE_x", "true"),)))
    assert command.arguments == ("/bin/sh", "-c", "true")
