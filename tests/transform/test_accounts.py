"""Account files: cases by hand, and random ones in which no hash survives and nothing else is disturbed."""

import re

from hypothesis import given
from hypothesis import strategies as st

from ltsp.transform.accounts import (
    AccountSelection,
    IdRanges,
    clean_group,
    clean_gshadow,
    clean_passwd,
    clean_shadow,
    clean_subordinate_ids,
    find_kept_groups,
)

LIMITS = IdRanges()
PASSWD = b"""root:x:0:0:root:/root:/bin/bash
daemon:*:1:1::/:
_weird.name$:x:105:65534::/nonexistent:/usr/sbin/nologin
alice:x:1000:1000:Alice,,,:/home/alice:/bin/bash
bob:$6$salt$hash:60000:60000::/home/bob:
# a comment: $y$j9T$abc$def
old\xff:abcdefghijklm:200:200:Jos\xe9:/:

nobody:x:65534:65534::/:
service:x:999:1005::/:
+@people:$1$salt$hash::::
+::::::
broken
"""
GROUP = b"""root:x:0:
adm:$6$salt$hash:4:alice,daemon,carol,root
alice:x:1000:
people:x:1001:alice,bob
mixed:x:1002:bob,service,alice,root
primary:x:1005:
high:x:65534:bob
+:::
"""


def people():
    return AccountSelection.parse(PASSWD, LIMITS)


def test_people_go_and_everyone_else_stays_in_order():
    assert clean_passwd(PASSWD, LIMITS) == (
        b"root:x:0:0:root:/root:/bin/bash\ndaemon:*:1:1::/:\n_weird.name$:x:105:65534::/nonexistent:/usr/sbin/nologin\n"
        b"# a comment: x\nold\xff:x:200:200:Jos\xe9:/:\n\nnobody:x:65534:65534::/:\nservice:x:999:1005::/:\n"
        b"+@people:x::::\n+::::::\nbroken\n"
    )


def test_groups_of_people_stay_only_for_an_account_that_stays():
    assert clean_group(GROUP, people(), LIMITS) == (
        b"root:x:0:\nadm:x:4:daemon,root\nmixed:x:1002:service,root\nprimary:x:1005:\nhigh:x:65534:\n+:::\n"
    )


def test_each_account_that_stays_is_locked_root_too():
    text = b"root:$6$a$b:19000:0:99999:7:::\nalice:$y$a$b:1::::::\ndaemon:*:1::::::\nghost:$6$a$b:1::::::\n+::::::::\n"
    assert clean_shadow(text, people()) == b"root:!:::::::\ndaemon:!:::::::\n+::::::::\n"


def test_groups_lose_passwords_and_administrators():
    groups = find_kept_groups(GROUP, people(), LIMITS)
    text = b"root:$6$a$b:alice:alice,daemon\npeople:!::alice\nadm:*:root:root\nghost:!::root\n"
    assert clean_gshadow(text, people(), groups) == b"root:*::daemon\nadm:*::root\n"


def test_removed_people_leave_the_lists_of_subordinate_ids():
    text = b"alice:100000:65536\n1000:1:2\nservice:1:2\ncontainers:2147483647:2147483648\n999:3:4\n"
    assert clean_subordinate_ids(text, people(), LIMITS) == b"service:1:2\ncontainers:2147483647:2147483648\n999:3:4\n"


def test_the_limits_are_those_of_the_images_login_defs():
    text = b"# UID_MIN 5\nUID_MIN\t\t 500\nUID_MAX 0x7d0 # 2000\nGID_MIN 01750\nGID_MAX x\nSYS_UID_MIN 1\n"
    assert IdRanges.parse([text]) == IdRanges(500, 2000, 1000, 60000)
    assert IdRanges.parse([text, b"UID_MIN 700\n"]).uid_min == 700
    assert IdRanges.parse([b"UID_MIN 0999\n"]).uid_min == 999
    assert IdRanges.parse([]) == IdRanges(1000, 60000, 1000, 60000)


def test_root_stays_whatever_the_limits_say():
    assert clean_passwd(b"root:x:0:0::/:\n", IdRanges(0, 10, 0, 10)) == b"root:x:0:0::/:\n"


def test_a_number_of_thousands_of_digits_is_invalid():
    line = b"a:x:" + b"9" * 5000 + b":0::/:\n"
    assert clean_passwd(line, LIMITS) == line


def test_a_name_that_stays_on_one_line_and_goes_on_another_stays():
    both = AccountSelection.parse(b"twin:x:5:5::/:\ntwin:x:1000:1000::/:\n", LIMITS)
    assert both.kept == {b"twin"}
    assert both.removed == frozenset()


HASH = st.sampled_from(
    [b"$6$Hs$Hh/.", b"$y$j9T$Hs$Hh", b"$2b$12$Hh", b"HhHhHhHhHhHhH", b"$gy$j9T$Hh", b"$5$rounds=9$H$Hh"]
)
SECRET = re.compile(rb"Hh")
NAME = st.from_regex(rb"[a-z_\xc3\xff][a-z0-9_-]{0,5}", fullmatch=True)
ID = st.one_of(st.integers(0, 2000), st.integers(59990, 70000)).map(lambda number: b"%d" % number)
ACCOUNT = st.tuples(NAME, st.one_of(HASH, st.sampled_from([b"x", b"", b"*", b"!"])), ID, ID).map(
    lambda fields: b":".join((*fields, b"gecos \xe9", b"/home", b"/bin/sh"))
)
ODD = st.sampled_from(
    [b"", b"# note", b"+::::::", b"+@net::::::", b"-gone::::::", b"broken", b"a:b", b"#x:$6$Hs$Hh:1:1", b"\xff"]
)
TEXT = st.lists(st.one_of(ACCOUNT, ODD), max_size=12).map(lambda lines: b"\n".join(lines) + b"\n")
LINE = st.tuples(NAME, HASH, ID, st.lists(NAME, max_size=4).map(b",".join)).map(b":".join)
GROUPS = st.lists(LINE, max_size=12).map(lambda lines: b"\n".join(lines) + b"\n")


@given(TEXT, GROUPS, st.integers(0, 3000), st.integers(0, 70000))
def test_no_hash_survives_in_any_account_file(text, groups, low, high):
    limits = IdRanges(low, high, low, high)
    found = AccountSelection.parse(text, limits)
    names = find_kept_groups(groups, found, limits)
    written = [
        clean_passwd(text, limits),
        clean_group(groups, found, limits),
        clean_shadow(text, found),
        clean_gshadow(groups, found, names),
        clean_subordinate_ids(text.replace(b"Hh", b""), found, limits),
    ]
    assert not any(map(SECRET.search, written))


@given(TEXT, st.integers(0, 3000), st.integers(0, 70000))
def test_what_stays_keeps_its_order_and_its_other_fields(text, low, high):
    limits = IdRanges(low, high, low, high)
    rest = iter(text.split(b"\n"))
    for line in clean_passwd(text, limits).split(b"\n"):
        fields = line.split(b":")
        assert any(_same(fields, other.split(b":")) for other in rest)


def _same(new, old):
    return len(new) == len(old) and all(
        mine == other or mine in (b"x", b"#x") for mine, other in zip(new, old, strict=True)
    )


@given(TEXT, GROUPS)
def test_cleaning_twice_is_cleaning_once(text, groups):
    once = clean_passwd(text, LIMITS)
    found, again = AccountSelection.parse(text, LIMITS), AccountSelection.parse(once, LIMITS)
    assert clean_passwd(once, LIMITS) == once
    assert again.kept == found.kept
    assert clean_group(clean_group(groups, found, LIMITS), again, LIMITS) == clean_group(groups, found, LIMITS)
    assert clean_shadow(clean_shadow(text, found), again) == clean_shadow(text, found)


@given(TEXT, GROUPS)
def test_no_one_who_went_is_a_member_of_anything(text, groups):
    found = AccountSelection.parse(text, LIMITS)
    for line in clean_group(groups, found, LIMITS).split(b"\n"):
        fields = line.split(b":")
        members = set(fields[3].split(b",")) if len(fields) > 3 else set()
        assert members - {b""} <= found.kept
