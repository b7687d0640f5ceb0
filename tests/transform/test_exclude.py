"""Exclusions: the built-in list, its tuning, and the same paths left out as the real mksquashfs leaves out."""

import os
import re
import subprocess
import time

import pytest

from corpus.dict_tree import make_tree, paths
from ltsp.errors import ConfError, UsageError
from ltsp.transform.exclude import (
    Exclusions,
    make_path_selection,
    make_wildcard_selection,
    parse_exclude_file,
    tune_image_excludes,
)
from ltsp.transform.rules import MKSQUASHFS_SYNTAX, parse_lines
from ltsp.tree.selection import Inclusion


def built_in():
    return Exclusions(line.text for line in tune_image_excludes(None, iter(()), iter(())).lines)


def tuned(site=None, add="", omit=""):
    own = None if site is None else parse_lines(site, "/etc/ltsp/image.excludes")
    return tune_image_excludes(own, parse_lines(add, "ADD_IMAGE_EXCLUDES"), parse_lines(omit, "OMIT_IMAGE_EXCLUDES"))


EMPTIED = "cdrom dev home lost+found media mnt proc root run srv sys tmp var/tmp var/mail var/crash var/lib/mysql"


@pytest.mark.parametrize("directory", EMPTIED.split())
def test_a_directory_whose_entries_are_all_left_out_stays_and_is_not_opened(directory):
    exclusions = built_in()
    assert exclusions.select_path(directory, True) is Inclusion.EMPTIED
    assert exclusions.select_path(f"{directory}/.hidden", False) is Inclusion.NOTHING
    assert exclusions.select_path(f"{directory}/a/b", False) is Inclusion.NOTHING
    assert exclusions.find_rule(f"{directory}/a/b") == f"{directory}/*"
    assert exclusions.find_rule(directory) is None


LEFT_OUT = """etc/epoptes/server.key etc/.git etc/.git/config etc/.pwd.lock etc/.javax etc/mysql/debian.cnf
    etc/NetworkManager/system-connections/.hidden etc/ssh/ssh_host_rsa_key.pub opt/ltsp5 swapfile var/swap
    etc/udev/rules.d/70-persistent-net.rules var/backups/passwd.bak var/cache/apt/archives/a.deb var/log/syslog.1
    var/log/dpkg.log.2.gz var/log/Xorg.0.log.old var/log/apt/history.log var/spool/cron/crontabs/alice
    var/spool/cups/c00001 var/spool/squid/00 var/lib/apt/lists/x var/lib/sudo/lectured var/lib/systemd/linger/alice"""
KEPT = """etc etc/.java etc/.java/x etc/passwd etc/ssh/sshd_config etc/udev/rules.d/10-persistent.rules home
    opt/google var/log/syslog var/log/lastlog var/log/apt usr usr/share/home/x var/lib var/spool/cron/crontabs
    swapfile2 usr/etc/.git var/cache/apt/pkgcache.bin"""


@pytest.mark.parametrize("path", LEFT_OUT.split())
def test_the_built_in_list_leaves_out(path):
    assert built_in().select_path(path, False) is Inclusion.NOTHING
    assert built_in().find_rule(path) is not None


@pytest.mark.parametrize("path", KEPT.split())
def test_the_built_in_list_keeps(path):
    assert built_in().select_path(path, False) is Inclusion.ALL
    assert built_in().find_rule(path) is None


def test_the_sites_list_replaces_the_built_in_one():
    assert [line.text for line in tuned("# mine\n\nopt/*\n  srv/* \r\n").lines] == ["opt/*", "srv/*"]


def test_lines_are_added_once_and_taken_out_exactly():
    result = tuned("a\nb\nc\n", add="d\na\n", omit="b\n")
    assert [line.text for line in result.lines] == ["a", "c", "d"]
    assert [line.text for line in result.omitted] == ["b"]
    assert result.warnings == ()


def test_an_omitted_line_that_is_not_in_the_list_is_warned_of_with_the_one_that_was_meant():
    (warning,) = tuned(omit="# these:\nhome/**\n").warnings
    assert warning == "OMIT_IMAGE_EXCLUDES, line 2: home/** is not in the list; did you mean home/*?"


@pytest.mark.parametrize("bad", ["/home/*", "./home", "../x", "a/../b", "a/./b", "... /", "a/b\\", "a\0b"])
def test_a_bad_line_is_named_by_file_and_line(bad):
    with pytest.raises(ConfError, match=re.escape("/etc/ltsp/image.excludes, line 2: ")):
        tuned(f"opt/*\n{bad}\n")


def test_all_bad_lines_are_named_at_once():
    with pytest.raises(ConfError, match=r"line 1.*line 3"):
        tuned("/a\nb\n/c\n")


def test_an_omitted_line_lets_its_directory_in():
    exclusions = Exclusions(line.text for line in tuned(omit="srv/*").lines)
    assert exclusions.select_path("srv", True) is Inclusion.ALL
    assert exclusions.select_path("srv/www", True) is Inclusion.ALL


def test_a_backslash_begins_a_name_with_a_sign_that_would_mean_something():
    assert [line.text for line in parse_lines("\\#a\n\\ b\n", "x")] == ["#a", " b"]


def test_a_file_of_mksquashfs_keeps_the_white_space_at_the_end_of_a_line():
    assert parse_exclude_file("# c\n  a \n\n\\#b\n\\\n") == ["a ", "#b"]


@pytest.mark.parametrize("pattern", ["/a", "./a", "../a"])
def test_mksquashfs_refuses_patterns_that_do_not_begin_at_the_root(pattern):
    with pytest.raises(UsageError, match="cannot exclude"):
        make_wildcard_selection([pattern])


def test_a_sticky_pattern_holds_in_every_directory():
    take = make_wildcard_selection(["... *.pyc", "... cache/tmp"])
    assert take("a.pyc", False) is take("usr/lib/x/a.pyc", False) is take("v/cache/tmp", True) is Inclusion.NOTHING
    assert take("cache", True) is take("tmp", True) is Inclusion.ALL


def test_excluding_without_wildcards_goes_by_inode():
    """So do mksquashfs's -e and -ef: links on the way are followed, other names of the file go too."""
    tree = make_tree({"usr/lib/a": b"1", "lib": "-> usr/lib", "link": "-> usr/lib/a", "d/e": b"2"})
    tree = tree.edit({"twin": tree.get("usr/lib/a")})
    assert paths(tree) - paths(tree.select(make_path_selection(tree, ["lib/a"]))) == {"usr/lib/a", "twin"}
    assert paths(tree) - paths(tree.select(make_path_selection(tree, ["link"]))) == {"link"}
    assert paths(tree) - paths(tree.select(make_path_selection(tree, ["lib/"]))) == {"usr/lib", "usr/lib/a"}
    assert paths(tree) - paths(tree.select(make_path_selection(tree, ["d", "missing", "usr/lib/a/"]))) == {"d", "d/e"}


def test_a_source_deeper_than_the_stack_is_read():
    assert built_in().select_path("/".join(["var", "log", "d", *["x"] * 2000]), False) is Inclusion.NOTHING


def test_a_path_takes_about_a_microsecond():
    exclusions = built_in()
    asked = [(f"usr/share/d{number}/file{entry}", False) for number in range(200) for entry in range(100)]
    best = min(_seconds(exclusions, asked) for _ in range(5)) / len(asked)
    assert best < 10e-6  # 0.5 µs on the machine it was written on; a slow and busy one has room


def _seconds(exclusions, asked):
    begin = time.perf_counter()
    for path, directory in asked:
        exclusions.select_path(path, directory)
    return time.perf_counter() - begin


NAMES = ["a", "b", ".a", ".b", "ab", "a.b", "c", "log.1", "x y", "-"]
COMPONENTS = [
    "a",
    "b",
    ".a",
    "*",
    "?",
    ".*",
    "a*",
    "*b",
    "[ab]",
    "[!a]",
    "!(a)",
    ".!(a)",
    "!(a|b)",
    "@(a|c)",
    "+(a)",
    "?(a)b",
    "*.[1-9]",
    "[[:alpha:]]",
    "??*",
    "!(*.*)",
    "c",
]


def _lay_out(chance, root, depth=0):
    root.mkdir()
    for name in chance.sample(NAMES, chance.randint(1, 6)):
        if depth < 3 and chance.random() < 0.5:
            _lay_out(chance, root / name, depth + 1)
        else:
            (root / name).touch()


def _packed(root, image, arguments):
    subprocess.run(
        [
            "mksquashfs",
            root,
            image,
            "-noappend",
            "-quiet",
            "-no-progress",
            "-noI",
            "-noD",
            "-noF",
            "-processors",
            "1",
            *arguments,
        ],
        check=True,
        capture_output=True,
    )
    listed = subprocess.run(["unsquashfs", "-l", "-d", "", image], check=True, capture_output=True, text=True).stdout
    return {line.removeprefix("/") for line in listed.splitlines() if line not in ("", "/")}


def _taken(root, take):
    taken = set()
    for directory, directories, files in os.walk(root):
        above = os.path.relpath(directory, root)
        answers = {
            name: take(os.path.normpath(os.path.join(above, name)), name in directories) for name in directories + files
        }
        taken |= {
            os.path.normpath(os.path.join(above, name)) for name in answers if answers[name] is not Inclusion.NOTHING
        }
        directories[:] = [name for name in directories if answers[name] is Inclusion.ALL]
    return taken


@pytest.mark.oracle
@pytest.mark.parametrize("number", range(12))
def test_random_wildcards_leave_out_what_mksquashfs_leaves_out(chance, tmp_path, number):
    root = tmp_path / "root"
    _lay_out(chance, root)
    patterns = [
        ("... " if chance.random() < 0.15 and depth == 1 else "")
        + "/".join(chance.choice(COMPONENTS) for _ in range(depth))
        for depth in (chance.choice([1, 1, 2, 2, 3]) for _ in range(chance.randint(1, 4)))
    ]
    arguments = ["-wildcards", "-e", *patterns]
    if number % 2:
        listed = tmp_path / "list"
        listed.write_text("# patterns\n\n" + "".join(f"  {pattern}\n" for pattern in patterns))
        arguments = ["-wildcards", "-ef", listed]
        assert parse_exclude_file(listed.read_text()) == patterns
    assert _taken(root, make_wildcard_selection(patterns)) == _packed(root, tmp_path / "image", arguments), patterns


def test_our_own_lists_differ_from_mksquashfs_in_leading_dots_alone():
    """`home/*` there leaves home/.ecryptfs in."""
    assert Exclusions(["home/*"], MKSQUASHFS_SYNTAX).select_path("home/.ecryptfs", True) is Inclusion.ALL
    assert Exclusions(["home/*"], MKSQUASHFS_SYNTAX).select_path("home", True) is Inclusion.ALL
    assert Exclusions(["home/*"]).select_path("home/.ecryptfs", True) is Inclusion.NOTHING
