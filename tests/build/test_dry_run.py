"""`ltsp image --dry-run` lists the services of the image that its clients will not run."""

from __future__ import annotations

import json

import pytest

from corpus.dict_tree import make_tree
from corpus.site import Site
from ltsp.build.dry_run import find_idle_services
from ltsp.settings.conf import parse_conf

UNITS = "usr/lib/systemd/system"
IMAGE = make_tree(
    {
        f"{UNITS}/docker.service": "",
        f"{UNITS}/docker.socket": "",
        f"{UNITS}/ssh.service": "",
        f"{UNITS}/foo.service": "",
        f"{UNITS}/xrdp.service": "",
        f"{UNITS}/mysql.service": "",
        "etc/systemd/system/mysql.service": "-> /dev/null",
        "etc/init.d/nginx": "#!/bin/sh\n",
    }
)


def idle(conf: str = "") -> dict[tuple[str, ...], tuple[str, str]]:
    return {
        one.units: (one.how, one.reason) for one in find_idle_services(IMAGE, parse_conf(conf.encode(), "ltsp.conf"))
    }


def test_listed_services_of_the_image_are_idle():
    found = idle()
    assert list(found) == [("nginx.service",), ("docker.service", "docker.socket"), ("xrdp.service",)]
    assert found["xrdp.service",][0] == "disabled"
    assert found["docker.service", "docker.socket"][0] == "masked"
    assert "belong on the server" in found["nginx.service",][1]


def test_settings_for_all_clients_apply():
    found = idle(
        "[clients]\nKEEP_SYSTEM_SERVICES='docker xrdp'\nMASK_SYSTEM_SERVICES='foo ssh'\nDISABLE_SYSTEM_SERVICES=nginx\n"
    )
    assert not any("docker" in unit or "xrdp" in unit for units in found for unit in units)
    assert found["foo.service",] == found["ssh.service",] == ("masked", "set in ltsp.conf")
    assert "nginx.service" in {unit for units in found for unit in units}


def test_sections_for_some_clients_do_not_apply():
    assert idle("[pc1]\nMASK_SYSTEM_SERVICES=foo\nKEEP_SYSTEM_SERVICES=docker\n") == idle()


@pytest.mark.oracle
def test_a_dry_run_lists_them_for_people_and_programs(tmp_path):
    site = Site.make(tmp_path)
    site.system("lab")
    units = site.base / "lab" / UNITS
    units.mkdir(parents=True, exist_ok=True)
    for name in ("apache2.service", "mysql.service", "postgresql@.service", "docker.socket", "ssh.service"):
        (units / name).write_text("")
    (units / "libvirtd.service").write_text("")
    site.conf.write_text("[clients]\nKEEP_SYSTEM_SERVICES=libvirtd\n")
    said = site.ltsp("image", "--dry-run", "lab").stdout
    lines = said[said.index("disabled on clients") :].splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        *("apache2.service", "mysql.service", "postgresql@.service", "docker.socket")
    ]
    (image,) = json.loads(site.ltsp("image", "--dry-run", "--json", "lab").stdout)["images"]
    assert [one["units"] for one in image["clients_do_not_run"]] == [
        *(["apache2.service"], ["mysql.service"], ["postgresql@.service"], ["docker.socket"])
    ]
    assert {one["how"] for one in image["clients_do_not_run"]} == {"masked"}
