from __future__ import annotations

import pytest

from corpus.ipxe_script import IpxeClient
from ltsp.publish.pointer import FOREIGN, Pointer

NEW = "20260131T174512Z-1a2b3c4d"
OLD = "20260130T174512Z-5e6f7a8b"


IMAGE = f"images/.versions/lab/{NEW}/image.img"
SUM = "0" * 64
BY_NFS = {"ltsp-root": "nfs://10.0.2.2/srv/ltsp/images!", "ltsp-server": "10.0.2.2", "ltsp-transport": "nfs"}
BY_HTTP = {"ltsp-root": "http://10.0.2.2/images/", "ltsp-transport": "http", "ltsp-whole": "1"}


def started(pointer, settings, *missing):
    """What a client loads, given the settings that the menu left."""
    client = IpxeClient({"netX/mac:hexhyp": "52-54-00-12-34-56", **settings}, fetch=lambda uri: uri not in missing)
    return client, client.run(pointer.to_script())


def ours(*files, image=IMAGE):
    return Pointer("lab", NEW, OLD, image, ("client.img", "vmlinuz", *files), SUM)


def test_a_version_with_only_its_distributions_initrd_gets_ltsp_image():
    pointer = Pointer("lab", NEW, OLD, IMAGE, ("initrd.img", "vmlinuz"))
    client, end = started(pointer, {"ltsp-arguments": "root=/dev/nfs quiet"})
    assert end == "booted"
    assert client.loaded == [
        ["kernel", f"{NEW}/vmlinuz", "initrd=initrd.img", f"ltsp.image={IMAGE}", "root=/dev/nfs quiet"],
        ["initrd", f"{NEW}/initrd.img"],
    ]


@pytest.mark.parametrize("files", [(), ("initrd.img",)])
def test_our_own_initrd_comes_with_the_site_and_without_the_distributions(files):
    client, end = started(ours(*files), {**BY_NFS, "ltsp-arguments": "quiet"})
    assert end == "booted"
    kernel, *initrds = client.loaded
    assert " ".join(kernel).split() == [
        *("kernel", f"{NEW}/vmlinuz", "rdinit=/ltsp/init", "initrd=client.img", "initrd=ltsp.img"),
        *(f"ltsp.image={IMAGE}", f"ltsp.root=nfs://10.0.2.2/srv/ltsp/images!.versions/lab/{NEW}/image.img"),
        *("ltsp.server=10.0.2.2", "BOOTIF=01-52-54-00-12-34-56", "quiet"),
    ]
    assert initrds == [["initrd", f"{NEW}/client.img"], ["initrd", "../ltsp.img"]]


def test_the_sum_goes_with_transports_that_fetch_the_whole_image():
    client, _ = started(ours(), BY_HTTP)
    arguments = client.loaded[0][-1].split()
    assert f"ltsp.sha256={SUM}" in arguments
    assert f"ltsp.root=http://10.0.2.2/images/.versions/lab/{NEW}/image.img" in arguments


def test_an_image_in_the_initramfs_is_loaded_last_and_has_a_name_there():
    client, end = started(ours(), {"ltsp-url": "file:/image.img", "ltsp-transport": "file", "ltsp-whole": "1"})
    assert end == "booted"
    assert client.loaded[-1] == ["initrd", f"../../{IMAGE}", "/image.img"]
    assert "ltsp.root=file:/image.img" in client.loaded[0][-1].split()


def test_the_distributions_initrd_is_loaded_on_request():
    client, end = started(ours("initrd.img"), {**BY_NFS, "ltsp-initrd": "distro"})
    assert end == "booted"
    assert "rdinit" not in " ".join(client.loaded[0])
    assert [uri for _, uri, *_ in client.loaded[1:]] == [f"{NEW}/initrd.img", "../ltsp.img"]
    assert words(client)[2:4] == ["initrd=initrd.img", "initrd=ltsp.img"]


@pytest.mark.parametrize("initrd", ["ltsp", "distro"])
def test_nbd_img_is_loaded_only_for_nbd(initrd):
    """UEFI goes by the words of the command line, BIOS by the order of loading: both must agree."""
    settings = {"ltsp-root": "nbd://10.0.2.2/", "ltsp-initrd": initrd}
    loaded = {}
    for transport in ("nbd", "nfs"):
        client, end = started(ours("initrd.img", "nbd.img"), {**settings, "ltsp-transport": transport})
        assert end == "booted"
        loaded[transport] = [uri.rpartition("/")[2] for _, uri, *_ in client.loaded[1:]]
        named = [word.removeprefix("initrd=") for word in words(client) if word.startswith("initrd=")]
        assert named == loaded[transport]
    assert loaded["nbd"] == ["initrd.img" if initrd == "distro" else "client.img", "nbd.img", "ltsp.img"]
    assert loaded["nfs"] == [name for name in loaded["nbd"] if name != "nbd.img"]


def words(client):
    """The words of the kernel's command line, after the command and the kernel."""
    return " ".join(client.loaded[0]).split()


def test_a_direct_image_is_found_below_its_own_name():
    client, _ = started(ours(image="images/lab.img"), BY_NFS)
    assert "ltsp.root=nfs://10.0.2.2/srv/ltsp/images!lab.img" in client.loaded[0][-1].split()


def test_the_root_that_the_menu_names_comes_first():
    for pointer in (ours(), ours(image="")):
        client, end = started(pointer, {**BY_NFS, "ltsp-url": "nfs://10.0.2.2/srv/ltsp!lab"})
        assert end == "booted"
        assert "ltsp.root=nfs://10.0.2.2/srv/ltsp!lab" in client.loaded[0][-1].split()


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        (f"{NEW}/vmlinuz", "ltsp versions lab"),
        (f"{NEW}/client.img", "ltsp versions lab"),
        (f"{NEW}/nbd.img", "ltsp versions lab"),
        ("../ltsp.img", "ltsp initrd"),
        (f"../../{IMAGE}", "ltsp http"),
    ],
)
def test_a_failed_fetch_is_reported_with_a_remedy(missing, remedy):
    by = {"image.img": "file", "nbd.img": "nbd"}.get(missing.rpartition("/")[2], "nfs")
    client, end = started(ours("nbd.img"), {**BY_NFS, "ltsp-transport": by}, missing)
    assert end == "exit 1"
    assert remedy in " ".join(client.said)


def test_a_deleted_version_is_reported_with_the_distributions_initrd_too():
    pointer = Pointer("lab", NEW, OLD, IMAGE, ("initrd.img", "vmlinuz"))
    client, end = started(pointer, {}, f"{NEW}/vmlinuz")
    assert end == "exit 1"
    assert "ltsp versions lab" in " ".join(client.said)


def test_without_a_root_the_script_points_to_the_menu():
    for pointer in (ours(), ours(image="")):
        client, end = started(pointer, {})
        assert end == "exit 1"
        assert "menu" in " ".join(client.said)
        assert client.loaded == []


def test_a_script_states_its_versions():
    for before in (None, OLD, FOREIGN):
        pointer = Pointer("lab", NEW, before)
        assert Pointer.parse(pointer.to_script()) == pointer


def test_without_a_kernel_the_script_says_what_to_type():
    text = Pointer("lab", NEW, None, "images/lab.img").to_script()
    assert "run ltsp kernel lab" in text
    assert text.endswith("exit 1\n")


def test_a_foreign_script_is_not_a_pointer():
    assert Pointer.parse("#!ipxe\nboot\n") is None
    assert Pointer.parse("# ltsp: lab is version ../../etc, before it none\n") is None
