"""Rules hold for where their paths lead when the system's own links stand on the way."""

import itertools

import pytest

from corpus.dict_tree import data, make_tree, paths
from corpus.make_rules import rules
from ltsp.errors import SourceError
from ltsp.transform import links
from ltsp.transform.cleanup import clean_tree
from ltsp.tree.node import Directory, Metadata, Symlink
from ltsp.tree.selection import Inclusion

CANARY = "CANARY-77aa\n"
SYSTEM = {"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "usr/bin/tool": "tool\n", "etc/machine-id": ""}


def image(entries, of=None):
    """The image of a tree, and what links did to rules."""
    tree = make_tree(SYSTEM | entries)
    followed = (of or rules()).follow_links(tree)
    left = tree.select(followed.selection, followed.affects)
    return clean_tree(left, followed.secrets).tree, followed


def secret(tree):
    return {path for path in paths(tree) if CANARY.encode() in (data(tree, path) or b"")}


MOVED = [
    ("ostree's homes", "home", "var/home", "var/home/anna/.ssh/id_rsa"),
    ("ostree's home of root", "root", "var/roothome", "var/roothome/.ssh/id_rsa"),
    ("ostree's srv", "srv", "var/srv", "var/srv/www/a"),
    ("homes on a larger disk, by an absolute link", "home", "/data/home", "data/home/anna/notes"),
    ("homes below /usr", "home", "/usr/home", "usr/home/anna/notes"),
    ("a database", "var/lib/mysql", "/data/mysql", "data/mysql/ibdata1"),
    ("a database, by a relative link", "var/lib/mysql", "../../data/mysql", "data/mysql/ibdata1"),
    ("private keys", "etc/ssl/private", "/data/keys", "data/keys/server.key"),
    ("one private key", "etc/ssl/private/server.key", "/opt/app/server.key", "opt/app/server.key"),
    ("one home of many", "home/anna", "/data/anna", "data/anna/notes"),
    ("a host key where the root is not kept", "etc/ssh/ssh_host_rsa_key", "/persist/etc/key", "persist/etc/key"),
    ("keys of hosts, in another directory", "etc/ssh", "../usr/etc/ssh", "usr/etc/ssh/ssh_host_rsa_key"),
    ("a link in the middle of a path", "var/lib", "/data/lib", "data/lib/mysql/ibdata1"),
    ("all of var", "var", "data/var", "data/var/lib/docker/overlay2/a"),
    ("logs", "var/log", "../data/log", "data/log/syslog.1"),
    ("logs below it", "var/log", "../data/log", "data/log/apt/history.log"),
    ("a log's directory alone", "var/log/apt", "/data/log/apt", "data/log/apt/history.log"),
    ("a wildcard in the middle", "var/spool/cron/crontabs", "/data/cron", "data/cron/anna"),
    ("a link that a wildcard names", "etc/.git", "/data/etckeeper", "data/etckeeper/objects/a"),
    ("a swap file", "swapfile", "/data/swap.1", "data/swap.1"),
    ("the bus's name of the machine", "var/lib/dbus/machine-id", "/data/dbus-id", "data/dbus-id"),
    ("the name of the machine", "etc/machine-id", "/data/machine-id", "data/machine-id"),
    ("what an F row rewrites", "etc/shadow", "/data/shadow", "data/shadow"),
    ("what a T row empties", "etc/crypttab", "/data/crypttab", "data/crypttab"),
    ("a directory of etc", "etc/NetworkManager", "/data/nm", "data/nm/system-connections/wifi"),
    ("a chain", "home", "a", "d/anna/notes"),
    ("dots and slashes", "home", "./e/../../b//c/./", "b/c/anna/notes"),
]
ALSO = {"a": "-> /b2/c", "b2/c": "-> ../d", "e": "-> f/g", "f/g": None}
"""Links that some of these lead through."""


@pytest.mark.parametrize(("link", "target", "place"), [row[1:] for row in MOVED], ids=[row[0] for row in MOVED])
def test_what_was_moved_stays_out(link, target, place):
    text = CANARY if link != "etc/shadow" else f"root:{CANARY}"
    left, followed = image({**ALSO, link: f"-> {target}", place: text})
    assert secret(left) == set()
    assert followed.notes == ()


@pytest.mark.parametrize(
    "entries",
    [
        {"var/lib": "-> ../a", "a/mysql": "-> /b", "b": "-> c", "c/ibdata1": CANARY},
        {"var": "-> x/y/var", "x/y/var/lib/mysql": "-> ../../db", "x/y/db/ibdata1": CANARY},
    ],
    ids=["through the middle", "relative in a directory that was moved"],
)
def test_links_behind_links_are_followed(entries):
    left, _ = image(entries)
    assert secret(left) == set()


def test_a_directory_that_is_emptied_behind_a_link_stays_and_the_link_too():
    left, _ = image({"var/lib/mysql": "-> /data/mysql", "data/mysql/ibdata1": CANARY})
    assert left.get("data/mysql").entries == {}
    assert left.get("var/lib/mysql").target == "/data/mysql"


def test_a_link_to_a_directory_that_a_row_names_stays_and_its_place_is_emptied():
    left, _ = image({"var/spool/mail": "-> ../mail", "var/mail/anna": CANARY})
    assert isinstance(link := left.get("var/spool/mail"), Symlink)
    assert link.target == "../mail"
    assert left.get("var/mail").entries == {}


def test_the_same_the_other_way_round():
    left, _ = image({"var/mail": "-> spool/mail", "var/spool/mail/anna": CANARY})
    assert left.get("var/mail").target == "spool/mail"
    assert left.get("var/spool/mail").entries == {}


def test_a_link_to_a_secret_file_goes_with_it():
    left, _ = image({"etc/ssh/ssh_host_rsa_key": "-> /persist/key", "persist/key": CANARY})
    assert not {"etc/ssh/ssh_host_rsa_key", "persist/key"} & paths(left)


@pytest.mark.parametrize(
    ("link", "target", "lost"),
    [
        ("root", "/", ""),
        ("root", ".", ""),
        ("home", "usr", "usr"),
        ("home", "/usr/lib", "usr/lib"),
        ("home", "var", "var"),
        ("srv", "/usr/share", "usr/share"),
        ("var/lib/mysql", "/usr/bin", "usr/bin"),
        ("var/log", "/etc", "etc"),
        ("var/lib/docker", "/var/lib", "var/lib"),
        ("tmp", "/usr", "usr"),
        ("home/anna", "/usr/share/doc", "usr/share/doc"),
        ("etc/ssl/private/x", "/etc", "etc"),
        ("opt/ltsp5", "/usr/bin", "usr/bin"),
        ("var/lib/mysql", "/nix/store/a", "nix/store/a"),
    ],
)
def test_no_link_takes_away_what_the_system_needs(link, target, lost):
    system = {"usr/bin/tool": "tool\n", "usr/lib/a": "a\n", "usr/share/doc/a": "a\n", "etc/hosts2": "a\n"}
    system |= {"var/lib/dpkg/status": "a\n", "nix/store/a/b": "a\n", "opt/x": "a\n", "etc/skel/.profile": "a\n"}
    left, followed = image({**system, link: f"-> {target}"})
    assert system.keys() <= paths(left)
    assert all(data(left, path) == text.encode() for path, text in system.items())
    assert any(f"/{link} leads to /" in note and f"needs /{lost}:" in note for note in followed.notes), followed.notes


@pytest.mark.parametrize("target", ["/data/home", "/mnt/disk/home", "../../gone", "home", "/home/x/../../home"])
def test_a_link_that_leads_to_nothing_in_the_tree_is_named(target):
    _, followed = image({"home": f"-> {target}", "mnt": None})
    (note,) = followed.notes
    assert note == f"/home is a link to {target}, which is not in the source"


def test_what_is_made_when_a_system_runs_may_lead_nowhere():
    _, followed = image({"media": "-> run/media", "var/log/journal": "-> /run/log/journal"})
    assert followed.notes == ()


def test_a_link_that_anybody_could_have_made_takes_nothing_away():
    tmp = Directory(Metadata(0o1777), {"home": Symlink(Metadata(0o777), "/opt/app")})
    left, followed = image({"var/crash": tmp, "opt/app/a": "a\n", "srv/x": None}, rules(secrets="X var/crash/?*  a\n"))
    assert "opt/app/a" in paths(left)
    assert followed.notes == ()


def test_links_in_what_is_emptied_as_a_whole_are_not_followed():
    left, _ = image({"tmp/app": "-> /opt/app", "run/app": "-> /opt/app", "opt/app/a": "a\n"})
    assert "opt/app/a" in paths(left)


def test_a_link_that_no_row_names_stays_as_it_is():
    left, _ = image({"etc/rc.local": "-> /opt/rc", "opt/rc": CANARY, "var/log/README": "-> ../../usr/share/README"})
    assert secret(left) == {"etc/rc.local", "opt/rc"}
    assert "var/log/README" in paths(left)


def test_rows_that_keep_and_rows_that_warn_hold_behind_links_too():
    left, followed = image(
        {"var/lib/rpm": "-> ../../data/rpm", "data/rpm/db": "a\n", "opt": "-> var/opt", "var/opt/app/licence": "a\n"},
        rules(secrets="X data/*  a disk\n"),
    )
    assert "data/rpm/db" in paths(left)
    assert "var/opt/app" in {finding.path for finding in followed.secrets.findings(left)}


def test_what_the_site_lets_in_is_in_the_image_behind_a_link_too():
    left, _ = image({"home": "-> var/home", "var/home/anna/a": "a\n"}, rules(omit_excludes="home/*"))
    assert "var/home/anna/a" in paths(left)


def test_exclusions_of_the_site_hold_behind_links():
    left, followed = image(
        {"opt/app": "-> ../data/app", "data/app/a": "a\n", "data/b": "b\n"}, rules(excludes="opt/app/*\n")
    )
    assert "data/app/a" not in paths(left)
    assert {"data/app", "data/b", "opt/app"} <= paths(left)
    assert followed.find_rule("data/app/a") == "opt/app/*"


def test_without_cleanup_the_exclusions_alone_are_followed():
    left, _ = image(
        {"home": "-> var/home", "var/home/anna/a": "a\n", "etc/krb5.keytab": "-> /data/keytab", "data/keytab": "k\n"},
        rules(cleanup=False),
    )
    assert "var/home/anna/a" not in paths(left)
    assert {"etc/krb5.keytab", "data/keytab"} <= paths(left)


def test_a_pattern_for_every_directory_follows_nothing():
    left, followed = image({"a/core": "-> /opt/app", "opt/app/a": "a\n"}, rules(excludes="... core\n"))
    assert "opt/app/a" in paths(left)
    assert "a/core" not in paths(left)
    assert followed.notes == ()


def test_hostile_links_end():
    loops = {"etc": "-> .", "var": "-> var/var", "home": "-> root", "root": "-> home", "srv": "-> srv/.."}
    deep = {f"d/{number}": f"-> {number + 1}" for number in range(100)}
    tree = make_tree({**loops, **deep, "opt/ltsp": "-> ../d/0"})
    followed = rules().follow_links(tree)
    assert tree.select(followed.selection, followed.affects)
    assert len(followed.notes) < 500


def many_links(count):
    entries = {f"home/u{number}": f"-> /data/u{number}" for number in range(count)}
    return entries | {f"data/u{number}/a": CANARY for number in range(count)}


def test_a_great_many_links_are_followed():
    """As many as a large city has pupils."""
    left, followed = image(many_links(25_000))
    assert secret(left) == set()
    assert followed.notes == ()


def test_more_links_than_can_be_followed_are_an_error_whose_remedy_helps(monkeypatch):
    monkeypatch.setattr(links, "MAX_LINKS", 50)
    with pytest.raises(SourceError, match=r"too many symbolic links \(limit 50\)") as raised:
        image(many_links(80))
    assert raised.value.hint == "exclude everything that they lead to: ADD_IMAGE_EXCLUDES='data/*' in ltsp.conf"
    left, _ = image(many_links(80), rules(excludes="data/*\n"))
    assert secret(left) == set()


BOUND = [
    ("homes", "/data/homes /home none bind 0 0", "data/homes/anna/notes"),
    ("one home of many", "/data/pupils /home/pupils none rw,rbind", "data/pupils/a"),
    ("the administrator's home", "/data/new\\040root /root none bind", "data/new root/a"),
    ("what is served", "/data/www /srv/www none bind", "data/www/index.html"),
    ("a database", "/data/lib /var/lib/mysql none bind", "data/lib/ibdata1"),
    ("a store of containers", "/data/containers /var/lib/containers none defaults,bind", "data/containers/a"),
    ("what a rule's place lies in", "/data/lib /var/lib none bind", "data/lib/docker/overlay2/a"),
    ("keys of hosts", "/data/ssh /etc/ssh none bind", "data/ssh/ssh_host_rsa_key"),
    ("private keys", "/data/keys /etc/ssl/private none bind", "data/keys/a.key"),
    ("one file", "/data/keytab /etc/krb5.keytab none bind", "data/keytab"),
    ("one behind another", "/data/lib /var/lib none bind\n/disk /data/lib/mysql none bind", "disk/ibdata1"),
    ("a link in its way", "/data/lib /db none bind", "data/lib/ibdata1"),
    ("a link where it comes from", "/link /var/lib/mysql none bind", "real/ibdata1"),
]


@pytest.mark.parametrize(("fstab", "place"), [row[1:] for row in BOUND], ids=[row[0] for row in BOUND])
def test_what_is_mounted_where_a_rule_leads_stays_out(fstab, place):
    also = {"link": "-> real"}
    also |= {"var/lib/mysql": "-> /db", "db": None} if "/db" in fstab else {"var/lib/mysql": None}
    left, followed = image({**also, "etc/fstab": f"{fstab}\n", place: CANARY})
    assert secret(left) == set()
    assert followed.notes == ()


def test_a_bind_mount_of_a_unit_is_one_too():
    unit = "[Mount]\nWhat=/data/lib\nWhere=/var/lib/mysql\nType=none\nOptions=rw,bind\n"
    left, _ = image({"etc/systemd/system/var-lib-mysql.mount": unit, "data/lib/ibdata1": CANARY})
    assert secret(left) == set()
    assert left.get("data/lib").entries == {}


def test_the_exclusions_hold_for_bind_mounts_without_cleanup():
    left, _ = image({"etc/fstab": "/data/h /home none bind\n", "data/h/a": CANARY}, rules(cleanup=False))
    assert secret(left) == set()


@pytest.mark.parametrize(
    "fstab",
    [
        "/data/a /mnt/a none bind",
        "/data/a /media/a none bind",
        "/data/a /tmp none bind",
        "#/data/a /home none bind",
        "/data/a /home none defaults",
        "/data/a /var/www none bind",
        "data/a /home none bind",
        "/data/a",
    ],
)
def test_other_mounts_take_nothing_away(fstab):
    left, followed = image({"etc/fstab": f"{fstab}\n", "data/a/b": CANARY})
    assert secret(left) == {"data/a/b"}
    assert followed.notes == ()


def test_no_bind_mount_takes_away_what_the_system_needs():
    left, followed = image({"etc/fstab": "/usr /srv/usr none bind\n/ /srv/all none rbind\n"})
    assert "usr/bin/tool" in paths(left)
    assert followed.notes == (
        "/srv/usr is a bind mount of /usr, but the system needs /usr: its contents stay in the image",
        "/srv/all is a bind mount of /, but the system needs /: its contents stay in the image",
    )


def test_endlessly_nested_bind_mounts_are_an_error():
    fstab = "/b/c /a none bind\n/a/d /b none bind\n"
    with pytest.raises(SourceError, match=r"too many links and bind mounts in a chain \(limit 40\)"):
        image({"etc/fstab": fstab, "b/c/d": None, "a/d/c": None}, rules(excludes="a/x/y\n"))


def test_names_with_wildcards_and_escapes_are_followed_as_they_are():
    left, _ = image({"home": "-> /da[t]a*/h?me", "da[t]a*/h?me/anna/a": CANARY, "data/home/anna/a": "b\n"})
    assert secret(left) == set()
    assert "data/home/anna/a" in paths(left)


def test_an_outline_goes_on_behind_what_it_knows():
    """What stands where no rule leads is not looked at before the source is read."""
    outline = make_tree({"var/lib/mysql": "-> /data/big/mysql", "data": None, "etc": None})
    followed = rules().follow_links(outline, is_outline=True)
    reading = followed.selection_for_reading(links_known=True)
    assert reading("data/big", True) is Inclusion.ALL
    assert reading("data/big/mysql", True) is Inclusion.EMPTIED
    assert followed.notes == ()


def test_an_outline_has_only_what_rules_lead_through():
    outlined = rules().link_search_selection
    asked = {path: outlined(path, True) for path in ("etc", "etc/ssh", "home", "etc/ssl/private", "usr/share", "tmp")}
    assert [path for path, take in asked.items() if take is Inclusion.ALL] == [
        "etc",
        "etc/ssh",
        "home",
        "etc/ssl/private",
    ]
    assert outlined("var/lib/mysql", True) is Inclusion.EMPTIED


@pytest.mark.parametrize(("absolute", "moved"), [*itertools.product([True, False], [0, 1, 2, 3])])
def test_a_rule_holds_wherever_one_of_its_parts_was_moved(absolute, moved):
    """`etc/ssl/private/*`, with each part of it a link in turn, and none."""
    names = ["etc", "ssl", "private"]
    entries = {"etc/ssl/private/key": CANARY}
    if moved:
        link = "/".join(names[:moved])
        up = "" if absolute else "../" * (moved - 1)
        target = f"{'/' if absolute else up}elsewhere"
        entries = {link: f"-> {target}", "/".join(["elsewhere", *names[moved:], "key"]): CANARY}
        if moved == 1:
            entries |= {"elsewhere/passwd": SYSTEM["etc/passwd"]}
    tree = make_tree({key: value for key, value in SYSTEM.items() if not key.startswith("etc/")} | entries)
    followed = rules().follow_links(tree)
    left = tree.select(followed.selection, followed.affects)
    assert secret(left) == set()
