"""The OPTIONS of ltsp-image(8), each line run as it is written."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess

import pytest

from corpus.site import Site, compressor, content, listing
from corpus.system import VERSION

pytestmark = pytest.mark.oracle


@pytest.fixture
def site(tmp_path):
    site = Site.make(tmp_path)
    site.system("lab")
    return site


def change(site, text="a new line\n"):
    """Make the next image differ from the last."""
    (site.base / "lab/etc/motd").write_text(text)


def initrds_behind(site, own):
    """What a menu of before loads: the initrd of the image, and at the next multiple of 4 the clients'."""
    whole = site.initrd("lab").read_bytes()
    ours = (site.initrd("lab").parent / "current/client.img").read_bytes()
    gap = whole[len(own) : -len(ours)]
    assert whole == own + gap + ours
    assert not any(gap)
    assert (len(own) + len(gap)) % 4 == 0
    return len(gap) >= 4


def test_an_image_and_its_kernel_are_published(site):
    done = site.ltsp("image", "lab")
    assert "published lab" in done.stdout
    assert content(site.image("lab"), "etc/os-release").startswith("PRETTY_NAME")
    assert site.kernel("lab").read_text() == (site.base / f"lab/boot/vmlinuz-{VERSION}").read_text()
    assert initrds_behind(site, (site.base / f"lab/boot/initrd.img-{VERSION}").read_bytes())


def test_ltsp_options_stand_before_the_applet_and_reach_every_step(site, tmp_path):
    """`-t` once stopped at the kernel step, which wrote to the default place."""
    other = tmp_path / "tftp of the lab"
    other.mkdir()
    site.ltsp(f"-b{site.base}", f"--tftp-dir={other}", "image", "lab", TFTP_DIR="")
    assert (other / "ltsp/lab/vmlinuz").exists()
    assert list(site.tftp.iterdir()) == []


@pytest.mark.parametrize("option", [(), ("-b1",), ("-b", "1"), ("--backup=1",), ("--backup", "1"), ("--back=1",)])
def test_backup_keeps_the_image_before_as_old_and_is_the_default(site, option):
    site.ltsp("image", "lab")
    first = site.image("lab").read_bytes()
    change(site)
    site.ltsp("image", *option, "lab")
    assert site.image("lab").read_bytes() != first
    assert (site.base / "images/lab.img.old").read_bytes() == first


@pytest.mark.parametrize("option", [("-b0",), ("--backup=0",), ("-b", "0")])
def test_without_backup_there_is_no_old_image(site, option):
    site.ltsp("image", "lab")
    change(site)
    site.ltsp("image", "lab", *option)
    assert not (site.base / "images/lab.img.old").exists()


def test_without_backup_an_old_image_stays_as_it_is(site):
    site.ltsp("image", "lab")
    first = site.image("lab").read_bytes()
    change(site)
    site.ltsp("image", "lab")
    change(site, "another\n")
    site.ltsp("image", "-b0", "lab")
    assert (site.base / "images/lab.img.old").read_bytes() == first


@pytest.mark.parametrize("option", [(), ("-c1",), ("--cleanup=1",)])
def test_cleanup_removes_accounts_and_sensitive_data_and_is_the_default(site, option):
    before = {path: path.read_bytes() for path in (site.base / "lab/etc").rglob("*") if path.is_file()}
    site.ltsp("image", *option, "lab")
    image = site.image("lab")
    assert "alice" not in content(image, "etc/passwd") + content(image, "etc/shadow") + content(image, "etc/group")
    assert "$6$" not in content(image, "etc/shadow")
    assert {"etc/ssh/ssh_host_ed25519_key", "home/alice", "etc/hostname"} & listing(image) == set()
    assert content(image, "etc/machine-id") == ""
    assert {path: path.read_bytes() for path in before} == before, "the source itself is never changed"


@pytest.mark.parametrize("option", ["-c0", "--cleanup=0"])
def test_without_cleanup_accounts_and_secrets_stay_and_only_the_owner_reads_the_image(site, option):
    done = site.ltsp("image", option, "lab")
    assert "alice" in content(site.image("lab"), "etc/passwd")
    assert "$6$" in content(site.image("lab"), "etc/shadow")
    assert stat.S_IMODE(site.image("lab").stat().st_mode) == 0o600
    assert "mode 0600: only its owner may read it" in done.stdout
    done = site.ltsp("image", option, "--image-mode=0644", "--name=open", "lab")
    assert "may read it" not in done.stdout


def test_ionice_is_a_prefix_command_that_the_build_runs_under(site, tmp_path):
    prefix = tmp_path / "prefix"
    prefix.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/called\nshift\nexec nice -n 7 "$@"\n')
    prefix.chmod(0o755)
    site.ltsp("image", "-i", f"{prefix} 'one word'", "lab", PRE_IMAGE_NICE="")
    assert (tmp_path / "called").read_text() == "one word\n"


def test_an_empty_ionice_disables_it_and_an_unknown_one_is_an_error(site):
    site.ltsp("image", "--ionice=", "lab")
    done = site.ltsp("image", "--ionice=no-such-program", "lab", status=2)
    assert "no-such-program" in done.stderr


def test_kernel_initrd_finds_the_kernel_and_names_its_initrd(site):
    live = site.base / "lab/live"
    live.mkdir()
    (live / f"vmlinuz-{VERSION}").write_text("\x7fELF live kernel")
    (live / f"initrd.img-{VERSION}").write_text("live initrd")
    site.ltsp("image", "-k", "live/vmlinuz-* s|vmlinuz|initrd.img|", "lab")
    assert site.kernel("lab").read_text() == "\x7fELF live kernel"
    assert initrds_behind(site, b"live initrd")


def test_homes_stay_out_wherever_they_lie(site):
    (site.base / "lab/usr/people/ann").mkdir(parents=True)
    (site.base / "lab/usr/people/ann/letter").write_text("private")
    site.ltsp("--home-dir=/usr/people", "image", "lab")
    assert "usr/people" in listing(site.image("lab"))
    assert not [path for path in listing(site.image("lab")) if path.startswith("usr/people/")]


def test_kernel_initrd_none_publishes_an_image_without_a_kernel(site):
    site.ltsp("image", "--kernel-initrd=none", "lab")
    assert site.image("lab").exists()
    assert not site.kernel("lab").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-m", "-comp xz"), "xz"),
        (("-m", "-comp gzip -Xcompression-level 1 -b 64K"), "gzip"),
        (("--mksquashfs-params=-comp zstd",), "zstd"),
        (("--mksquashfs-params", "-comp lz4"), "lz4"),
        (("-m-no-progress -comp xz -Xbcj x86",), "xz"),
    ],
)
def test_mksquashfs_params_are_followed(site, words, expected):
    """The last one asks for something that only the real mksquashfs does."""
    site.ltsp("image", *words, "lab")
    assert compressor(site.image("lab")) == expected


def test_what_the_built_in_engine_lacks_is_done_by_the_real_mksquashfs(site):
    (site.base / "lab/etc/notes.bak").write_text("old")
    site.ltsp("image", "-m", r"-noD -no-fragments -all-time 86400 -regex -e etc/[.]bak$", "lab")
    site.ltsp("image", "--name=whole", "lab")
    assert listing(site.image("whole")) - listing(site.image("lab")) == {"etc/notes.bak"}
    shown = subprocess.run(
        ["unsquashfs", "-UTC", "-lln", site.image("lab")], check=True, capture_output=True, text=True
    )
    assert {tuple(line.split()[3:5]) for line in shown.stdout.splitlines()} == {("1970-01-02", "00:00")}


@pytest.mark.parametrize("option", ["-r", "-r1", "--revert", "--revert=1"])
def test_revert_exchanges_current_and_old_with_their_kernels_and_needs_no_source(site, option):
    site.ltsp("image", "lab")
    first, first_kernel = site.image("lab").read_bytes(), site.kernel("lab").read_text()
    change(site)
    (site.base / f"lab/boot/vmlinuz-{VERSION}").write_text("\x7fELF another kernel")
    site.ltsp("image", "lab")
    second, second_kernel = site.image("lab").read_bytes(), site.kernel("lab").read_text()
    assert second_kernel != first_kernel
    (site.base / "lab").rename(site.base / "gone")

    site.ltsp("image", option, "lab")
    assert (site.image("lab").read_bytes(), site.kernel("lab").read_text()) == (first, first_kernel)
    assert (site.base / "images/lab.img.old").read_bytes() == second
    site.ltsp("image", option, "lab")
    assert (site.image("lab").read_bytes(), site.kernel("lab").read_text()) == (second, second_kernel)


def test_revert_restores_the_old_image_if_there_is_none(site):
    site.ltsp("image", "lab")
    first = site.image("lab").read_bytes()
    change(site)
    site.ltsp("image", "lab")
    site.image("lab").unlink()
    site.ltsp("image", "-r", "lab")
    assert site.image("lab").read_bytes() == first


def test_revert_to_an_image_that_another_ltsp_left_takes_the_kernel_out_of_it(site):
    site.ltsp("image", "lab")
    change(site)
    (site.base / f"lab/boot/vmlinuz-{VERSION}").write_text("\x7fELF another kernel")
    site.ltsp("image", "lab")
    old, boot = site.base / "images/lab.img.old", site.tftp / "ltsp/lab"
    first, second = old.read_bytes(), site.image("lab").read_bytes()
    shutil.rmtree(site.base / "images")
    shutil.rmtree(boot)
    for path, data in ((site.image("lab"), second), (old, first), (site.kernel("lab"), b"\x7fELF another kernel")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    done = json.loads(site.ltsp("image", "-r", "--json", "lab").stdout)
    assert done["images"][0]["reverted"]
    assert (site.image("lab").read_bytes(), old.read_bytes()) == (first, second)
    assert site.kernel("lab").read_text() == content(site.image("lab"), f"boot/vmlinuz-{VERSION}")
    site.ltsp("image", "-r", "lab")
    assert (site.image("lab").read_bytes(), site.kernel("lab").read_text()) == (second, "\x7fELF another kernel")


def test_revert_0_builds(site):
    assert "published" in site.ltsp("image", "--revert=0", "lab").stdout


def test_nothing_to_revert_to_is_an_error(site):
    site.ltsp("image", "lab")
    assert "lab has no previous version to revert to" in site.ltsp("image", "-r", "lab", status=1).stderr
