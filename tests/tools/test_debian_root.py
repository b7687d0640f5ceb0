"""The root comes only from the distribution's own archive, not from other entries of apt's sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.debian_root import Release, command, deb822_entries, one_line_entries, sources

BOOKWORM = Release("debian", "bookworm")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@pytest.fixture
def etc_apt(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_os_release_may_quote_its_values():
    text = '# comment\nNAME="Debian GNU/Linux"\nID=debian\nVERSION_CODENAME="trixie"\nHOME_URL="https://x/?a=b"\n'
    assert Release.parse(text) == Release("debian", "trixie")


def test_a_deb822_entry_gives_one_line_for_each_of_its_suites(etc_apt):
    (etc_apt / "sources.list.d" / "debian.sources").write_text(
        "Types: deb deb-src\n# a snapshot\nURIs: http://mirror.example/debian\n"
        f"Suites: bookworm bookworm-updates bookworm-backports\nComponents: main contrib\nSigned-By: {KEYRING}\n"
    )
    assert sources(BOOKWORM, etc_apt) == [
        f"deb [signed-by={KEYRING}] http://mirror.example/debian bookworm main contrib",
        f"deb [signed-by={KEYRING}] http://mirror.example/debian bookworm-updates main contrib",
    ]


def test_an_entry_that_is_switched_off_or_whose_key_stands_in_line_is_left_out(etc_apt):
    stanza = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n"
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ\n -----END PGP PUBLIC KEY BLOCK-----\n"
    (etc_apt / "sources.list.d" / "other.sources").write_text(f"Enabled: no\n{stanza}\n{stanza}{key}")
    assert sources(BOOKWORM, etc_apt) == []


@pytest.mark.parametrize(
    "line",
    [
        "deb https://vendor.example/linux bookworm stable",
        "deb [signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.example/debian bookworm main",
        "deb https://vendor.example/apt cloud-bookworm main",
        "deb-src http://mirror.example/debian bookworm main",
        "# deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian trixie main",
    ],
)
def test_an_entry_that_does_not_serve_the_distribution_itself_is_left_out(etc_apt, line):
    (etc_apt / "sources.list").write_text(line + "\n")
    assert sources(BOOKWORM, etc_apt) == []


def test_options_other_than_the_key_do_not_confuse_a_one_line_entry():
    (entry,) = one_line_entries(
        f"deb [ arch=amd64 signed-by={KEYRING} ] http://mirror.example/u noble main universe # x"
    )
    assert entry.signed_by == KEYRING
    assert list(entry.lines("noble")) == [f"deb [signed-by={KEYRING}] http://mirror.example/u noble main universe"]


def test_entries_of_several_files_are_used_once(etc_apt):
    line = "deb http://mirror.example/debian bookworm main\n"
    (etc_apt / "sources.list").write_text(line)
    (etc_apt / "sources.list.d" / "again.list").write_text(line)
    assert sources(BOOKWORM, etc_apt) == [line.strip()]


def test_a_deb822_field_may_go_on_over_several_lines():
    (entry,) = deb822_entries(
        "Types: deb\nURIs: http://a.example\n http://b.example\nSuites: noble\nComponents: main\n"
    )
    assert entry.uris == ("http://a.example", "http://b.example")


def test_the_kernel_is_among_the_packages_and_the_sources_come_by_standard_input():
    call = command(Release("ubuntu", "noble"), Path("/x/root"), ['Acquire::http::Proxy "http://proxy.example:3142"'])
    assert "linux-image-virtual" in next(word for word in call if word.startswith("--include="))
    assert '--aptopt=Acquire::http::Proxy "http://proxy.example:3142"' in call
    assert call[-3:] == ["noble", "/x/root", "-"]
