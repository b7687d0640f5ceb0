"""PASSWORDS_x as hashes: matching accounts, and refused values."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltsp.initrd.site.passwords import Accounts, derive_salt, hash_passwords, sha512_crypt
from ltsp.settings.resolve import Setting

ACCOUNTS = Accounts(
    frozenset({"alice", "teacher", "a1-01", "b1-02", "guest01", "guest02"}), frozenset({"root", "daemon"}), b"machine"
)
GOOD = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
"""The password is `Hello world!`: the first example in the paper that describes the method."""


def given_by(value, accounts=ACCOUNTS, warnings=None):
    return hash_passwords(Setting("PASSWORDS_A", value, "ltsp.conf:3"), accounts, [] if warnings is None else warnings)


def test_the_method_gives_the_hash_of_the_paper():
    assert sha512_crypt(b"Hello world!", "saltstring") == GOOD


@pytest.mark.oracle
@pytest.mark.parametrize("password", ["a", "qwer1234", "x" * 63, "x" * 64, "x" * 65, "ü" * 100])
def test_openssl_makes_the_same_hashes(password):
    done = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", "abcdefghijklmnop", "-stdin"],
        input=password.encode() + b"\n",
        capture_output=True,
        check=True,
    )
    assert sha512_crypt(password.encode(), "abcdefghijklmnop") == done.stdout.decode().strip()


def test_passwords_in_base64_are_hashed_without_the_line_end_that_was_typed():
    hashes = given_by("teacher/cXdlcjEyMzQK alice/cXdlcjEyMzQ=")
    for name, hashed in hashes.items():
        used = hashed.split("$")[2]
        assert sha512_crypt(b"qwer1234", used) == hashed
        assert used == derive_salt(b"machine\0" + name.encode())
    assert len(set(hashes.values())) == 2


def test_the_same_settings_give_the_same_hashes_and_another_server_others():
    assert given_by("alice/YWJj") == given_by("alice/YWJj")
    assert given_by("alice/YWJj") != given_by("alice/YWJj", Accounts(ACCOUNTS.users, key=b"other"))


def test_an_expression_means_all_accounts_whose_whole_name_fits():
    hashes = given_by("[a-z][-0-9]*/MTIzNAo= guest[^:]*/ guest02/Mg==")
    assert set(hashes) == {"a1-01", "b1-02", "guest01", "guest02"}
    assert hashes["guest01"] == ""
    assert hashes["guest02"].startswith("$6$")


def test_accounts_of_the_system_have_to_be_named():
    assert set(given_by(".*/YWJj")) == ACCOUNTS.users
    assert set(given_by("root/YWJj daemon/YWJj")) == {"root", "daemon"}


def test_a_name_with_a_dot_is_a_name_if_there_is_such_an_account():
    accounts = Accounts(frozenset({"a.b", "axb"}))
    assert set(given_by("a.b/", accounts)) == {"a.b"}
    assert set(given_by("a./", Accounts(frozenset({"ab", "abc"})))) == {"ab"}


def test_a_hash_is_used_as_it_is():
    assert given_by(f"root/{GOOD}") == {"root": GOOD}


@pytest.mark.parametrize(
    "hashed",
    [
        "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
        "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
        "$2b$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
        "$1$saltstri$YMyguxXMBpd2TEZ.vS/3q1",
    ],
)
def test_hashes_of_all_common_methods_are_accepted(hashed):
    assert given_by(f"root/{hashed}") == {"root": hashed}


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("teacher", "word 1 is not USER/PASSWORD"),
        ("/YWJj", "word 1 is not USER/PASSWORD"),
        ("alice/YWJj root/qwer1234!", "word 2 has neither a hash nor base64"),
        ("root/$6$VRfFL349App5$BfxBbLE.tY", "word 1 has an invalid hash"),
        ("root/$9$a$b", "word 1 has an invalid hash"),
        (f"root/{GOOD}:x", "word 1 has an invalid hash"),
        ("root/Cgo=", "has a password with control characters"),
        ("root/AA==", "has a password with control characters"),
        ("[a-z/YWJj", "is not a regular expression"),
        ("al{ice}/YWJj", "is not a regular expression"),
        ("[[:nonsense:]]/YWJj", "is not a regular expression"),
    ],
)
def test_an_invalid_word_is_reported_by_its_number_and_never_repeated(word, says):
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        given_by(word)
    assert "qwer" not in str(caught.value)
    assert "BfxBb" not in str(caught.value)


def test_an_unknown_account_causes_a_warning():
    warnings = []
    assert set(given_by("tacher/YWJj nobody[0-9]/YWJj", warnings=warnings)) == {"tacher"}
    assert [warning.rpartition(" ")[2] for warning in warnings] == ["'tacher'", "'nobody[0-9]'"]


@settings(max_examples=30)
@given(st.text("abc/$=.*[]^:+ \n\\'\"{}()|?YWJj0", max_size=40))
def test_whatever_is_written_a_line_of_shadow_stays_one(value):
    try:
        hashes = given_by(value)
    except ValueError:
        return
    for name, hashed in hashes.items():
        assert not set(name + hashed) & set(":\n ")
