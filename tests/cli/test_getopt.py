"""GNU getopt semantics, compared with the getopt(1) of util-linux, which calls getopt_long(3)."""

from __future__ import annotations

import os
import random
import shlex
import subprocess

import pytest

from ltsp.cli.getopt import ParsedOption, getopt
from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.option import Argument, declared_options

SHORTS = {"b": Argument.REQUIRED, "c": Argument.REQUIRED, "r": Argument.OPTIONAL, "q": Argument.NONE}
LONGS = {
    "backup": Argument.REQUIRED,
    "base": Argument.REQUIRED,
    "base-dir": Argument.REQUIRED,
    "cleanup": Argument.REQUIRED,
    "revert": Argument.OPTIONAL,
    "recompress": Argument.OPTIONAL,
    "quiet": Argument.NONE,
}


def taken(line, **how):
    parsed = getopt(shlex.split(line), SHORTS, LONGS, **how)
    assert parsed.faults == ()
    return [(found.name, found.value) for found in parsed.options], list(parsed.operands)


@pytest.mark.parametrize(
    ("line", "options", "operands"),
    [
        ("-b0", [("b", "0")], []),
        ("-b 0", [("b", "0")], []),
        ("-qb0 x", [("q", None), ("b", "0")], ["x"]),
        ("-bc", [("b", "c")], []),
        ("-b -c", [("b", "-c")], []),
        ("-b --", [("b", "--")], []),
        ("-b '' x", [("b", "")], ["x"]),
        ("--backup=0", [("backup", "0")], []),
        ("--backup 0", [("backup", "0")], []),
        ("--backup=", [("backup", "")], []),
        ("--backup=a=b", [("backup", "a=b")], []),
        ("--bac 0", [("backup", "0")], []),
        ("--base 0", [("base", "0")], []),
        ("--base-=0", [("base-dir", "0")], []),
        ("-r x86", [("r", None)], ["x86"]),
        ("-r1 x86", [("r", "1")], ["x86"]),
        ("-rq", [("r", "q")], []),
        ("--revert 1", [("revert", None)], ["1"]),
        ("--revert=1", [("revert", "1")], []),
        ("--revert=", [("revert", "")], []),
        ("lab -c0", [("c", "0")], ["lab"]),
        ("lab -c0 -- -b0 --", [("c", "0")], ["lab", "-b0", "--"]),
        ("- lab", [], ["-", "lab"]),
        ("'' -q", [("q", None)], [""]),
    ],
)
def test_it_parses_arguments(line, options, operands):
    assert taken(line) == (options, operands)


def test_options_first_ends_the_options_at_the_first_operand():
    assert taken("-q image -q", options_first=True) == ([("q", None)], ["image", "-q"])
    assert taken("-q -- -q", options_first=True) == ([("q", None)], ["-q"])


def test_every_fault_is_reported_and_parsing_continues():
    parsed = getopt(["-xq", "--nope=1", "--ba=3", "--quiet=1", "--re", "-b"], SHORTS, LONGS)
    assert parsed.options == (ParsedOption("q", None),)
    assert parsed.faults == (
        "invalid option -- 'x'",
        "unrecognized option '--nope=1'",
        "option '--ba=3' is ambiguous; possibilities: '--backup' '--base' '--base-dir'",
        "option '--quiet' doesn't allow an argument",
        "option '--re' is ambiguous; possibilities: '--revert' '--recompress'",
        "option requires an argument -- 'b'",
    )
    assert getopt(["--backup"], SHORTS, LONGS).faults == ("option '--backup' requires an argument",)


def tables(options):
    every = declared_options(options)
    return {each.short: each.argument for each in every if each.short}, {each.long: each.argument for each in every}


def words(random_, shorts, longs):
    """Arguments similar to those in the tables."""
    letters = [*shorts, "x", "0", "1", "=", "-", "a b", "", "'"]
    for _ in range(random_.randrange(7)):
        match random_.randrange(8):
            case 0 | 1:
                yield "-" + "".join(random_.choice(letters) for _ in range(random_.randint(1, 4)))
            case 2 | 3 | 4:
                name = random_.choice([*longs])
                cut = name[: random_.randint(1, len(name))] if random_.random() < 0.5 else name
                yield f"--{cut}" + random_.choice(["", "", "=0", "=", "=a=b", "x"])
            case 5:
                yield random_.choice(["--", "-", "", "--=", "--=1", "---", "-=", "--nope"])
            case _:
                yield random_.choice(["image", "/", "0", "1", "a b", "-comp xz", "x,,y"])


def util_linux(arguments, shorts, longs, *, options_first, posixly_correct):
    """The result of getopt(1): options as (name, value), operands, messages."""
    command = ["getopt", "-n", "ltsp", "-s", "sh"]
    command += ["-o", ("+" if options_first else "") + "".join(each + shorts[each].value for each in shorts)]
    command += ["-l", ",".join(each + longs[each].value for each in longs), "--", *arguments]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"} | ({"POSIXLY_CORRECT": ""} if posixly_correct else {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    rest = shlex.split(done.stdout)
    options = []
    while (name := rest.pop(0)) != "--":
        bare = name.lstrip("-")
        argument = longs[bare] if name.startswith("--") else shorts[bare]
        options.append((bare, rest.pop(0) if argument is not Argument.NONE else ""))
    return options, rest, [line.removeprefix("ltsp: ") for line in done.stderr.splitlines()]


def compare(count):
    seed = random.randrange(2**32)
    random_ = random.Random(seed)
    known = [tables(options) for options in (LtspOptions, *(each.options for each in APPLETS.values()))]
    for _ in range(count):
        shorts, longs = random_.choice([*known, (SHORTS, LONGS)])
        arguments = list(words(random_, shorts, longs))
        first, posixly = random_.random() < 0.3, random_.random() < 0.1
        ours = getopt(arguments, shorts, longs, options_first=first or posixly)
        assert (
            [(found.name, found.value or "") for found in ours.options],
            list(ours.operands),
            list(ours.faults),
        ) == util_linux(arguments, shorts, longs, options_first=first, posixly_correct=posixly), (
            f"seed {seed}: {arguments}"
        )


@pytest.mark.oracle
def test_random_arguments_are_parsed_as_by_util_linux():
    compare(500)


@pytest.mark.torture
def test_ten_thousand_random_arguments_are_parsed_as_by_util_linux():
    compare(10_000)
