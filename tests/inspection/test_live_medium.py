"""Live media: which system on them is meant, layers over each other, and the kernel that only the medium has."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import struct
import subprocess

import pytest

from corpus.site import Site
from corpus.system import VERSION, make_system
from ltsp.boot.kernel import find_kernel
from ltsp.errors import LtspError, SourceError
from ltsp.inspection.live_medium import LiveMedium, find_layer_chain, find_other_layers
from ltsp.source.find import find_source
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.selection import Inclusion, select_all
from ltsp.tree.tree import Tree

DESKTOP = """\
- default: true
  description:
    en: 'A desktop: small, and usable'
  id: ubuntu-desktop-minimal
  name:
    en: Ubuntu Desktop (minimized)
  path: minimal.squashfs
  preinstalled_langs:
  - de
  - ''
  size: 4826120192
  type: fsimage-layered
  variations:
    secure:
      path: minimal.enhanced-secureboot.squashfs
- default: false
  id: ubuntu-desktop
  path: "minimal.standard.squashfs"  # all of it
  type: fsimage-layered
"""
SERVER = """\
kernel:
  default: linux-generic
sources:
  - id: ubuntu-server-minimal
    path: 'server-minimal.squashfs'
  - id: ubuntu-server
    default: true
    path: server-minimal.server.squashfs
version: 2
"""
NAMES = ("minimal", "minimal.standard", "minimal.standard.live", "minimal.standard.de", "minimal.enhanced-secureboot")
SERVERS = ("server-minimal", "server-minimal.server", "server-minimal.server.installer", "server-minimal.server.zh_CN")


def casper(*names, sources=None):
    files = {f"{name}.squashfs": b"hsqs" for name in names}
    if sources is not None:
        files["install-sources.yaml"] = sources.encode()
    entries = {name: File(Metadata(0o644), Bytes(data)) for name, data in files.items()}
    return Tree(Directory(Metadata(0o755), {"casper": Directory(Metadata(0o755), entries)}))


def carried(*names, sources=None):
    found = LiveMedium.of(casper(*names, sources=sources))
    short = [path.removeprefix("casper/").removesuffix(".squashfs") for path in (found.default_path, *found.systems)]
    return short[0], short[1:]


def test_the_default_of_the_installer_is_meant():
    assert carried(*NAMES, sources=DESKTOP) == ("minimal", ["minimal", "minimal.standard"])
    assert carried(*SERVERS, sources=SERVER) == (SERVERS[1], list(SERVERS[:2]))
    assert carried(*NAMES, sources=DESKTOP.replace("true", "false")) == ("", ["minimal", "minimal.standard"])


@pytest.mark.parametrize(
    "sources", [None, "", "- path: other.squashfs\n", "a: [\n", "\0\x1b[2J", "- path: ../../etc\n"]
)
def test_without_word_of_the_installer_the_longest_chain_of_an_installed_system_is(sources):
    assert carried(*NAMES, sources=sources) == ("minimal.standard", ["minimal.standard"])
    assert carried(*SERVERS, sources=sources) == (SERVERS[1], [SERVERS[1]])
    assert carried("a.b", "a", "c.d", "c", sources=sources) == ("", ["a.b", "c.d"])
    assert carried("a.live", sources=sources) == ("a.live", ["a.live"])


def test_layers_are_over_what_their_names_say():
    tree = casper(*NAMES)
    whole = ["casper/minimal.squashfs", "casper/minimal.standard.squashfs"]
    assert find_layer_chain(tree, whole[1]) == whole
    assert find_layer_chain(casper("my.system"), "casper/my.system.squashfs") == ["casper/my.system.squashfs"]
    assert find_layer_chain(tree, "live/a.b.squashfs") == ["live/a.b.squashfs"]
    with pytest.raises(SourceError, match=r"needs casper/a\.b\.squashfs, not found"):
        find_layer_chain(casper("a", "a.b.c"), "casper/a.b.c.squashfs")
    assert find_other_layers(tree, whole)[:2] == [
        "casper/minimal.standard.live.squashfs",
        "casper/minimal.standard.de.squashfs",
    ]
    with pytest.raises(SourceError, match="needs 99 layers below it"):
        find_layer_chain(tree, f"casper/{'.'.join('a' * 100)}.squashfs")


def bzimage(version):
    """A kernel that says its version. Documentation/arch/x86/boot.rst"""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x100)
    text = f"{version} (builder@host) #1 SMP\0".encode()
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head)


def squashed(directory, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mksquashfs", directory, path, "-quiet", "-no-progress"], check=True)


def burnt(medium):
    iso = medium.with_name("live.iso")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", iso, medium], check=True)
    return iso


def without_kernel(system, *, modules=False):
    for path in (system / "boot").iterdir():
        path.unlink()
    if not modules:
        shutil.rmtree(system / "lib/modules")
    return system


@pytest.fixture
def medium(tmp_path):
    """As Ubuntu's desktop: the kernel is in the medium alone, its modules in the layer of the live session."""
    low, high, live = (tmp_path / name for name in ("low", "high", "session"))
    without_kernel(make_system(low, {"opt/old": "x", "etc/motd": "minimal"}))
    for path, text in (("etc/motd", "standard"), ("opt/new", "x")):
        (high / path).parent.mkdir(parents=True, exist_ok=True)
        (high / path).write_text(text)
    os.mknod(high / "opt/old", stat.S_IFCHR, os.makedev(0, 0))
    (live / f"usr/lib/modules/{VERSION}").mkdir(parents=True)
    (live / f"usr/lib/modules/{VERSION}/modules.dep").write_text("")
    (live / "usr/lib/firmware").mkdir()
    (live / "usr/lib/firmware/card.bin").write_text("x")
    shutil.rmtree(low / "lib")
    (low / "lib").symlink_to("usr/lib")  # the layers over it do not have this link
    (live / "session").write_text("not wanted")
    at = tmp_path / "medium/casper"
    for name, layer in zip(NAMES, (low, high, live), strict=False):
        squashed(layer, at / f"{name}.squashfs")
    (at / "vmlinuz").write_bytes(bzimage(VERSION))
    (at / "initrd").write_bytes(b"initrd")
    (at / "install-sources.yaml").write_text(DESKTOP)
    return at.parent


def contents(argument, *wanted, selection=select_all):
    with find_source(str(argument), "/nowhere").open(selection, Faults()) as tree:
        found = {}
        for path in wanted:
            node = tree.follow(path)
            if isinstance(node, File):
                with node.content.open() as stream:
                    found[path] = stream.read(1 << 20)
        return {path for path, _ in tree.walk()}, found


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("form", ["iso", "iso.xz", "directory"])
def test_ubuntu_s_layers_are_one_system_with_the_kernel_of_the_medium(medium, form):
    place = medium if form == "directory" else burnt(medium)
    if form == "iso.xz":
        place = place.with_name("live.iso.xz")
        place.write_bytes(lzma.compress(place.with_name("live.iso").read_bytes(), preset=0))
    paths, found = contents(place, "etc/motd")
    assert found["etc/motd"] == b"minimal"
    assert "opt/old" in paths
    paths, found = contents(f"{place},,casper/minimal.standard.squashfs", "etc/motd", "casper/vmlinuz")
    assert found == {"etc/motd": b"standard", "casper/vmlinuz": bzimage(VERSION)}
    assert {"opt/new", "casper/initrd", f"usr/lib/modules/{VERSION}/modules.dep"} <= paths
    assert {"usr/lib/firmware/card.bin", "usr/bin/tool"} <= paths
    assert not {"opt/old", "session", "casper/install-sources.yaml", "casper/minimal.squashfs"} & paths
    with find_source(str(place), "/nowhere").open(select_all, Faults()) as tree:
        kernel = find_kernel(tree, "live")
        assert (kernel.path, kernel.initrd_path, kernel.version) == ("casper/vmlinuz", "casper/initrd", VERSION)


@pytest.mark.root
@pytest.mark.oracle
def test_the_plan_says_what_was_taken_and_what_else_there_is(medium):
    iso = burnt(medium)
    source = find_source(str(iso), "/nowhere")
    assert source.name == "live"
    assert "casper/minimal.squashfs in iso9660" in source.description
    (warning,) = source.plan().warnings
    assert f"{iso},,casper/minimal.standard.squashfs" in warning
    assert find_source(f"{iso},,casper/minimal.standard.squashfs", "/nowhere").plan().warnings == ()


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("pack", [False, True])
def test_several_systems_and_no_default_are_listed(medium, pack):
    (medium / "casper/install-sources.yaml").write_text(DESKTOP.replace("default: true", "default: false"))
    iso = burnt(medium)
    if pack:
        subprocess.run(["gzip", "-1", iso], check=True)
        iso = iso.with_name("live.iso.gz")
    with pytest.raises(SourceError) as caught:
        contents(iso)
    assert "casper/minimal.squashfs, casper/minimal.standard.squashfs" in caught.value.message
    assert caught.value.hint == f"name one: {iso},,casper/minimal.squashfs"
    with pytest.raises(SourceError, match=r"casper/other\.squashfs not found in .*; it has casper/minimal\.squashfs"):
        contents(f"{iso},,casper/other.squashfs")
    assert "opt/new" in contents(f"{iso},,casper/minimal.standard.squashfs")[0]


@pytest.mark.root
@pytest.mark.oracle
def test_a_selection_means_what_is_in_a_medium_that_has_to_be_unpacked(medium):
    def select(path, _directory):
        return Inclusion.ALL if path.partition("/")[0] in {"etc", "usr"} else Inclusion.NOTHING

    iso = burnt(medium)
    subprocess.run(["gzip", "-1", iso], check=True)
    paths, _ = contents(f"{iso}.gz", selection=select)
    assert {path.partition("/")[0] for path in paths} == {"etc", "usr"}


KERNELS = {
    "Debian": ("live/filesystem.squashfs", f"live/vmlinuz-{VERSION}", f"live/initrd.img-{VERSION}"),
    "Fedora": ("LiveOS/squashfs.img", "images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"),
    "Fedora, older": ("LiveOS/squashfs.img", "isolinux/vmlinuz", "isolinux/initrd.img"),
    "Fedora, newer": ("LiveOS/squashfs.img", "boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"),
    "Ubuntu, older": ("casper/filesystem.squashfs", "casper/vmlinuz", "casper/initrd"),
}


@pytest.mark.oracle
@pytest.mark.parametrize(("file", "kernel", "initrd"), KERNELS.values(), ids=KERNELS)
def test_the_kernel_of_the_medium_comes_with_a_system_that_has_its_modules(tmp_path, file, kernel, initrd):
    system = without_kernel(make_system(tmp_path / "system"), modules=True)
    medium = tmp_path / "medium"
    squashed(system, medium / file)
    for path, data in ((kernel, bzimage(VERSION)), (initrd, b"initrd"), ("install.amd/vmlinuz", bzimage(VERSION))):
        (medium / path).parent.mkdir(parents=True, exist_ok=True)
        (medium / path).write_bytes(data)
    with find_source(str(burnt(medium)), "/nowhere").open(select_all, Faults()) as tree:
        found = find_kernel(tree, "live")
        assert (found.path, found.initrd_path, found.version) == (kernel, initrd, VERSION)
        assert tree.get(file) is None
        assert tree.get("install.amd") is None


@pytest.mark.oracle
@pytest.mark.parametrize(("file", "path"), [("live/vmlinuz", "live/vmlinuz"), ("antiX/vmlinuz", "boot/vmlinuz-9.9")])
def test_the_only_kernel_of_the_medium_is_named_where_it_is_of_another_version(tmp_path, file, path):
    system = without_kernel(make_system(tmp_path / "system"), modules=True)
    medium = tmp_path / "medium"
    squashed(system, medium / "live/filesystem.squashfs")
    (medium / file).parent.mkdir(exist_ok=True)
    (medium / file).write_bytes(bzimage("9.9"))
    with find_source(str(burnt(medium)), "/nowhere").open(select_all, Faults()) as tree:
        with pytest.raises(LtspError, match=r"no kernel in lab has its modules") as caught:
            find_kernel(tree, "lab")
        assert f"/{path} (" in caught.value.message
        assert "no /lib/modules/9.9)" in caught.value.message
        assert caught.value.message.endswith(f"; the image has modules of {VERSION}")
        assert "--kernel-initrd" in caught.value.hint
        forced = find_kernel(tree, "lab", path)
        assert (forced.path, forced.version) == (path, "9.9")


@pytest.mark.oracle
def test_a_file_of_the_medium_that_is_not_a_kernel_is_named(tmp_path):
    system = without_kernel(make_system(tmp_path / "system"), modules=True)
    squashed(system, tmp_path / "medium/live/filesystem.squashfs")
    (tmp_path / "medium/live/vmlinuz").write_bytes(b"neither kernel nor anything else")
    source = find_source(str(burnt(tmp_path / "medium")), "/nowhere")
    with (
        source.open(select_all, Faults()) as tree,
        pytest.raises(LtspError, match=r"no kernel in lab can be booted: /live/vmlinuz \(not a kernel"),
    ):
        find_kernel(tree, "lab")


@pytest.mark.oracle
def test_a_kernel_without_its_modules_comes_without_an_initrd_and_is_refused(tmp_path):
    system = without_kernel(make_system(tmp_path / "system"), modules=True)
    medium = tmp_path / "medium"
    squashed(system, medium / "live/filesystem.squashfs")
    (medium / "live/vmlinuz-9.9").write_bytes(bzimage("9.9"))
    (medium / "live/initrd.img-9.9").write_bytes(b"initrd")
    with find_source(str(burnt(medium)), "/nowhere").open(select_all, Faults()) as tree:
        assert list(tree.get("live").entries) == ["vmlinuz-9.9"]
        with pytest.raises(LtspError, match=r"no kernel in lab has its modules: /live/vmlinuz-9\.9"):
            find_kernel(tree, "lab")


@pytest.mark.oracle
def test_a_system_keeps_its_own_kernel(tmp_path):
    medium = tmp_path / "medium"
    squashed(make_system(tmp_path / "system"), medium / "live/filesystem.squashfs")
    (medium / f"live/vmlinuz-{VERSION}").write_bytes(bzimage(VERSION))
    (medium / f"live/initrd.img-{VERSION}").write_bytes(b"initrd")
    assert "live" not in contents(burnt(medium))[0]


@pytest.mark.root
@pytest.mark.oracle
def test_a_file_of_the_medium_may_be_named_where_it_is_found_anyway(tmp_path):
    """As those write it who had to name every step."""
    squashed(make_system(tmp_path / "system"), tmp_path / "medium/live/filesystem.squashfs")
    iso = burnt(tmp_path / "medium")
    written = f"{iso},fstype=iso9660,loop,ro,,live/filesystem.squashfs,fstype=squashfs,loop,ro"
    assert f"boot/vmlinuz-{VERSION}" in contents(written)[0]


@pytest.mark.oracle
@pytest.mark.parametrize("version", ["../../etc", "..", "linked", "9" * 200])
def test_a_kernel_with_a_forged_version_brings_nothing(tmp_path, version):
    system = without_kernel(make_system(tmp_path / "system"), modules=True)
    (system / "lib/modules/linked").symlink_to("/etc")
    medium = tmp_path / "medium"
    squashed(system, medium / "casper/filesystem.squashfs")
    (medium / "casper/vmlinuz").write_bytes(bzimage(version))
    (medium / "casper/initrd").write_bytes(b"initrd")
    assert "casper" not in contents(burnt(medium))[0]


OTHER_LAYOUTS = {
    "Arch": ("arch/x86_64/airootfs.sfs", "arch/boot/x86_64/vmlinuz-linux"),
    "antiX": ("antiX/linuxfs", "antiX/vmlinuz"),
    "SystemRescue": ("sysresccd/x86_64/airootfs.sfs", "sysresccd/boot/x86_64/vmlinuz"),
    "Gentoo": ("image.squashfs", "boot/gentoo"),
}


@pytest.mark.oracle
@pytest.mark.parametrize(("file", "kernel"), OTHER_LAYOUTS.values(), ids=OTHER_LAYOUTS)
def test_the_kernel_of_any_layout_is_found_by_the_version_that_it_states(tmp_path, file, kernel):
    system = without_kernel(make_system(tmp_path / "system"), modules=True)
    medium = tmp_path / "medium"
    squashed(system, medium / file)
    for path, version in ((kernel, VERSION), ("boot/memtest/linux64", "9.9"), ("pool/linux-image-6.1.deb", VERSION)):
        (medium / path).parent.mkdir(parents=True, exist_ok=True)
        (medium / path).write_bytes(bzimage(version))
    iso = burnt(medium)
    with pytest.raises(SourceError) as caught:
        find_source(str(iso), "/nowhere")
    assert caught.value.hint == f"specify it: FILE,,{file}"
    with find_source(f"{iso},,{file}", "/nowhere").open(select_all, Faults()) as tree:
        found = find_kernel(tree, "live")
        assert (tree.resolve(found.path), found.version) == (f"boot/vmlinuz-{VERSION}", VERSION)
        assert tree.get("boot/memtest") is None


def by_rule(argument, rule, selection=select_all):
    with find_source(str(argument), "/nowhere", user_rule=rule).open(selection, Faults()) as tree:
        found = find_kernel(tree, "live", rule)
        return found.path, found.initrd_path, found.version, found.reason


@pytest.mark.oracle
def test_the_user_s_rule_leads_to_the_medium_also_where_the_system_has_a_kernel(tmp_path):
    rule = "mine/linux-* s|linux-|ramdisk-|"
    medium = tmp_path / "medium"
    squashed(make_system(tmp_path / "system"), medium / "live/filesystem.squashfs")
    (medium / "mine").mkdir()
    (medium / "mine/linux-a").write_bytes(bzimage(VERSION))
    (medium / "mine/ramdisk-a").write_bytes(b"initrd")
    iso = burnt(medium)
    assert by_rule(iso, rule) == ("mine/linux-a", "mine/ramdisk-a", VERSION, "chosen by --kernel-initrd")
    own = f"boot/vmlinuz-{VERSION} s|vmlinuz|initrd.img|"
    assert by_rule(iso, own)[0] == f"boot/vmlinuz-{VERSION}"

    def without_home(path, _directory):
        return Inclusion.NOTHING if path.partition("/")[0] in {"home", "mine"} else Inclusion.ALL

    assert by_rule(iso, rule)[0] == "mine/linux-a"
    paths, _ = contents(iso, selection=without_home)
    assert "mine" not in paths


@pytest.mark.root
@pytest.mark.oracle
def test_a_medium_with_layers_is_not_given_to_clients_as_it_is(medium, tmp_path):
    site = Site.make(tmp_path / "server")
    site.image("direct").parent.mkdir()
    burnt(medium).rename(site.image("direct"))
    said = site.ltsp("kernel", "direct", status=1).stderr
    assert f"make an image of it: ltsp image {site.image('direct')} --name NAME" in said
    site.ltsp("image", str(site.image("direct")), "--name=lab", "--no-preflight")
    assert site.kernel("lab").read_bytes() == bzimage(VERSION)
