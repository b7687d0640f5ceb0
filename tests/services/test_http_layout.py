from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltsp.services.http_files import ServedArea, ServedPath, find_served_path

SERVED = {
    "/ltsp/ltsp.ipxe": ServedPath(ServedArea.LTSP, "ltsp.ipxe"),
    "/ltsp/lab/20260101T000000Z-00000000/vmlinuz": ServedPath(ServedArea.LTSP, "lab/20260101T000000Z-00000000/vmlinuz"),
    "/ltsp/lab/boot.ipxe?x=1#y": ServedPath(ServedArea.LTSP, "lab/boot.ipxe"),
    "/images/lab.img": ServedPath(ServedArea.IMAGES, "lab.img"),
    "/images/lab.img.old": ServedPath(ServedArea.IMAGES, "lab.img.old"),
    "/images/%6Cab%2eimg": ServedPath(ServedArea.IMAGES, "lab.img"),
    "/images/caf%C3%A9%FF.iso": ServedPath(ServedArea.IMAGES, "café\udcff.iso"),
    "/images/.versions/lab/V/image.img": ServedPath(ServedArea.IMAGES, ".versions/lab/V/image.img"),
}
REFUSED = {
    "the top": "/",
    "a listing": "/ltsp/",
    "a listing of images": "/images/",
    "an area without a slash": "/ltsp",
    "another area": "/etc/passwd",
    "no slash before it": "ltsp/ltsp.ipxe",
    "a whole URL": "http://server/ltsp/ltsp.ipxe",
    "the way out": "/ltsp/../../etc/passwd",
    "the encoded way out": "/ltsp/%2e%2e/%2E%2E/etc/passwd",
    "the way out by an encoded slash": "/images/..%2f..%2fetc%2fpasswd",
    "the way out by a backslash": "/images/..\\..\\x",
    "an empty part": "/ltsp//lab/boot.ipxe",
    "an empty part at the start": "//ltsp/ltsp.ipxe",
    "a dot": "/ltsp/./ltsp.ipxe",
    "a lock": "/images/.lab.lock",
    "a hidden boot file": "/ltsp/.lab/vmlinuz",
    "a manifest": "/images/.versions/lab/V/manifest.json",
    "an index": "/images/.versions/lab/V/index",
    "a version's directory": "/images/.versions/lab/V",
    "a hidden version": "/images/.versions/lab/.V/image.img",
    "a file in a directory of images": "/images/lab/x.img",
    "a name that ends with NUL": "/images/lab.img%00",
    "a line that goes on": "/images/lab.img%0aSet-Cookie:x",
    "a path that no file has": "/ltsp/" + "a/" * 3000 + "b",
}


@pytest.mark.parametrize(("target", "expected"), SERVED.items())
def test_served_targets_and_their_paths(target, expected):
    assert find_served_path(target) == expected


@pytest.mark.parametrize("why", REFUSED)
def test_nothing_is_served_under(why):
    assert find_served_path(REFUSED[why]) is None


@given(st.lists(st.sampled_from(["/", "..", ".", "ltsp", "images", ".versions", "%2e", "%2f", "a", "\\", "%00"])))
def test_no_served_path_leads_up_or_to_a_hidden_name(parts):
    found = find_served_path("/" + "".join(parts))
    if found:
        hidden = [part for part in found.path.split("/") if part.startswith(".") or not part]
        assert hidden in ([], [".versions"])
