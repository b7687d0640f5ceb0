from __future__ import annotations

from ltsp.publish.pointer import FOREIGN, Pointer

NEW = "20260131T174512Z-1a2b3c4d"
OLD = "20260130T174512Z-5e6f7a8b"


def test_the_script_names_kernel_initrds_and_image_of_one_version():
    pointer = Pointer("lab", NEW, OLD, f"images/.versions/lab/{NEW}/image.img", ("client.img", "initrd.img", "vmlinuz"))
    assert (
        pointer.text()
        == f"""\
#!ipxe
# ltsp: lab is version {NEW}, before it {OLD}
# ltsp replaces this file: do not edit it
set image ../../images/.versions/lab/{NEW}/image.img
kernel {NEW}/vmlinuz initrd=initrd.img initrd=client.img ltsp.image=images/.versions/lab/{NEW}/image.img \
${{ltsp-arguments}}
initrd {NEW}/initrd.img
initrd {NEW}/client.img
boot
"""
    )


def test_a_script_says_which_versions_it_stands_for():
    for before in (None, OLD, FOREIGN):
        pointer = Pointer("lab", NEW, before)
        assert Pointer.parse(pointer.text()) == pointer


def test_without_a_kernel_the_script_says_what_to_type():
    text = Pointer("lab", NEW, None, "images/lab.img").text()
    assert "type ltsp kernel lab" in text
    assert text.endswith("exit 1\n")


def test_a_script_of_somebody_else_is_no_pointer():
    assert Pointer.parse("#!ipxe\nboot\n") is None
    assert Pointer.parse("# ltsp: lab is version ../../etc, before it none\n") is None
