"""Whole command lines, with ltsp.conf and environment."""

from __future__ import annotations

import pytest

from ltsp.cli.command_line import HelpRequest, VersionRequest, parse_command_line
from ltsp.cli.invocation import Invocation
from ltsp.errors import ConfError, UsageError
from ltsp.host.identity import Identity
from ltsp.settings.image_options import ImageOptions, KernelOptions
from ltsp.settings.version_options import VersionsOptions


@pytest.fixture
def run(tmp_path):
    """Parses a command line; `conf` is the text of ltsp.conf."""
    path = tmp_path / "ltsp.conf"

    def parsed(*arguments, conf="", **environ):
        path.write_text(conf)
        path.chmod(0o600)
        return parse_command_line(
            arguments, environ, conf_path=str(path), identity=lambda: Identity((), (), "server01")
        )

    return parsed


@pytest.mark.parametrize(
    ("line", "options", "operands"),
    [
        ("image /", {}, ["/"]),
        ("image -b0 lab", {"backup": False}, ["lab"]),
        ("image lab -c0", {"cleanup": False}, ["lab"]),
        ("image --back=0 --clean 0", {"backup": False, "cleanup": False}, []),
        ("image -r x86", {"revert": True}, ["x86"]),
        ("image -r1 x86", {"revert": True}, ["x86"]),
        ("image -r0 x86", {"revert": False}, ["x86"]),
        ("image --revert=1 /", {"revert": True}, ["/"]),
        ("image -- -b", {}, ["-b"]),
        ("image --threads=2 --preset small", {"threads": 2, "preset": "small"}, []),
        ("image /,,/boot,subdir=boot,,/opt,subdir=opt", {}, ["/,,/boot,subdir=boot,,/opt,subdir=opt"]),
    ],
)
def test_options_and_operands_of_the_manual_page(run, line, options, operands):
    found = run(*line.split())
    assert isinstance(found, Invocation)
    assert (found.applet, found.options, list(found.operands)) == ("image", ImageOptions(**options), operands)
    assert (found.warnings, found.hooks.pre_hooks, found.hooks.post_hooks) == ((), (), ())


def test_a_section_with_a_name_similar_to_a_role_causes_a_warning(run):
    (warning,) = run("image", "lab", conf="[sever]\nBACKUP=0\n", BACKUP="1").warnings[-1:]
    assert warning.endswith("ltsp.conf:1: [sever] matches a computer named sever; did you mean [server]?")


def test_revert_needs_no_source_but_a_name(run):
    found = run("image", "-r", "--name=lab")
    assert (found.options.name, found.options.revert, found.operands) == ("lab", True, ())


def test_values_with_spaces_and_hyphens_are_kept_whole(run):
    assert run("image", "-m", "-comp xz").options.mksquashfs_params == ("-comp", "xz")
    assert run("image", "--ionice=", "x86_64").options.ionice == ()
    rule = "live/vmlinuz-* s|vmlinuz|initrd.img|"
    assert run("kernel", f"--kernel-initrd={rule}", "x").options == KernelOptions(kernel_initrd=rule)


def test_options_before_the_applet_reach_every_applet(run):
    for applet in ("image", "kernel", "info", "versions"):
        found = run("-b/data", "--tftp-dir", "/tftp", applet)
        assert (found.ltsp.base_dir, found.ltsp.tftp_dir, found.applet) == ("/data", "/tftp", applet)
    assert run("-b", "/data", "image", "-b", "0").options.backup is False


def test_the_command_line_overrides_ltsp_conf_and_environment(run):
    conf = "[server]\nCLEANUP=0\nTFTP_DIR=/conf\nPRE_IMAGE_A='touch x'\nCOMPRESION=xz\n"
    found = run("image", "-c1", conf=conf, BACKUP="0", TFTP_DIR="/environment")
    assert (found.options.cleanup, found.options.backup, found.ltsp.tftp_dir) == (True, False, "/conf")
    assert [hook.value for hook in found.hooks.pre_hooks] == ["touch x"]
    assert [line.rpartition("ltsp.conf:")[2] for line in found.warnings] == [
        "5: unknown key COMPRESION; did you mean COMPRESSION?"
    ]


def test_the_environment_may_name_ltsp_conf(tmp_path):
    path = tmp_path / "other.conf"
    path.write_text("BACKUP=0")
    assert parse_command_line(["image"], {"LTSP_CONF": str(path)}).options.backup is False
    with pytest.raises(ConfError, match="No such file"):
        parse_command_line(["image"], {"LTSP_CONF": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("line", "page"),
    [
        ("--help", ""),
        ("-h", ""),
        ("--help=image", "image"),
        ("-himage", "image"),
        ("--help image", "image"),
        ("--help= kernel", "kernel"),
        ("image --help", "image"),
        ("image -h /", "image"),
        ("versions -h", "versions"),
        ("image --nonsense -h", "image"),
    ],
)
def test_help_is_requested(run, line, page):
    assert run(*line.split(), conf="A=$(code)") == HelpRequest(page)


def test_the_version_is_requested(run):
    assert run("-V") == run("--version", "image") == VersionRequest()


def test_posixly_correct_ends_the_options_at_the_first_operand(run):
    assert run("image", "lab", "-c0", POSIXLY_CORRECT="").operands == ("lab", "-c0")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no applet given"),
        ("-b /x", "no applet given"),
        ("imgae", "unknown applet 'imgae'"),
        ("--help=nope", "unknown applet 'nope'"),
        ("--nope image", "unrecognized option '--nope'"),
        ("image -x -b", "invalid option -- 'x'; option requires an argument -- 'b'"),
        ("image -b2 --wait=x", "option --wait: 'x' is not a whole number; option -b: '2' is neither 0 nor 1"),
        ("image --name=a,b x", "option --name: 'a,b' must not contain a comma; a-b is valid"),
        ("image --name=a", "option --name requires exactly one source, but 0 are given"),
        ("image --name=a b c", "option --name requires exactly one source, but 2 are given"),
        ("image -r --name=a b c", "option --name requires exactly one image, but 2 are given"),
        ("kernel --name=a b c", "option --name requires exactly one source, but 2 are given"),
        ("info x", "ltsp info takes no argument, but 'x' is given"),
        ("versions x --keep 2", "option --keep requires --prune"),
        ("versions --use v", "--use, --pin, --unpin and --remove require exactly one image, but 0 are given"),
        ("versions a b --pin v", "--use, --pin, --unpin and --remove require exactly one image, but 2 are given"),
        ("versions --remove-all", "option --remove-all requires the names of the images"),
        ("versions x --force", "option --force requires --remove-all"),
        (
            "versions x --remove-all --prune",
            "option --remove-all cannot be combined with --use, --pin, --unpin, --remove or --prune",
        ),
        ("-b image", "no applet given"),
    ],
)
def test_a_wrong_command_line_is_reported_in_one_line(run, line, message):
    with pytest.raises(UsageError) as caught:
        run(*line.split())
    assert caught.value.message == message
    assert caught.value.hint


def test_faults_of_all_origins_are_reported_at_once(run):
    with pytest.raises(UsageError, match=r"^option -b: .*ltsp\.conf:1: CLEANUP: .*environment: THREADS: "):
        run("image", "-b", "x", conf="CLEANUP=x", THREADS="x")


def test_an_option_of_the_applet_before_it_is_an_option_of_ltsp(run):
    with pytest.raises(UsageError, match="invalid option -- 'r'"):
        run("-r", "image")


def test_code_in_ltsp_conf_is_refused_before_anything_is_done(run):
    with pytest.raises(ConfError, match=r"ltsp\.conf:2: command substitution is not supported"):
        run("image", conf="[server]\nBACKUP=$(id)\n")


def test_versions_of_an_image_are_selected_by_name(run):
    found = run("versions", "lab", "--pin", "a", "--pin=b", "--unpin", "c")
    assert found.options == VersionsOptions(pin=("a", "b"), unpin=("c",))
