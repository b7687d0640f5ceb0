"""`ltsp initrd` from settings, files and accounts of a site to an archive as cpio(1) reads it."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from corpus.recording_report import RecordingReport
from corpus.site import Site
from ltsp.commands.initrd import initrd
from ltsp.errors import ConfError, LockHeld, LtspError
from ltsp.host.locks import hold_exclusive
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import read_conf
from ltsp.settings.network_options import InitrdOptions

CONF = """\
[server]
DNS=1
[common]
SEARCH_DOMAIN=lab.example.org
[clients]
FSTAB_HOME="server:/home /home nfs defaults,nolock 0 0"
KEEP_SYSTEM_SERVICES=fstrim
X_MODES=800x600

[52:54:00:12:34:56]
HOSTNAME=pc01
INCLUDE=guest
FSTAB_SCRATCH="tmpfs /scratch tmpfs size=10% 0 0"

[52-54-00-12-34-57]
HOSTNAME=pc02

[192.168.67.*]
KERNEL_PARAMETERS=quiet

[pc*]
MASK_SYSTEM_SERVICES=bluetooth
PASSWORDS_A="alice/YWJj"

[guest]
AUTOLOGIN=guest
POST_INIT_LN="ln -sf ../ltsp/xorg.conf /etc/X11/xorg.conf"
"""


class Place:
    """A server with a published image, whose own /etc is below `system`."""

    def __init__(self, root: Path) -> None:
        self.site = Site.make(root)
        self.system = root
        self.file("etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:$6$x$hash:1000:1000:Alice:/home/alice:/bin/bash\n")
        self.file("etc/group", "root:x:0:\nsudo:x:27:alice\nalice:x:1000:\n")
        self.file("etc/machine-id", "0123456789abcdef0123456789abcdef\n")

    def file(self, path: str, text: str) -> None:
        (self.system / path).write_text(text)

    def add_file(self, name: str, text: str = "text\n", mode: int = 0o644) -> Path:
        path = self.site.conf.parent / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def run(self, conf: str | None = None, **options: bool) -> RecordingReport:
        if conf is not None:
            self.site.conf.write_text(conf)
        report = RecordingReport()
        places = LtspOptions(base_dir=str(self.site.base), tftp_dir=str(self.site.tftp))
        initrd(InitrdOptions(**options), places, read_conf(str(self.site.conf)), report, str(self.system))
        return report

    @property
    def add_on(self) -> Path:
        return self.site.tftp / "ltsp/ltsp.img"

    def unpacked(self) -> Path:
        into = self.site.home / "unpacked"
        subprocess.run(["rm", "-rf", into], check=True)
        into.mkdir()
        with self.add_on.open("rb") as archive:
            subprocess.run(["cpio", "-idm", "--quiet", "--no-absolute-filenames"], stdin=archive, cwd=into, check=True)
        return into / "ltsp/site"


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.oracle
def test_a_site_of_several_sections_and_an_image(place):
    place.site.system("lab")
    place.site.ltsp("image", "lab")
    place.add_file("xorg.conf", "Section\n")
    report = place.run(CONF)
    size = _size(place.add_on)
    assert report.lines == [f"{place.add_on}: {size}, 4 layers", "files of /etc/ltsp that clients get: xorg.conf"]
    assert [warning.partition(": ")[2] for warning in report.warnings[:2]] == [
        "[52-54-00-12-34-57] matches no client: write the MAC address as [52:54:00:12:34:57]",
        "X_MODES has no effect on clients",
    ]
    assert "anyone on the network can read" in report.warnings[-1]
    assert f"{place.site.conf}:21" in report.warnings[-1]

    found = place.unpacked()
    common = found / "common"
    assert "fstrim.timer" not in (common / "unneeded").read_text().split()
    assert "apt-daily.timer" in (common / "unneeded").read_text().split()
    assert (common / "files/etc/ltsp/xorg.conf").read_text() == "Section\n"
    assert not (common / "files/etc/ltsp/ltsp.conf").exists()
    assert (common / "parts/etc/fstab/FSTAB_HOME").read_text() == "server:/home /home nfs defaults,nolock 0 0\n"
    assert (common / "templates").read_text() == "etc/hosts\n"
    assert (common / "env").read_text() == "SEARCH_DOMAIN='lab.example.org'\n"

    image = found / "image/lab/files/etc"
    assert (image / "passwd").read_text() == (
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        "alice:x:1000:1000:Alice:/home/alice:/bin/bash\n"
    )
    assert "sudo:x:27:alice\n" in (image / "group").read_text()
    assert (image / "shadow").read_text().endswith("alice:!:::::::\n")
    assert stat.S_IMODE((image / "shadow").stat().st_mode) == 0o640

    assert sorted(os.listdir(found / "section")) == ["0001", "0002"]
    first, second = found / "section/0001", found / "section/0002"
    assert (first / "match").read_text() == "52:54:00:12:34:56\n"
    assert (first / "env").read_text() == "HOSTNAME='pc01'\n"
    assert sorted(os.listdir(first / "parts/etc/fstab")) == ["FSTAB_SCRATCH"]
    assert (first / "files/etc/ltsp/autologin").read_text() == "guest\n"
    assert (first / "files/etc/ltsp/post-init/POST_INIT_LN").read_text().startswith("ln -sf")
    assert (second / "match").read_text() == "pc*\n"
    assert (second / "mask").read_text() == "bluetooth.service\n"
    assert (second / "shadow").read_text().startswith("alice:$6$")
    assert stat.S_IMODE((second / "shadow").stat().st_mode) == 0o600
    assert not (first / "shadow").exists()
    assert b"$6$x$hash" not in place.add_on.read_bytes()


@pytest.mark.oracle
def test_the_autologin_getty_is_a_valid_shell_script(place):
    place.run("[clients]\nAUTOLOGIN=guest\nPOST_INIT_A='echo a'\n")
    files = place.unpacked() / "common/files"
    for path in ("usr/share/ltsp/getty", "etc/ltsp/post-init/POST_INIT_A"):
        subprocess.run(["sh", "-n", files / path], check=True)


def _size(path):
    return f"{path.stat().st_size / 1024:.0f} KiB"


def test_a_second_run_does_not_change_the_file(place):
    assert place.run(CONF).lines[0].startswith(str(place.add_on))
    before = place.add_on.stat()
    assert place.run().lines[0].startswith("unchanged")
    now = place.add_on.stat()  # read meanwhile, so that its atime may be another
    assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    place.run(CONF.replace("pc01", "pc03"))
    assert place.add_on.stat().st_ino != before.st_ino
    assert stat.S_IMODE(place.add_on.stat().st_mode) == 0o644


def test_the_bytes_depend_only_on_the_settings(place, tmp_path, monkeypatch):
    place.add_file("a/b")
    place.run(CONF)
    other = Place(tmp_path / "other")
    other.add_file("a/b")
    os.utime(other.site.conf.parent / "a/b", (1, 1))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old = os.umask(0o077)
    try:
        other.run(CONF)
    finally:
        os.umask(old)
    assert place.add_on.read_bytes() == other.add_on.read_bytes()
    assert stat.S_IMODE(other.add_on.stat().st_mode) == 0o644


def test_all_faults_are_reported_at_once_and_the_add_on_is_kept(place):
    place.run("")
    before = place.add_on.stat()
    with pytest.raises(ConfError) as caught:
        place.run("[clients]\nTIMEZONE=../x\nINCLUDE=nothing\n[pc1]\nHOSTS_A='x\ny'\nPASSWORDS_A=alice/$6$x$\n")
    message = caught.value.message
    for line, key in ((2, "TIMEZONE"), (3, "INCLUDE"), (5, "HOSTS_A")):
        assert f"{place.site.conf}:{line}: {key}" in message
    assert "\n" not in message
    assert place.add_on.stat() == before


def test_a_dry_run_lists_the_contents_and_writes_nothing(place):
    report = place.run(CONF, dry_run=True)
    assert not place.add_on.parent.exists()
    assert ("section/0002", "[pc*]", "pc*", "mask bluetooth.service") in report.rows
    assert ("section/0002", "[pc*]", "pc*", "password of alice") in report.rows
    assert not any("$6$" in cell for row in report.rows for cell in row)


def test_long_lists_of_a_dry_run_are_wrapped(place):
    """The default list has about 300 units, whose names contain hyphens."""
    report = place.run("", dry_run=True)
    masked = [cell.removeprefix("unneeded ") for *_, cell in report.rows if cell.startswith("unneeded ")]
    assert len(masked) > 10
    assert max(map(len, masked)) <= 72
    assert {"apt-daily.timer", "systemd-networkd-wait-online.service"} <= set(" ".join(masked).split())


def test_json_output_is_complete_except_for_hashes(place):
    facts = place.run(CONF, json=True).facts
    assert facts["path"] == str(place.add_on)
    assert facts["size"] == place.add_on.stat().st_size
    assert facts["written"] is True
    assert [each["name"] for each in facts["layers"]] == ["common", "section/0001", "section/0002"]
    assert facts["layers"][1]["parts"]["etc/fstab"] == ["FSTAB_SCRATCH"]
    assert facts["layers"][2]["passwords"] == ["alice"]
    assert "$6$" not in str(facts)
    assert place.run(json=True).facts["changed"] is False


def test_secret_and_untrusted_files_stay_on_the_server(place):
    place.add_file("sshfs", mode=0o755)
    place.add_file("key", "secret-of-site\n", mode=0o600)
    place.add_file("private/in", "secret-of-site\n").parent.chmod(0o700)
    place.add_file("open", "secret-of-site\n", mode=0o666)
    place.add_file("post-init/x", "secret-of-site\n")
    for name in ("ltsp.conf.bak", "image.secrets", ".hidden", "old~"):
        place.add_file(name, "secret-of-site\n")
    os.symlink("sshfs", place.site.conf.parent / "link")
    os.mkfifo(place.site.conf.parent / "fifo")
    place.add_file("two\nlines")
    report = place.run("[clients]\nPOST_INIT_A=true\n", json=True)
    files = [path for path in report.facts["layers"][0]["files"] if path.startswith("etc/ltsp")]
    assert files == ["etc/ltsp/link", "etc/ltsp/post-init/POST_INIT_A", "etc/ltsp/sshfs"]
    assert b"secret-of-site" not in place.add_on.read_bytes()
    named = [Path(warning.split(" ", 1)[0]).name for warning in report.warnings]
    assert named == ["fifo", "key", "open", "private", r"two\nlines"]


def test_a_directory_that_is_closed_to_others_stays_on_the_server(place):
    place.add_file("diary", "secret-of-site\n")
    place.site.conf.parent.chmod(0o700)
    report = place.run(json=True)
    assert b"secret-of-site" not in place.add_on.read_bytes()
    assert any("nothing in" in warning and "chmod" in warning for warning in report.warnings)


def test_files_next_to_another_ltsp_conf_are_not_copied(place):
    """It may be in /root, or in a user's directory."""
    elsewhere = place.site.home / "ltsp.conf"
    place.add_file("for-clients")
    for name in ("diary", "private/notes"):
        (elsewhere.parent / name).parent.mkdir(exist_ok=True)
        (elsewhere.parent / name).write_text("secret-of-site\n")
    (elsewhere.parent / "passwd").write_text("carol:x:5000:5000::/home/carol:/bin/bash\n")
    place.site = replace(place.site, conf=elsewhere)
    report = place.run("[clients]\nPASSWORDS_A=[a-z]*/YWJj\n", json=True)
    assert [path for path in report.facts["layers"][0]["files"] if path.startswith("etc/ltsp")] == []
    assert report.facts["layers"][0]["passwords"] == ["carol"]
    assert b"secret-of-site" not in place.add_on.read_bytes()


def test_the_site_directory_may_be_a_link(place):
    place.add_file("for-clients")
    os.symlink(place.site.conf.parent, place.site.home / "site")
    place.site = replace(place.site, conf=place.site.home / "site/ltsp.conf")
    assert "etc/ltsp/for-clients" in place.run("", json=True).facts["layers"][0]["files"]


def test_files_that_clients_get_are_listed(place):
    place.add_file("xorg.conf")
    place.add_file("bin/tool", mode=0o755)
    assert (
        "files of /etc/ltsp that clients get: bin/tool, xorg.conf" in place.run("[clients]\nPOST_INIT_A=true\n").lines
    )
    for number in range(30):
        place.add_file(f"many/{number:02}")
    assert any(note.endswith(", and 12 more; --dry-run lists them") for note in place.run().lines)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"big.tar": 33 << 20}, "1 file with 33 MiB"),
        ({f"{number}.bin": 5 << 20 for number in range(7)}, "7 files with 35 MiB"),
        (dict.fromkeys(map(str, range(1001)), 0), "1001 files with 0 bytes"),
    ],
)
def test_too_many_files_for_clients_are_an_error(place, sizes, says):
    place.run("")
    before = place.add_on.read_bytes()
    for name, size in sizes.items():
        os.truncate(place.add_file(name), size)
    with pytest.raises(LtspError, match=says) as caught:
        place.run()
    assert next(iter(sizes)) in caught.value.message or "0.bin" in caught.value.message
    assert place.add_on.read_bytes() == before


def test_ltsp_conf_stays_on_the_server_whatever_its_name(place):
    place.site = replace(place.site, conf=place.site.conf.with_name("room.conf"))
    place.add_file("room.conf.bak", "secret-of-site\n")
    place.add_file("room", "for clients\n")
    report = place.run("[clients]\nHOSTNAME=pc%{IP}\n", json=True)
    assert [path for path in report.facts["layers"][0]["files"] if path.startswith("etc/ltsp")] == ["etc/ltsp/room"]


def test_accounts_next_to_ltsp_conf_replace_those_of_the_server(place):
    place.add_file("passwd", "carol:x:5000:5000::/home/carol:/bin/bash\n")
    report = place.run("[clients]\nPASSWORDS_A=[a-z]*/YWJj\n", json=True)
    assert report.facts["layers"][0]["passwords"] == ["carol"]
    assert not any("passwd" in path for path in report.facts["layers"][0]["files"])


def test_merging_cannot_differ_among_clients(place):
    with pytest.raises(ConfError, match=r"ltsp.conf:2: PWMERGE_SUR must be the same for all clients"):
        place.run("[clients]\nPWMERGE_SUR='.*%{HOSTNAME#pc}'\n")
    report = place.run("[pc1]\nPWMERGE_SUR='al.*'\n")
    assert "PWMERGE_SUR has no effect in this section: move it to [clients] or [common]" in report.warnings[0]


def test_expressions_in_ltsp_conf_select_the_merged_users(place):
    place.site.system("lab")
    place.site.ltsp("image", "lab")
    place.file("etc/passwd", "alice:x:1000:1000::/home/alice:\nbob:x:1001:1001::/home/bob:\n")
    report = place.run("[clients]\nPWMERGE_SUR=bob\n", dry_run=True)
    assert ("image/lab", "lab", "its clients", "file etc/passwd") in report.rows
    place.run()
    assert b"bob:x:1001" in place.add_on.read_bytes()
    assert b"alice" not in place.add_on.read_bytes()


def test_a_chroot_that_clients_boot_gets_the_server_s_users(place):
    place.site.system("dev", {"usr/share/xsessions/xfce.desktop": ""})
    place.site.system("unused")
    place.site.ltsp("kernel", "dev")
    place.file("etc/passwd", "bob:x:1001:1001::/home/bob:\n")
    report = place.run("[clients]\nAUTOLOGIN=bob\n", json=True)
    (layer,) = [each for each in report.facts["layers"] if each["name"].startswith("image/")]
    assert layer["name"] == "image/dev"
    assert layer["files"] == ["etc/passwd", "etc/sddm.conf.d/80-ltsp-session.conf"]


def test_an_unreadable_image_causes_a_warning(place):
    (place.site.base / "images").mkdir()
    (place.site.base / "images/disk.img").write_bytes(b"no squashfs" * 1000)
    report = place.run("")
    assert len(report.warnings) == 1
    assert "not merged into those of disk" in report.warnings[0]


def test_a_missing_tftp_directory_is_not_created(place):
    place.site.tftp.rmdir()
    with pytest.raises(LtspError, match=r"clients fetch ltsp\.img from it"):
        place.run("")


def test_passwords_are_never_in_a_message(place):
    with pytest.raises(ConfError) as caught:
        place.run("[pc1]\nPASSWORDS_A='alice/hunter2!'\n")
    assert "hunter2" not in str(caught.value)


def test_hashes_in_a_published_image_are_kept(place):
    place.site.system("lab")
    place.site.ltsp("image", "lab", "--cleanup=0", SECRETS="warn")
    place.file("etc/passwd", "bob:x:1001:1001::/home/bob:/bin/sh\n")
    report = place.run("")
    assert any("keeps its own passwords" in warning for warning in report.warnings)
    assert b"$6$salt$hash" not in place.add_on.read_bytes()
    assert b"bob:!\n" in place.add_on.read_bytes()


def test_conflicting_accounts_are_reported(place):
    place.site.system("lab", {"etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:120:120::/:/bin/sh\n"})
    place.site.ltsp("image", "lab")
    report = place.run("")
    assert report.warnings == [
        "accounts in lab: alice is left out: the image has a system account of that name (UID 120)"
    ]


def test_a_run_waits_for_another_one_and_then_fails(place, monkeypatch):
    monkeypatch.setattr("ltsp.build.add_on._LOCK_TIMEOUT", 0.0)
    place.run("")
    before = place.add_on.read_bytes()
    with (
        hold_exclusive(str(place.add_on.parent / ".ltsp.img.lock")),
        pytest.raises(LockHeld, match="another `ltsp initrd` is running"),
    ):
        place.run("[clients]\nHOSTNAME=pc1\n")
    assert place.add_on.read_bytes() == before


def test_publishing_updates_an_existing_add_on(tmp_path):
    site = Site.make(tmp_path)
    lab = site.system("lab")
    add_on = site.tftp / "ltsp/ltsp.img"
    (site.conf.parent / "passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:5000:5000::/home/alice:/bin/sh\n")
    (site.conf.parent / "group").write_text("root:x:0:\nalice:x:5000:\n")
    site.ltsp("image", "lab")
    assert not add_on.exists()
    site.ltsp("initrd")
    before = add_on.read_bytes()
    assert b"alice" in before
    with (lab / "etc/passwd").open("a") as passwd:
        passwd.write("avahi:x:110:110::/run/avahi:/usr/sbin/nologin\n")
    done = site.ltsp("image", "lab")
    assert f"updated {add_on} with" in done.stderr
    assert b"avahi:x:110" in add_on.read_bytes()
    assert "made" not in site.ltsp("image", "lab").stderr
    site.ltsp("image", "--revert", "lab")
    assert add_on.read_bytes() == before


def test_an_add_on_that_cannot_be_updated_is_kept_and_the_image_is_published(tmp_path):
    site = Site.make(tmp_path)
    lab = site.system("lab")
    site.ltsp("image", "lab")
    site.ltsp("initrd")
    add_on = site.tftp / "ltsp/ltsp.img"
    before = add_on.read_bytes()
    site.conf.write_text("[clients]\nHOSTNAME='not a name'\n")
    (lab / "etc/new").write_text("new\n")
    done = site.ltsp("image", "lab")
    assert "was not updated" in done.stderr
    assert "published lab" in done.stdout
    assert add_on.read_bytes() == before
