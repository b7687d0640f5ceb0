"""What clients boot by is made with the image, and what no client could boot is refused."""

from __future__ import annotations

import json
import shutil

import pytest

from corpus.error_checks import command_refused, refused
from corpus.site import Site
from corpus.system import BUILT_IN, VERSION, configuration

pytestmark = pytest.mark.oracle

WITHOUT_LOOP = "".join(f"kernel/{path}.ko\n" for path in BUILT_IN if not path.endswith("/loop"))


@pytest.fixture
def site(tmp_path):
    site = Site.make(tmp_path)
    site.system("lab")
    site.ltsp("image", "lab")
    return site


def without_loop(site):
    (site.base / f"lab/lib/modules/{VERSION}/modules.builtin").write_text(WITHOUT_LOOP)


def current(site, name="lab"):
    return json.loads(site.ltsp("versions", "--json", name).stdout)[name]["versions"][-1]


def test_an_image_brings_the_initrd_of_its_clients(site):
    files = current(site)["files"]
    assert {"vmlinuz", "initrd.img", "client.img"} <= set(files)
    assert files["client.img"] > 100_000
    assert "rdinit=/ltsp/init" in (site.tftp / "ltsp/lab/boot.ipxe").read_text()


def test_kernel_alone_brings_it_too_and_makes_the_same_of_the_same(site):
    with_image = current(site)
    assert "unchanged lab" in site.ltsp("kernel", "lab").stdout
    site.ltsp("kernel", "--client-drivers=r8169", "--busybox", shutil.which("busybox"), "lab")
    assert current(site)["files"] == with_image["files"]


def test_a_chroot_without_an_image_gets_an_initrd_by_kernel(site):
    site.system("chroot")
    site.ltsp("kernel", "chroot")
    assert "client.img" in current(site, "chroot")["files"]


def test_what_no_client_could_boot_is_refused_before_anything_is_built(site):
    without_loop(site)
    says = ["no client could boot lab", "lacks the module loop", "linux-image", "--no-preflight"]
    for applet in ("image", "kernel"):
        command_refused(site, applet, "--quiet", str(site.base / "lab"), status=1, says=says)


def test_preflight_can_be_overruled(site):
    without_loop(site)
    done = site.ltsp("image", "--no-preflight", "lab")
    assert "lacks the module loop" in done.stderr
    assert "client.img" in current(site)["files"]
    assert any("lacks the module loop" in warning for warning in current(site)["warnings"])


def test_a_dry_run_tells_what_a_build_would_refuse(site):
    without_loop(site)
    assert "lacks the module loop" in site.ltsp("image", "--dry-run", "lab").stderr


def test_a_codec_that_the_kernel_does_not_read_is_refused(site):
    (site.base / f"lab/boot/config-{VERSION}").write_text(configuration("ZLIB"))
    refused(site, "--compression=zstd", "lab", says=["squashfs images compressed with zstd", "supported: gzip"])
    site.ltsp("image", "lab")


def test_a_kernel_without_modules_names_the_remedy(site):
    shutil.rmtree(site.base / f"lab/lib/modules/{VERSION}")
    refused(site, "lab", says=[VERSION])
    done = site.ltsp("image", "--no-preflight", "lab")
    assert "published without the clients' initrd" in done.stderr
    assert "no client can boot it" not in done.stderr
    assert "client.img" not in current(site)["files"]


def test_an_image_without_an_initrd_is_reported_as_unbootable(site):
    shutil.rmtree(site.base / f"lab/lib/modules/{VERSION}")
    for path in ("initrd.img", f"boot/initrd.img-{VERSION}"):
        (site.base / "lab" / path).unlink()
    done = site.ltsp("image", "--no-preflight", "lab")
    assert "published without the clients' initrd, and /vmlinuz has none of its own" in done.stderr


def test_a_kernel_without_an_initrd_is_nothing_to_warn_of_as_clients_have_ours(site):
    for path in ("initrd.img", f"boot/initrd.img-{VERSION}"):
        (site.base / "lab" / path).unlink()
    done = site.ltsp("image", "lab")
    assert "kernel    /vmlinuz without an initrd: the system's default" in done.stdout
    assert "initrd" not in "".join(line for line in done.stderr.splitlines() if line.startswith("warning"))


def test_what_preflight_can_be_overruled_in_names_the_option(site):
    (site.base / f"lab/lib/modules/{VERSION}/modules.dep").unlink()
    refused(site, "lab", says=["modules.dep is not in the image", "--no-preflight"])
    assert "published without the clients' initrd" in site.ltsp("image", "--no-preflight", "lab").stderr


def test_the_choice_among_kernels_is_in_the_plan_the_summary_and_the_manifest(site):
    (site.base / "lab/vmlinuz").unlink()
    (site.base / "lab/boot/vmlinuz-9.9").write_text("\x7fELF newer, and without modules")
    done = site.ltsp("image", "--json", "lab")
    line = f"/boot/vmlinuz-{VERSION} with /boot/initrd.img-{VERSION}: newest with modules"
    passed = "/boot/vmlinuz-9.9 (no /lib/modules/9.9)"
    assert f"kernel    {line}; passed over: {passed}" in done.stderr
    [told] = json.loads(done.stdout)["images"]
    assert told["kernel"]["reason"] == "newest with modules"
    assert told["kernel"]["passed_over"] == [{"path": "boot/vmlinuz-9.9", "reason": "no /lib/modules/9.9"}]
    [version] = (site.base / "images/.versions/lab").glob(f"{told['version']}/manifest.json")
    manifest = json.loads(version.read_text())
    assert manifest["kernel"]["passed_over"] == {"boot/vmlinuz-9.9": "no /lib/modules/9.9"}
    assert "passed over: " + passed in site.ltsp("kernel", "lab").stdout


def test_a_kernel_of_unknown_version_has_the_modules_of_the_only_one(site):
    (site.base / f"lab/boot/vmlinuz-{VERSION}").rename(site.base / "lab/boot/vmlinuz")
    site.ltsp("image", "lab")
    assert "client.img" in current(site)["files"]


@pytest.mark.parametrize(("path", "status"), [("nowhere", 2), ("lab/etc/passwd", 1)])
def test_a_busybox_that_will_not_do_is_refused(site, path, status):
    refused(site, f"--busybox={site.base / path}", "lab", status=status, says=["busybox"])


def test_an_initrd_that_was_damaged_on_disk_is_rebuilt(site):
    before = current(site)["files"]["client.img"]
    path = site.tftp / "ltsp/lab/current/client.img"
    path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    site.ltsp("image", "lab")
    assert current(site)["files"]["client.img"] == before
    assert path.read_bytes()[-100:] != bytes(100)
