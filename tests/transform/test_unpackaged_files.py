"""What package tools brought is in no warning; what somebody put beside it is."""

import pytest

from corpus.dict_tree import make_tree
from ltsp.transform.cleanup import clean_tree
from ltsp.transform.packages import find_unpackaged
from ltsp.transform.secret_rows import tune_image_secrets
from ltsp.transform.secrets import Secrets

HASH = "root:$y$j9T$abc$def:19000:0:99999:7:::\n"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
SECRETS = Secrets(tune_image_secrets().rows)
PIPX = {
    "opt/pipx/shared/pyvenv.cfg": "home = /usr/bin\n",
    "opt/pipx/shared/lib/python3.11/site-packages/pip/a.py": "a\n",
    "opt/pipx/venvs/ltsp/pyvenv.cfg": "home = /usr/bin\n",
    "opt/pipx/venvs/ltsp/pipx_metadata.json": "{}",
    "opt/pipx/venvs/ltsp/bin/ltsp": "#!/opt/pipx/venvs/ltsp/bin/python\n",
    "opt/pipx/venvs/ltsp/lib/python3.11/site-packages/ltsp/a.py": "a\n",
    "opt/pipx/logs/cmd_2026.log": "a\n",
    "opt/pipx/.cache/a": "a\n",
    "usr/local/bin/ltsp": "-> /opt/pipx/venvs/ltsp/bin/ltsp",
}


def said(entries):
    tree = make_tree({"etc/passwd": "root:x:0:0::/root:/bin/sh\n"} | entries)
    return [str(finding) for finding in clean_tree(tree, SECRETS).findings]


@pytest.mark.parametrize(
    "entries",
    [
        PIPX,
        {"opt/app/pyvenv.cfg": "", "opt/app/bin/python": "a", "opt/app/lib/a": "a"},
        {
            "usr/local/lib/python3.11/dist-packages/a-1.dist-info/RECORD": "",
            "usr/local/lib/python3.11/dist-packages/a/a.py": "a",
        },
        {"opt/conda/conda-meta/history": "", "opt/conda/bin/python": "a", "opt/conda/pkgs/a/b": "a"},
        {
            "opt/google/chrome/chrome": "a",
            "var/lib/dpkg/info/google-chrome.list": "/.\n/opt\n/opt/google/chrome/chrome\n",
        },
        {"opt/vendor/a": "a", "var/lib/pacman/local/vendor-1/files": "%FILES%\nopt/\nopt/vendor/a\n"},
        {"opt": "-> var/opt", "var/opt/a/b": "a", "var/lib/dpkg/info/a.list": "/opt/a/b\n"},
    ],
    ids=["pipx", "venv", "pip", "conda", "dpkg", "pacman", "behind a link"],
)
def test_what_package_tools_brought_is_in_no_warning(entries):
    assert said(entries) == []


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        ({"opt/app/pyvenv.cfg": "", "opt/app/.env": "a"}, "/opt/app (1 file, such as /opt/app/.env)"),
        (PIPX | {"opt/pipx/venvs/key": "a"}, "/opt/pipx (1 file, such as /opt/pipx/venvs/key)"),
        (
            {"opt/a/b": "a", "opt/a/c": "a", "var/lib/dpkg/info/a.list": "/opt/a/b\n"},
            "/opt/a (1 file, such as /opt/a/c)",
        ),
        ({"opt/key": "a", "var/lib/dpkg/info/a.list": "/opt/other/key\n"}, "/opt/key"),
    ],
)
def test_files_of_no_package_are_named(entries, shown):
    assert said(entries) == [f"{shown}: not from any package; may hold a licence or passwords"]


COPIES = [
    ("backup/etc/shadow", HASH, "password hashes in a copy of a system file", "backup/*"),
    ("backup/2024/etc/shadow-", HASH, "password hashes in a copy of a system file", "backup/2024/*"),
    (
        "var/old system/etc/gshadow",
        "adm:$6$a$b::\n",
        "password hashes in a copy of a system file",
        "var/old system/*",
    ),
    ("data/shadow.bak", HASH, "password hashes in a copy of a system file", "data/shadow.bak"),
    ("etc/old/shadow", HASH, "password hashes in a copy of a system file", "etc/old/shadow"),
    (
        "data/passwd",
        "anna:ab0123456789.:1000:1000::/:\n",
        "password hashes in a copy of a system file",
        "data/passwd",
    ),
    ("data/shadow", "anna:!$6$a$b:1::::::\n", "password hashes in a copy of a system file", "data/shadow"),
    ("b/etc/ssh/ssh_host_rsa_key", KEY, "a copy of a host key", "b/*"),
    ("data/id_ed25519", KEY, "a user's private key", "data/id_ed25519"),
    ("b/etc/krb5.keytab", b"\5\2\0\0", "a copy of a host's keytab", "b/*"),
]


@pytest.mark.parametrize(("path", "text", "reason", "remedy"), COPIES, ids=[row[0] for row in COPIES])
def test_a_copy_of_a_system_s_secrets_is_named_with_the_line_that_leaves_it_out(path, text, reason, remedy):
    assert said({path: text}) == [f"/{path}: {reason}; to exclude it: ADD_IMAGE_EXCLUDES='{remedy}'"]


def test_many_copies_are_one_line():
    copies = {f"backup/{number:02}/etc/{name}": HASH for number in range(20) for name in ("shadow", "shadow-")}
    (line,) = said(copies)
    assert line.startswith("/backup/00/etc/shadow and 39 more: password hashes")
    assert line.endswith("ADD_IMAGE_EXCLUDES='backup/*'")


def test_copies_without_a_directory_of_their_own_have_a_line_each():
    (line,) = said({"var/a/etc/shadow": HASH, "var/a/etc/shadow-": HASH, "var/b/etc/shadow": HASH, "var/c.shadow": ""})
    assert line.endswith("; to exclude them, add these lines to ADD_IMAGE_EXCLUDES: var/a/*, var/b/*")
    (line,) = said({f"data/{number}/id_rsa": KEY for number in range(6)})
    assert line.endswith(": data/0/id_rsa, data/1/id_rsa, data/2/id_rsa, data/3/id_rsa and 2 more")
    (line,) = said({"data/b/etc/shadow": HASH, "data/shadow": HASH})
    assert line.endswith(": data/b/*, data/shadow")


@pytest.mark.parametrize(
    "entries",
    [
        {"usr/share/doc/passwd/shadow": "the file shadow has lines such as root:*:19000:0:99999:7:::\n"},
        {"usr/share/base-passwd/passwd.master": "root:*:0:0:root:/root:/bin/bash\n"},
        {"usr/share/icons/shadow.png": b"\x89PNG\n\0\0:$:\n"},
        {"usr/bin/passwd": b"\x7fELF\2\1\1\0%s:$6$\0"},
        {
            "backup/etc/shadow": "root:*:19000:0:99999:7:::\nanna:!:19000::::::\n",
            "backup/etc/passwd": "root:x:0:0::/:\n",
        },
        {"etc/ssh/ssh_host_rsa_key.pub": "ssh-rsa AAAA\n", "usr/share/a/id_rsa.pub": "ssh-rsa AAAA\n"},
        {"usr/lib/python3/test/id_rsa": KEY, "var/lib/dpkg/info/a.list": "/usr/lib/python3/test/id_rsa\n"},
        {"etc/shadow": HASH, "data/link": "-> /etc/shadow"},
    ],
)
def test_what_only_looks_like_one_is_in_no_warning(entries):
    assert said(entries) == []


def test_rows_for_a_name_anywhere_lead_nowhere():
    """Else every directory would be listed before the source is read."""
    assert not SECRETS.has_rules_below("usr/share/doc")
    assert not SECRETS.affects("data/backup")


def test_the_files_of_a_tree_that_has_no_such_path():
    assert find_unpackaged(make_tree({"etc/passwd": ""}), ["opt/a", "etc/passwd/a"]) == {
        "opt/a": [],
        "etc/passwd/a": [],
    }
