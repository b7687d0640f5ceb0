"""Omissions that clients may need are listed in every run, with the setting that keeps them."""

import json
import subprocess

import pytest

from corpus.site import Site, listing
from ltsp.build import exclusions

KEYTAB = "OMIT_IMAGE_SECRETS='etc/krb5.keytab'"


@pytest.fixture
def site(tmp_path):
    return Site.make(tmp_path)


@pytest.fixture
def lab(site):
    """A member of a domain, with a large store, names of the network, a printer and a little of everything."""
    root = site.system(
        "lab",
        {
            "etc/krb5.keytab": "key",
            "var/lib/samba/private/secrets.tdb": "password",
            "var/lib/sss/db/cache_x.ldb": "cache",
            "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 server\n10.0.0.5 nas\n10.0.0.6 printer # first floor\n",
            "etc/cups/printers.conf": "# Printers\n<Printer a>\nDeviceURI ipp://a\n</Printer>\n<DefaultPrinter b>\n",
            "var/cache/apt/archives/a.deb": "",
            "var/lib/docker/overlay2/a": "",
        },
    )
    for path, size in (("var/cache/apt/archives/a.deb", 200 << 20), ("var/lib/docker/overlay2/a", 150 << 20)):
        with (root / path).open("wb") as file:
            file.truncate(size)
    return root


def said(site, *arguments):
    printed = site.ltsp("image", *arguments, "--name=lab").stdout
    return [line.removeprefix("left out  ") for line in printed.splitlines() if line.startswith("left out  ")]


SAID = [
    (
        "/etc/cups/printers.conf: 2 printers: clients have no local printers; set CUPS_SERVER in ltsp.conf to a "
        "print server; to keep it: OMIT_IMAGE_SECRETS='etc/cups/printers.conf'"
    ),
    (
        "/etc/hosts: 2 lines: clients do not know these names; add them with HOSTS_x in ltsp.conf; to keep it: "
        "OMIT_IMAGE_SECRETS='etc/hosts'"
    ),
    f"/etc/krb5.keytab: Kerberos logins and mounts need one; to keep it: {KEYTAB}",
    "/var/lib/docker/overlay2 (150 MiB); to keep it: OMIT_IMAGE_SECRETS='var/lib/docker'",
    (
        "/var/lib/samba/private: clients are not members of its domain: logins with winbind fail; to keep it: "
        "OMIT_IMAGE_SECRETS='var/lib/samba/*'"
    ),
    (
        "/var/lib/sss/db/cache_x.ldb: SSSD knows no users until its domain responds; to keep it: "
        "OMIT_IMAGE_SECRETS='var/lib/sss/db'"
    ),
]


def squashed(root, at):
    subprocess.run(["mksquashfs", root, at / "o.img", "-quiet", "-no-progress", "-comp", "gzip"], check=True)
    return f"{at}/o.img"


@pytest.mark.parametrize("make", [lambda root, _at: str(root), squashed], ids=["a directory", "an image"])
def test_a_run_lists_exactly_the_omissions_that_matter(make, site, lab, tmp_path):
    assert said(site, make(lab, tmp_path)) == SAID


def test_a_dry_run_lists_the_same(site, lab):
    assert said(site, str(lab), "--dry-run") == SAID


def test_a_fresh_system_has_no_omissions(site):
    root = site.system("plain", {"etc/hosts": "127.0.0.1 localhost\n127.0.1.1 server\n::1 localhost\n# 10.0.0.1 x\n"})
    assert said(site, str(root)) == []


def test_the_suggested_setting_keeps_it(site, lab):
    site.conf.write_text(f"[server]\n{KEYTAB}\n")
    assert not [line for line in said(site, str(lab)) if "krb5" in line]
    assert "etc/krb5.keytab" in listing(site.image("lab"))


def test_the_suggested_setting_keeps_a_path_named_by_settings(site, lab):
    """No list has a row for it, so none can be disabled."""
    (lab / "etc/nas.credentials").write_text("password=x\n")
    (lab / "etc/fstab").write_text("//nas/a /mnt cifs credentials=/etc/nas.credentials\n")
    (line,) = [line for line in said(site, str(lab)) if "nas.credentials" in line]
    assert line.startswith("/etc/nas.credentials: mounts with these credentials fail; to keep it: ")
    assert "etc/nas.credentials" not in listing(site.image("lab"))
    site.conf.write_text(f"[server]\n{line.partition('to keep it: ')[2]}\n")
    assert not [line for line in said(site, str(lab)) if "nas.credentials" in line]
    assert "etc/nas.credentials" in listing(site.image("lab"))


def test_json_has_each_path_and_size(site, lab):
    result = json.loads(site.ltsp("image", str(lab), "--name=lab", "--json").stdout)
    missed = {each["rule"]: each for each in result["images"][0]["missed"]}
    docker = missed["X var/lib/docker"]
    assert (docker["paths"], docker["bytes"]) == (["var/lib/docker/overlay2"], 150 << 20)
    assert missed["X etc/krb5.keytab"]["keep"] == KEYTAB


def test_without_cleanup_only_exclusions_apply(site, lab):
    assert said(site, str(lab), "--cleanup=0") == []


def test_a_directory_with_many_files_is_not_walked_completely(site, lab):
    for number in range(exclusions.MAX_MEASURED_ENTRIES + 50):
        (lab / f"home/{number}").touch()
    with (lab / "srv/large").open("wb") as file:
        file.truncate(300 << 20)
    (line,) = [line for line in said(site, str(lab)) if line.startswith("/srv")]
    assert line == "/srv/large (300 MiB); to keep it: OMIT_IMAGE_EXCLUDES='srv/*'"
