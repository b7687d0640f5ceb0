"""IMAGE TYPES and CHROOTS of ltsp-image(8): where sources are looked for, and what an image is called."""

from __future__ import annotations

import os

import pytest

from corpus.site import Site, listing
from corpus.system import make_system

pytestmark = pytest.mark.oracle


@pytest.fixture
def site(tmp_path):
    return Site.make(tmp_path)


def test_a_simple_name_is_a_chroot_below_the_base_directory(site):
    site.system("img_name")
    site.ltsp("image", "img_name")
    assert "etc/passwd" in listing(site.image("img_name"))


def test_a_base_directory_of_ones_own_is_configured_with_base_dir(site, tmp_path):
    make_system(tmp_path / "elsewhere/lab")
    site.ltsp(f"--base-dir={tmp_path}/elsewhere", "image", "lab")
    assert (tmp_path / "elsewhere/images/lab.img").exists()


def test_a_full_path_names_the_image_after_its_last_part(site, tmp_path):
    make_system(tmp_path / "chroots/x86_64")
    site.ltsp("image", f"{tmp_path}/chroots/x86_64/")
    assert site.image("x86_64").exists()


def test_the_working_directory_gives_its_own_name(site):
    make_system(site.home)
    site.ltsp("image", ".")
    assert site.image("root").exists()


def test_a_chroot_has_precedence_over_a_disk_of_its_name_with_a_note(site):
    site.system("lab")
    (site.base / "lab.img").write_bytes(bytes(1 << 20))
    done = site.ltsp("image", "lab")
    assert "not the VM disk" in done.stderr + done.stdout
    assert site.image("lab").exists()


def test_an_exported_image_is_rebuilt_from_the_source_that_its_manifest_records(site, tmp_path):
    system = make_system(tmp_path / "chroots/lab")
    site.ltsp("image", str(system))
    for name in ("motd", "issue"):
        (system / "etc" / name).write_text("new\n")
        done = site.ltsp("image", "lab")
        assert f"rebuilding it from its original source, {system}" in done.stderr
        assert f"etc/{name}" in listing(site.image("lab"))


def test_an_exported_image_is_its_own_source_with_recompress(site, tmp_path):
    system = make_system(tmp_path / "chroots/lab")
    site.ltsp("image", str(system))
    before = listing(site.image("lab"))
    site.ltsp("image", "--recompress", "--compression=xz", "lab")
    assert listing(site.image("lab")) == before


def test_an_exported_image_given_as_a_path_is_a_source_for_another_name(site):
    site.system("lab")
    site.ltsp("image", "lab")
    site.ltsp("image", str(site.image("lab")), "--name=copy")
    assert listing(site.image("copy")) == listing(site.image("lab"))


def test_without_names_every_chroot_is_made(site):
    for name in ("one", "two"):
        site.system(name)
    site.system("bad name")
    done = site.ltsp("image")
    assert site.image("one").exists()
    assert site.image("two").exists()
    assert "bad name" in done.stderr


def test_more_than_three_are_refused_unless_all_images_is_set(site):
    for number in range(4):
        site.system(f"lab{number}")
    assert "ALL_IMAGES=1" in site.ltsp("image", status=2).stderr
    site.ltsp("image", ALL_IMAGES="1")
    assert len(list((site.base / "images").glob("*.img"))) == 4


def test_one_that_fails_does_not_keep_the_others_from_being_made(site):
    site.system("one")
    site.system("two")
    done = site.ltsp("image", "one", "none", "two", status=1)
    assert site.image("one").exists()
    assert site.image("two").exists()
    assert "none" in done.stderr


def test_a_link_to_a_chroot_has_its_own_name(site, tmp_path):
    make_system(tmp_path / "system")
    os.symlink(tmp_path / "system", site.home / "amd64")
    site.ltsp("image", f"{site.home}/amd64")
    assert site.image("amd64").exists()


def test_a_disk_is_named_by_its_format_where_it_cannot_be_read(site):
    disk = site.base / "debian.img"
    disk.write_bytes(b"QFI\xfb" + bytes(100000))
    done = site.ltsp("image", "debian", status=1)
    assert "qcow2" in done.stderr
