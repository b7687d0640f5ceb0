"""Cleaning: what changes, and that nothing else does."""

import errno

import pytest

from corpus.dict_tree import data, make_tree, paths
from ltsp.errors import FileUnreadable, FormatError, LtspError
from ltsp.transform.cleanup import clean_tree, find_suspects
from ltsp.transform.rewrite import MAX_FILE_SIZE
from ltsp.transform.secret_rows import tune_image_secrets
from ltsp.transform.secrets import Secrets
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, Fifo, File, Metadata, Symlink

PASSWD = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
SECRETS = Secrets(tune_image_secrets().rows)


def cleaned(entries):
    return clean_tree(make_tree({"etc/passwd": PASSWD} | entries), SECRETS)


def test_cleaning_twice_is_cleaning_once():
    once = cleaned(
        {"etc/shadow": "root:abc:::::::\n", "etc/machine-id": "0" * 32, "var/log/a": "x", "etc/hosts": "::1 a\n"}
    )
    twice = clean_tree(once.tree, SECRETS)
    assert twice.steps == ()
    assert twice.tree is once.tree


def test_what_no_rule_names_is_the_same_node():
    tree = make_tree(
        {"etc/passwd": PASSWD, "usr/bin/tool": "x", "etc/issue": "Debian\n", "etc/hosts": "::1\tlocalhost\n"}
    )
    after = clean_tree(tree, SECRETS).tree
    for path in ("usr/bin/tool", "etc/issue", "etc/hosts"):
        assert after.get(path) is tree.get(path)


def test_a_rewritten_file_keeps_what_does_not_speak_of_its_bytes():
    xattrs = (("security.capability", b"c"), ("security.selinux", b"s"), ("user.a", b"u"))
    old = File(Metadata(0o640, 7, 42, -5, xattrs), Bytes(b"root:abc:::::::\n"))
    new = cleaned({"etc/shadow": old}).tree.get("etc/shadow")
    assert new.metadata == Metadata(0o640, 7, 42, -5, xattrs[1:])
    assert new.content == Bytes(b"root:!:::::::\n")


def test_each_step_says_its_rule_its_paths_and_what_it_saves():
    steps = {step.rule: step for step in cleaned({"etc/fstab": "12345", "var/log/b": "1", "var/log/a": "22"}).steps}
    assert (steps["T etc/fstab"].paths, steps["T etc/fstab"].bytes) == (("etc/fstab",), 5)
    assert (steps["T var/log/*"].paths, steps["T var/log/*"].bytes) == (("var/log/a", "var/log/b"), 3)
    assert steps["F=accounts"].paths == ("etc/passwd",)
    assert steps["F=accounts"].bytes == len("alice:x:1000:1000::/home/alice:/bin/sh\n")


def test_all_names_of_a_rewritten_file_hold_the_same():
    tree = make_tree({"etc/passwd": PASSWD})
    tree = tree.edit({"etc/twin": tree.get("etc/passwd")})
    after = clean_tree(tree, SECRETS).tree
    assert after.get("etc/twin") is after.get("etc/passwd")


@pytest.mark.parametrize("link", ["-> /data/passwd", "-> ../data/passwd", "-> ../../../../data/passwd"])
def test_an_account_file_behind_a_link_is_rewritten_where_it_lies(link):
    after = clean_tree(make_tree({"data/passwd": PASSWD, "etc/passwd": link}), SECRETS).tree
    assert data(after, "data/passwd") == b"root:x:0:0::/root:/bin/sh\n"
    assert isinstance(after.get("etc/passwd"), Symlink)


def test_two_account_files_that_are_one_are_refused():
    with pytest.raises(LtspError, match="etc/passwd and etc/shadow are the same file"):
        clean_tree(make_tree({"etc/shadow": "root:x:0:0::/:\n", "etc/passwd": "-> /etc/shadow"}), SECRETS)


@pytest.mark.parametrize(
    "passwd", ["-> /nowhere", "-> passwd", "-> /proc/self/fd/0", None, Fifo(Metadata(0o644))], ids=str
)
def test_a_system_without_an_account_file_is_refused(passwd):
    with pytest.raises(LtspError, match="no etc/passwd in the image"):
        clean_tree(make_tree({"etc/passwd": passwd}), SECRETS)


class Endless:
    size = MAX_FILE_SIZE + 1

    def open(self):
        return Bytes(bytes(MAX_FILE_SIZE + 1)).open()


def test_an_account_file_too_large_to_be_one_is_refused():
    with pytest.raises(FormatError, match="/etc/group is larger than 64 MiB"):
        cleaned({"etc/group": File(Metadata(0o644), Endless())})


class Broken:
    size = 5

    def open(self):
        raise OSError(errno.EIO, "Input/output error")


def test_an_unreadable_account_file_is_not_taken_as_empty():
    with pytest.raises(FileUnreadable, match="cannot read /etc/shadow: Input/output error"):
        cleaned({"etc/shadow": File(Metadata(0o640), Broken())})


def test_an_unreadable_file_is_passed_over_on_demand_and_named():
    faults = Faults(skip_unreadable=True)
    clean_tree(make_tree({"etc/passwd": PASSWD, "etc/hosts": File(Metadata(0o640), Broken())}), SECRETS, faults)
    assert faults.unreadable == [("etc/hosts", "Input/output error")]


class Restless:
    """A file that another program writes to: it settles at the reading of that number."""

    size = 3

    def __init__(self, settles):
        self.readings, self.settles = 0, settles

    def open(self):
        self.readings += 1
        return _Unsettled(self.readings >= self.settles)


class _Unsettled:
    def __init__(self, settled):
        self._settled = settled

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def read(self, _size):
        return b"10.0.0.1 nas\n"

    def is_consistent(self):
        return self._settled


def test_a_file_that_changes_is_read_again_and_named_if_it_never_settles():
    faults = Faults()
    tree = make_tree({"etc/passwd": PASSWD, "etc/hosts": File(Metadata(0o644), Restless(3))})
    clean_tree(tree, SECRETS, faults)
    assert not faults
    tree = make_tree({"etc/passwd": PASSWD, "etc/hosts": File(Metadata(0o644), Restless(99))})
    clean_tree(tree, SECRETS, faults)
    assert faults.changed == ["etc/hosts"]


def test_machine_id_is_an_empty_file_that_is_never_written_to():
    for old in ("0" * 32, "-> /var/lib/dbus/machine-id", "", b""):
        new = cleaned({"etc/machine-id": old}).tree.get("etc/machine-id")
        assert isinstance(new, File)
        assert (new.metadata.mode, new.content.size) == (0o444, 0)
    assert data(cleaned({}).tree, "etc/machine-id") == b""
    assert isinstance(cleaned({"etc/machine-id": None}).tree.get("etc/machine-id"), Directory)


def test_dbus_takes_the_machine_id_of_systemd():
    assert (
        cleaned({"var/lib/dbus/machine-id": "0" * 32}).tree.get("var/lib/dbus/machine-id").target == "/etc/machine-id"
    )
    assert "var/lib/dbus/machine-id" not in paths(cleaned({}).tree)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("127.0.0.1\tlocalhost\n127.0.1.1\tserver\n", b"127.0.0.1\tlocalhost\n"),
        ("127.0.0.1 localhost server # x\n::1 ip6-localhost\n", b"127.0.0.1\tlocalhost\n::1 ip6-localhost\n"),
        ("10.0.0.1 localhost\n", b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
        ("ff02::1 ip6-allnodes\n", b"ff02::1 ip6-allnodes\n"),
    ],
)
def test_hosts_keeps_its_localhost_lines(before, after):
    assert data(cleaned({"etc/hosts": before}).tree, "etc/hosts") == after


DROP_IN = "etc/systemd/resolved.conf.d/ltsp.conf"


@pytest.mark.parametrize("target", ["../run/systemd/resolve/resolv.conf", "/run/systemd/resolve/resolv.conf"])
def test_a_resolver_that_the_dns_setup_changed_goes_back_to_the_stub(target):
    after = cleaned({DROP_IN: "[Resolve]\nDNSStubListener=no\n", "etc/resolv.conf": f"-> {target}"}).tree
    assert after.get("etc/resolv.conf").target == "../run/systemd/resolve/stub-resolv.conf"
    assert DROP_IN not in paths(after)


def test_a_resolver_that_someone_else_set_up_stays():
    own = cleaned({DROP_IN: "[Resolve]\nDNSStubListener=no\n", "etc/resolv.conf": "nameserver 10.0.0.1\n"}).tree
    assert data(own, "etc/resolv.conf") == b"nameserver 10.0.0.1\n"
    other = cleaned({"etc/resolv.conf": "-> ../run/systemd/resolve/resolv.conf"}).tree
    assert other.get("etc/resolv.conf").target == "../run/systemd/resolve/resolv.conf"


EXTRA = "var/lib/extrausers"


def test_accounts_of_extrausers_go_as_those_of_etc_do():
    after = cleaned(
        {
            "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
            "etc/group": "root:x:0:\nlp:x:7:carol,printd\n",
            f"{EXTRA}/passwd": "carol:x:1001:1001::/home/carol:/bin/sh\nprintd:x:200:200::/:/bin/false\n",
            f"{EXTRA}/group": "carol:x:1001:carol\nprintd:x:200:carol\n",
            f"{EXTRA}/shadow": "carol:$6$a$b:1::::::\nprintd:$6$a$b:1::::::\n",
        }
    ).tree
    assert data(after, f"{EXTRA}/passwd") == b"printd:x:200:200::/:/bin/false\n"
    assert data(after, f"{EXTRA}/group") == b"printd:x:200:\n"
    assert data(after, f"{EXTRA}/shadow") == b"printd:!:::::::\n"
    assert data(after, "etc/group") == b"root:x:0:\nlp:x:7:printd\n"


def test_a_log_that_is_a_link_does_not_empty_what_it_leads_to():
    """Debian's var/log/README is a link to documentation."""
    after = cleaned({"var/log/README": "-> ../../usr/share/doc/README.logs", "usr/share/doc/README.logs": "text"}).tree
    assert data(after, "usr/share/doc/README.logs") == b"text"


def test_a_path_that_a_row_spells_out_is_followed_inside_the_image():
    after = cleaned({"etc/fstab": "-> /data/fstab", "data/fstab": "//nas/x /mnt cifs password=x\n"}).tree
    assert data(after, "data/fstab") == b""


def test_a_link_out_of_the_image_leads_nowhere():
    after = cleaned({"etc/fstab": "-> ../../../../etc/hostile", "etc/crypttab": "-> /proc/1/root/etc/crypttab"})
    assert "etc/hostile" not in paths(after.tree)
    assert not any("fstab" in path for step in after.steps for path in step.paths)


def test_a_row_with_a_test_names_only_what_it_finds():
    tree = make_tree({"etc/passwd": PASSWD, "etc/apt/sources.list": "deb http://deb.example/ a b\n", "var/www": None})
    assert find_suspects(tree, SECRETS, Faults()) == []


def test_a_directory_is_named_with_the_number_of_its_files():
    (finding,) = cleaned({"opt/app/a": "1", "opt/app/b/c": "2", "opt/empty/x": None}).findings
    assert (finding.path, finding.files) == ("opt/app", 2)
    assert str(finding).startswith("/opt/app (2 files, such as /opt/app/a): not from any package")
