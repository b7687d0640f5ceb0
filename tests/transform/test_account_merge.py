"""The server's people in the account files of an image."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ltsp.errors import ConfError
from ltsp.transform.account_merge import AccountFiles, UserSelection, list_accounts, list_users, merge_accounts
from ltsp.transform.accounts import IdRanges

SERVER = AccountFiles(
    b"root:x:0:0:root:/root:/bin/bash\n"
    b"daemon:x:1:1::/:/usr/sbin/nologin\n"
    b"alice:$6$a$b:1000:1000:Alice \xfc,,,:/home/alice:/bin/bash\n"
    b"bob:x:1001:100:Bob:/home/bob:/bin/zsh\n"
    b"nobody:x:65534:65534::/:/usr/sbin/nologin\n"
    b"+::::::\n",
    b"root:x:0:\naudio:x:29:alice,pulse\nusers:x:100:\nwheel:x:10:bob\nalice:x:1000:\n"
    b"class:x:1100:alice,bob,gone\nempty:x:1101:gone\n",
)
IMAGE = AccountFiles(
    b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\n+::::::\n",
    b"root:x:0:\naudio:x:63:pulse\nusers:x:100:\n",
    b"root:!:::::::\ndaemon:!:::::::\n",
    b"root:*::\naudio:*::pulse\nusers:*::\n",
)


def test_people_come_with_names_numbers_and_groups_and_without_hashes():
    merged = merge_accounts(SERVER, IMAGE)
    assert merged.conflicts == ()
    assert merged.accounts_to_lock == ()
    assert merged.merged_users == ("alice", "bob")
    assert merged.files == {
        "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\n"
        b"alice:x:1000:1000:Alice \xfc,,,:/home/alice:/bin/bash\nbob:x:1001:100:Bob:/home/bob:/bin/zsh\n+::::::\n",
        "etc/group": b"root:x:0:\naudio:x:63:pulse,alice\nusers:x:100:\nalice:x:1000:\nclass:x:1100:alice,bob\n",
        "etc/shadow": b"root:!:::::::\ndaemon:!:::::::\nalice:!:::::::\nbob:!:::::::\n",
        "etc/gshadow": b"root:*::\naudio:*::pulse,alice\nusers:*::\nalice:!::\nclass:!::alice,bob\n",
    }


def test_merging_again_changes_nothing():
    merged = merge_accounts(SERVER, IMAGE).files
    again = replace(
        IMAGE,
        passwd=merged["etc/passwd"],
        group=merged["etc/group"],
        shadow=merged["etc/shadow"],
        gshadow=merged["etc/gshadow"],
    )
    assert merge_accounts(SERVER, again).files == {}


def test_a_server_without_people_changes_nothing():
    assert merge_accounts(AccountFiles(b"root:x:0:0::/:\n", b"root:x:0:\n"), IMAGE).files == {}


@pytest.mark.parametrize(
    ("choice", "people"),
    [
        (UserSelection(), ("alice", "bob")),
        (UserSelection(users="al.*"), ("alice",)),
        (UserSelection(users="al"), ()),
        (UserSelection(users="^(?!alice).*"), ("bob",)),
        (UserSelection(groups="class"), ("alice", "bob")),
        (UserSelection(groups="wheel"), ()),
        (UserSelection(groups=":wheel"), ("bob",)),
        (UserSelection(groups=":users"), ("bob",)),
        (UserSelection(users="alice", groups=":wheel"), ("alice", "bob")),
    ],
)
def test_expressions_choose_who_comes(choice, people):
    assert merge_accounts(SERVER, IMAGE, choice).merged_users == people


def test_an_invalid_expression_is_refused():
    with pytest.raises(ConfError, match="PWMERGE_SUR"):
        merge_accounts(SERVER, IMAGE, UserSelection(users="("))


def test_an_account_of_the_image_s_system_wins_over_a_person_of_its_name_or_number():
    image = replace(IMAGE, passwd=IMAGE.passwd + b"alice:x:120:120::/:\n", id_ranges=IdRanges(uid_min=1002))
    image = replace(image, passwd=image.passwd + b"kiosk:x:1001:1001::/:\n")
    merged = merge_accounts(SERVER, image)
    assert merged.merged_users == ()
    assert merged.conflicts == (
        "alice is left out: the image has a system account of that name (UID 120)",
        "bob is left out: the image's system account kiosk has UID 1001",
    )
    assert "etc/passwd" not in merged.files


def test_a_person_of_the_image_gives_way():
    image = replace(IMAGE, passwd=IMAGE.passwd + b"admin:x:1000:1000::/home/admin:\nbob:x:1005:1005::/home/bob:\n")
    merged = merge_accounts(SERVER, image)
    assert merged.merged_users == ("alice", "bob")
    assert merged.conflicts == (
        "the image's admin is replaced by alice: both have UID 1000",
        "bob gets the server's UID 1001 instead of the image's 1005: its files in the image keep owner 1005",
    )
    assert b"admin" not in merged.files["etc/passwd"]
    assert merged.files["etc/passwd"].count(b"\nbob:") == 1


def test_two_people_of_one_number_cannot_both_come():
    server = replace(SERVER, passwd=SERVER.passwd.replace(b"bob:x:1001", b"bob:x:1000"))
    merged = merge_accounts(server, IMAGE)
    assert merged.merged_users == ("alice",)
    assert merged.conflicts == ("bob is left out: alice has the same UID 1000",)


def test_groups_that_collide_with_the_images_system_groups_are_reported():
    image = replace(IMAGE, group=IMAGE.group + b"class:x:110:\nkvm:x:1000:\n", id_ranges=IdRanges(gid_min=1050))
    assert merge_accounts(SERVER, image).conflicts == (
        "group alice is left out: the image's system group kvm has GID 1000",
        "group class is left out: the image has a system group of that name (GID 110)",
    )


def test_hashes_of_the_image_stay_in_the_image():
    image = replace(IMAGE, shadow=b"root:$6$a$b:::::::\nalice:$y$x:::::::\n", gshadow=b"root:$6$x$y::\n")
    merged = merge_accounts(SERVER, image)
    assert set(merged.files) == {"etc/passwd", "etc/group"}
    assert merged.accounts_to_lock == ("bob",)
    assert not any(b"$" in text for text in merged.files.values())


def test_names_of_accounts_are_listed():
    assert list_users(SERVER) == {"alice", "bob"}
    assert list_accounts(IMAGE.passwd) == {"root", "daemon"}


LINES = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.builds(
            lambda name, hashed, uid, gid: b"%b:%b:%d:%d:g:/h:/s" % (name, hashed, uid, gid),
            st.sampled_from([b"alice", b"bob", b"root", b"-x", b"a b", b"", b"\xff"]),
            st.sampled_from([b"x", b"$6$secret$secret", b""]),
            st.integers(0, 2000),
            st.integers(0, 2000),
        ),
        st.builds(
            lambda name, gid, members: b"%b:x:%d:%b" % (name, gid, members),
            st.sampled_from([b"alice", b"audio", b"class", b"x:y"]),
            st.integers(0, 2000),
            st.sampled_from([b"", b"alice", b"alice,bob", b" alice ,,"]),
        ),
    ),
    max_size=6,
).map(lambda lines: b"".join(line.replace(b"secret", b"hidden") + b"\n" for line in lines))


@example(b"alice::1000:0:::\n", b"", b"alice::1000\nalice::0::::\n", b"")
@given(LINES, LINES, LINES, LINES)
def test_no_hash_of_the_server_comes_and_what_the_system_had_stays(passwd, group, image_passwd, image_group):
    server = AccountFiles(passwd.replace(b"hidden", b"secret"), group)
    image = AccountFiles(image_passwd, image_group, b"root:!:::::::\n", b"")
    merged = merge_accounts(server, image)
    assert not any(b"secret" in text for text in merged.files.values())
    after = merged.files.get("etc/passwd", image_passwd).split(b"\n")
    for line in image_passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) == 7 and fields[2].isdigit() and not image.id_ranges.is_user(int(fields[2])):
            assert line in after
    for line in merged.files.get("etc/shadow", b"").splitlines():
        assert re.fullmatch(rb"[^:]*:!:::::::", line)
