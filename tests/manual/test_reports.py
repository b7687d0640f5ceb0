"""What a run tells, and to whom: people, programs or nobody; before, after, and of several images at once."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from corpus.error_checks import left_behind, unharmed
from corpus.site import Site, listing
from corpus.system import KERNEL, VERSION

pytestmark = pytest.mark.oracle


@pytest.fixture
def site(tmp_path):
    site = Site.make(tmp_path)
    site.system("lab")
    return site


def change(site, text):
    (site.base / "lab/etc/motd").write_text(text)


def events(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


# As data, and as nothing


def test_json_is_one_document_on_standard_output_and_people_read_on(site):
    done = site.ltsp("image", "--json", "lab")
    (image,) = json.loads(done.stdout)["images"]
    assert image["name"] == "lab"
    assert image["published"] is True
    kernel = {"path": "vmlinuz", "version": VERSION, "initrd": "initrd.img"}
    assert image["kernel"] == {**kernel, "reason": "the system's default", "passed_over": []}
    assert image["size"] == site.image("lab").stat().st_size
    assert image["sha256"] == subprocess.check_output(["sha256sum", site.image("lab")], text=True).split()[0]
    assert "published lab" in done.stderr
    again = json.loads(site.ltsp("image", "--json", "--quiet", "lab").stdout)["images"][0]
    assert (again["published"], again["version"]) == (False, image["version"])


def test_json_of_a_failure_is_not_cut_off(site):
    done = site.ltsp("image", "--json", "--quiet", "nothing", status=1)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    both = site.ltsp("image", "--json", "--quiet", "nothing", "lab", status=1)
    assert [image["name"] for image in json.loads(both.stdout)["images"]] == ["lab"]
    assert both.stderr.startswith('ltsp: no source "nothing"')


def test_progress_as_json_is_an_object_a_line_with_the_result_last(site):
    every = events(site.ltsp("image", "--progress=json", "lab"))
    steps = [event["step"] for event in every if event["event"] == "step"]
    assert steps == [
        "reading the tree",
        "making the clients' initrd",
        "estimating the space",
        "writing the image",
        "publishing",
    ]
    assert [event["step"] for event in every if event["event"] == "done" and event["ok"]] == steps
    assert every[-1]["event"] == "result"
    assert every[-1]["result"]["images"][0]["name"] == "lab"


def test_progress_as_json_tells_which_of_several_failed(site):
    every = events(site.ltsp("image", "--progress=json", "nothing", "lab", status=1))
    (error,) = [event for event in every if event["event"] == "error"]
    assert 'no source "nothing"' in error["text"]
    assert error["status"] == 1
    quiet = {event["event"] for event in events(site.ltsp("image", "--progress=json", "--quiet", "lab"))}
    assert quiet <= {"result", "warning"}


def test_quiet_says_nothing_where_all_is_well(site):
    for words in (("image", "--quiet", "lab"), ("kernel", "--quiet", "lab"), ("image", "-r", "--quiet", "lab")):
        for text in ("one\n", "two\n"):
            change(site, text)
            done = site.ltsp(*words)
            assert (done.stdout, done.stderr) == ("", ""), words


# What would be done


def test_a_dry_run_writes_nothing_at_all(site):
    before = sorted(site.base.parent.parent.rglob("*"))
    done = site.ltsp("image", "--dry-run", "lab")
    assert "etc/ssh/ssh_host_" in done.stdout
    site.ltsp("image", "--dry-run", "--json", "lab")
    assert sorted(site.base.parent.parent.rglob("*")) == before, "not even a lock"
    site.ltsp("image", "lab")
    change(site, "changed\n")
    with unharmed(site):
        site.ltsp("image", "--dry-run", "lab")


def compared(site, root, *words):
    """What the image lacks of a root, and what --dry-run said of that."""
    said = json.loads(site.ltsp("image", "--dry-run", "--json", "--name=lab", *words, str(root)).stdout)["images"][0]
    site.ltsp("image", "--name=lab", "-m", "-comp lz4", *words, str(root))
    find = ["find", root, "-mindepth", "1", "-printf", r"%P\n"]
    there = set(subprocess.run(find, capture_output=True, text=True, check=True).stdout.splitlines())
    return there - listing(site.image("lab")), {path for rule in said["left_out"] for path in rule["paths"]}, said


def below(paths, there):
    """The paths with all that lies in them."""
    return {path for path in there if any(path == each or path.startswith(f"{each}/") for each in paths)}


def test_what_is_missing_in_the_image_is_what_a_dry_run_listed(site):
    missing, listed, said = compared(site, site.base / "lab")
    assert "home/alice" in missing
    assert "etc/hostname" in missing
    assert below(listed, missing | listed) == missing
    assert sum(rule["files"] for rule in said["left_out"]) > 0


@pytest.mark.root
def test_what_is_missing_of_a_real_root_is_what_a_dry_run_listed(site, debian_root, record_property):
    missing, listed, said = compared(site, debian_root)
    assert below(listed, missing | listed) == missing
    assert missing
    assert said["kernel"]["path"]
    record_property("R13", f"{len(missing)} paths missing of a Debian root, each listed before")


def test_the_dry_run_tells_of_what_a_build_would_refuse(site):
    shutil.rmtree(site.base / "lab/boot")
    assert "no kernel" in site.ltsp("image", "--dry-run", "lab", status=1).stderr


# The other applets


@pytest.fixture
def three(site):
    """Three versions of an image, oldest first."""
    names = []
    for number in range(3):
        change(site, f"{number}\n")
        names.append(json.loads(site.ltsp("image", "--json", "lab").stdout)["images"][0]["version"])
    return names


def state(site):
    return json.loads(site.ltsp("versions", "--json", "lab").stdout)["lab"]


def versions(site):
    return [each["version"] for each in state(site)["versions"]]


def test_versions_are_listed_used_pinned_removed_and_pruned(site, three):
    first, second, third = three
    assert versions(site) == three
    assert (state(site)["current"], state(site)["before"]) == (third, second)
    table = site.ltsp("versions", "lab").stdout
    assert all(version in table for version in three)

    site.ltsp("versions", "--use", first, "lab")
    assert (state(site)["current"], state(site)["before"]) == (first, third)
    assert site.image("lab").samefile(site.base / f"images/.versions/lab/{first}/image.img")
    site.ltsp("versions", "--pin", second, "lab")
    assert "pinned" in site.ltsp("versions", "lab").stdout
    for version, why in ((first, "current"), (second, "pinned")):
        with unharmed(site):
            assert why in site.ltsp("versions", "--remove", version, "lab", status=1).stderr
    site.ltsp("versions", "lab", "--prune", "--keep=1")
    assert versions(site) == [first, second]
    site.ltsp("versions", "--unpin", second, "lab")
    site.ltsp("versions", "--remove", second, "lab")
    assert versions(site) == [first]


def test_options_that_do_not_apply_to_versions_are_refused(site, three):
    with unharmed(site):
        assert "no version" in site.ltsp("versions", "--use=20000101T000000Z-00000000", "lab", status=1).stderr
        assert "no image none" in site.ltsp("versions", "none", status=1).stderr
        for words in (("--use", three[0]), ("--keep=2", "lab"), ("--use", three[0], "lab", "lab2")):
            site.ltsp("versions", *words, status=2)


def test_info_tells_of_sources_images_and_places(site, three):
    (site.base / "disk.img").write_bytes(bytes(4096))
    said = site.ltsp("info").stdout
    assert all(word in said for word in (str(site.base), str(site.tftp), "chroot", "virtual machine disk", three[2]))
    facts = json.loads(site.ltsp("info", "--json").stdout)
    assert facts["sources"] == {"disk": "virtual machine disk", "lab": "chroot"}
    assert facts["images"]["lab"]["current"] == three[2]
    assert facts["directories"]["tftp_dir"]["path"] == str(site.tftp)


def test_info_of_a_missing_directory_is_not_a_failure(site):
    assert "missing" in site.ltsp("-b", "/nowhere/at/all", "info").stdout


def test_kernel_publishes_another_kernel_of_the_exported_image_with_it(site):
    (site.base / "lab/boot/mine").write_text(f"{KERNEL} mine")
    site.ltsp("image", "lab")
    image = site.image("lab").read_bytes()
    assert "unchanged lab" in site.ltsp("kernel", "lab").stdout
    done = json.loads(site.ltsp("kernel", "--json", "-k", "boot/mine", "lab").stdout)
    assert done["kernels"][0]["kernel"]["path"] == "boot/mine"
    assert site.kernel("lab").read_text() == f"{KERNEL} mine"
    assert site.image("lab").read_bytes() == image


def test_a_custom_rule_that_matches_nothing_is_reported(site):
    for rule in ("live/vmlinuz-* s|vmlinuz|initrd|", f"boot/vmlinuz-{VERSION} s|vmlinuz|nothing|"):
        assert "--kernel-initrd=" in site.ltsp("image", "--quiet", "-k", rule, "lab").stderr


def test_a_dry_run_needs_no_place_for_images(site, tmp_path):
    places = (f"-b{tmp_path}/no/base", f"-t{tmp_path}/no/tftp")
    assert "free" in site.ltsp(*places, "image", "--dry-run", str(site.base / "lab")).stdout
    assert not (tmp_path / "no").exists()


def test_a_rule_of_ones_own_that_leads_to_another_file_takes_it_for_no_kernel(site):
    said = site.ltsp("image", "--quiet", "-k", f"boot/config-{VERSION}", "lab").stderr
    assert f"passed over /boot/config-{VERSION}: not a kernel" in said
    assert site.kernel("lab").read_text() == KERNEL


def test_kernel_without_a_kernel_is_a_usage_error(site):
    assert "--kernel-initrd=none" in site.ltsp("kernel", "--kernel-initrd=none", "lab", status=2).stderr


def test_kernel_without_a_name_takes_what_clients_boot_and_before_that_the_sources(site):
    def done():
        return [each["name"] for each in json.loads(site.ltsp("kernel", "--json").stdout)["kernels"]]

    assert done() == ["lab"]
    site.system("other")
    assert done() == ["lab"]
    site.ltsp("image", "other")
    assert done() == ["lab", "other"]


def test_more_than_three_images_are_not_meant_by_no_name(site):
    for name in ("b", "c", "d"):
        site.system(name)
    site.ltsp("image", "lab", "b", "c", "d")
    for each in ("lab", "b", "c", "d"):
        shutil.rmtree(site.base / each)
    assert "ALL_IMAGES=1" in site.ltsp("kernel", status=2).stderr
    said = json.loads(site.ltsp("kernel", "--json", ALL_IMAGES="1").stdout)
    assert len(said["kernels"]) == 4


def test_kernel_needs_no_image(site):
    site.ltsp("kernel", "lab")
    assert site.kernel("lab").read_text() == KERNEL
    assert not site.image("lab").exists()


# Several at once


def test_the_worst_of_several_ends_is_the_exit_status(site):
    site.system("other")
    assert site.ltsp("image", "--quiet", "lab", "other").stderr == ""
    failed = site.ltsp("image", "--quiet", "lab", "none", "other", "nothing", status=1)
    assert [line.split(":")[1] for line in failed.stderr.splitlines()] == [
        ' no source "none"',
        ' no source "nothing"',
    ]
    before = site.everything()
    site.ltsp("image", "--quiet", "lab", "bad name", "other", status=2)
    site.ltsp("image", "--quiet", "lab", str(site.base / "lab"), status=2)
    assert site.everything() == before, "a wrong command line is told before any work"
    assert left_behind(site) == []
