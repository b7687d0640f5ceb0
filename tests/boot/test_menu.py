from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.ipxe_script import IpxeClient, commands
from ltsp.boot.ipxe import UnwritableText
from ltsp.boot.menu import MENU_MARK, ClientSection, Menu, MenuEntry, MenuOptions

MAC = "52:54:00:12:34:56"
LAB = Menu(
    "/srv/ltsp",
    images=(MenuEntry("lab", "Lab"), MenuEntry("lab2", "Second lab")),
    chroots=(MenuEntry("dev", "Dev chroot"),),
)
COMMANDS = {
    *("set", "clear", "isset", "iseq", "cpuid", "goto", "exit", "menu", "item", "choose", "chain", "echo", "sanboot"),
    *("config", "shell", "imgfree", "prompt"),
}


def pc(**settings):
    """A PC that got its addresses from the server's DHCP."""
    known = {
        "netX/mac": MAC,
        "netX/ip": "10.0.2.15",
        "next-server": "10.0.2.2",
        "buildarch": "i386",
        "platform": "pcbios",
    }
    return IpxeClient({**known, **{name.replace("_", "-"): value for name, value in settings.items()}})


def booted(menu, client=None):
    client = client or pc()
    assert client.run(menu.text()) == "booted", client.said
    return client


def section(*, macs=(MAC,), **options):
    return ClientSection(macs=macs, options=MenuOptions(**options))


def test_the_first_image_is_taken_after_five_seconds_and_its_root_is_nfs():
    client = booted(LAB)
    assert client.chained == ["lab/boot.ipxe"]
    assert client.timeouts == [5000]
    assert client.settings["ltsp-root"] == "nfs://10.0.2.2/srv/ltsp/images!"
    assert client.settings["ltsp-server"] == "10.0.2.2"
    assert "ltsp-whole" not in client.settings
    assert client.settings["ltsp-arguments"].split() == []


def test_images_come_before_chroots_and_those_before_tools():
    client = booted(Menu("/srv/ltsp", LAB.images, LAB.chroots, memtest=True))
    assert [label for label, _ in client.items] == [
        *("", "lab", "lab2", "", "r_dev", "", "_memtest", "_configuration", "_shell", "_local", "_exit")
    ]


def test_shell_and_configuration_can_be_switched_off():
    menu = Menu("/srv/ltsp", LAB.images, configuration=False, shell=False)
    used = {words[0] for line in menu.text().splitlines() for _, words in commands(line) if words}
    assert used & {"config", "shell"} == set()


def test_the_server_of_a_proxy_dhcp_comes_before_the_router():
    client = booted(LAB, pc(**{"next-server": "10.0.2.1", "proxydhcp/next-server": "10.0.2.7"}))
    assert client.settings["ltsp-server"] == "10.0.2.7"


def test_a_server_that_is_named_comes_before_dhcp():
    assert booted(Menu("/srv/ltsp", LAB.images, server="10.9.9.9")).settings["ltsp-server"] == "10.9.9.9"


@pytest.mark.parametrize(
    ("x86_64", "buildarch", "expected"),
    [(True, "i386", "x86_64"), (False, "i386", "x86_32"), (True, "arm64", "aarch64"), (True, "arm32", "armv7l")],
)
def test_an_image_named_after_the_processor_is_the_default_there(x86_64, buildarch, expected):
    names = ("abc", "x86_64", "x86_32", "aarch64", "armv7l")
    client = pc(buildarch=buildarch)
    client.x86_64 = x86_64
    booted(Menu("/srv/ltsp", tuple(MenuEntry(name, name) for name in names)), client)
    assert client.chained == [f"{expected}/boot.ipxe"]


def test_a_section_applies_only_to_its_mac_address():
    menu = Menu(
        "/srv/ltsp",
        LAB.images,
        sections=(section(default="lab2", parameters="nomodeset quiet", timeout=200, transport="nbd"),),
    )
    client = booted(menu)
    assert client.chained == ["lab2/boot.ipxe"]
    assert client.timeouts == [200]
    assert client.settings["ltsp-root"] == "nbd://10.0.2.2/"
    assert client.settings["ltsp-arguments"].split() == ["nomodeset", "quiet"]
    assert booted(menu, pc(**{"netX/mac": "52:54:00:12:34:57"})).chained == ["lab/boot.ipxe"]


def test_sections_match_by_address_and_by_hostname_too():
    by_address = ClientSection(addresses=(ip_address("10.0.2.15"),), options=MenuOptions(default="lab2"))
    by_name = ClientSection(hostnames=("PC01",), options=MenuOptions(default="r_dev"))
    menu = Menu("/srv/ltsp", LAB.images, LAB.chroots, sections=(by_address, by_name))
    assert booted(menu).chained == ["lab2/boot.ipxe"]
    assert booted(menu, pc(hostname="pc01")).chained == ["dev/boot.ipxe"]


def test_the_hostname_that_a_section_gives_finds_the_section_of_that_name():
    named = ClientSection(macs=(MAC,), hostname="pc07")
    menu = Menu(
        "/srv/ltsp", LAB.images, sections=(named, ClientSection(hostnames=("pc07",), options=MenuOptions("lab2")))
    )
    assert booted(menu).chained == ["lab2/boot.ipxe"]


def test_a_later_section_can_clear_parameters():
    menu = Menu("/srv/ltsp", LAB.images, options=MenuOptions(parameters="quiet"), sections=(section(parameters=""),))
    assert booted(menu).settings["ltsp-arguments"].split() == []


def test_settings_for_all_clients_apply_unless_a_section_overrides_them():
    everyone = ClientSection(matches_all=True, options=MenuOptions(default="lab2", timeout=7))
    assert booted(Menu("/srv/ltsp", LAB.images, sections=(everyone, section(timeout=9)))).timeouts == [9]


def test_a_hidden_menu_is_shown_after_a_failure():
    menu = Menu("/srv/ltsp", LAB.images, options=MenuOptions(timeout=-1))
    client = pc()
    client.chain = lambda uri: uri == "lab2/boot.ipxe"
    client.choose = lambda _default, _timeout: "lab2"
    booted(menu, client)
    assert client.chained == ["lab/boot.ipxe", "lab2/boot.ipxe"]
    assert client.timeouts == [10000]
    assert any("cannot boot lab" in line for line in client.said)
    assert booted(menu).timeouts == []


def test_escape_stays_in_the_menu():
    client = pc()
    answers = iter([None, "lab2"])
    client.choose = lambda _default, _timeout: next(answers)
    assert booted(LAB, client).timeouts == [5000, 0]


def test_without_images_the_menu_still_has_its_tools():
    client = pc()
    client.choose = lambda _default, _timeout: "_local"
    booted(Menu("/srv/ltsp"), client)


def test_a_chroot_is_a_directory_of_the_base_directory():
    client = pc()
    client.choose = lambda _default, _timeout: "r_dev"
    assert booted(LAB, client).settings["ltsp-url"] == "nfs://10.0.2.2/srv/ltsp!dev"
    assert client.chained == ["dev/boot.ipxe"]


def test_an_image_with_the_label_of_a_chroot_hides_the_chroot():
    menu = Menu("/srv/ltsp", (MenuEntry("r_dev", "image"),), LAB.chroots)
    assert menu.labels == ("r_dev",)
    assert booted(menu).chained == ["r_dev/boot.ipxe"]


@pytest.mark.parametrize(
    ("transport", "root"),
    [
        ("nfs", "nfs://10.0.2.2/srv/ltsp/images!"),
        ("http", "http://10.0.2.2/images/"),
        ("nbd", "nbd://10.0.2.2/"),
        ("auto", "nfs://10.0.2.2/srv/ltsp/images!"),
    ],
)
def test_the_transport_makes_the_root(transport, root):
    client = booted(Menu("/srv/ltsp", LAB.images, options=MenuOptions(transport=transport)))
    assert client.settings["ltsp-root"] == root
    assert ("ltsp-whole" in client.settings) == (transport == "http")


def test_a_server_with_http_chains_to_its_own_menu():
    menu = Menu("/srv/ltsp", LAB.images, http=True, http_port=8080)
    client = pc()
    assert client.run(menu.text()) == "booted"
    assert client.chained == ["http://10.0.2.2:8080/ltsp/ltsp.ipxe"]
    assert client.settings["ltsp-http"] == "http://10.0.2.2:8080"


def test_images_are_fetched_from_the_servers_port_wherever_the_menu_came_from():
    menu = Menu("/srv/ltsp", LAB.images, http_port=8080, options=MenuOptions(transport="http"))
    client = booted(menu)
    assert client.chained == ["lab/boot.ipxe"]
    assert client.settings["ltsp-root"] == "http://10.0.2.2:8080/images/"


def test_if_http_fails_the_menu_continues_by_tftp():
    client = pc()
    client.chain = lambda uri: not uri.startswith("http")
    booted(Menu("/srv/ltsp", LAB.images, http=True, http_port=80), client)
    assert client.chained == ["http://10.0.2.2/ltsp/ltsp.ipxe", "lab/boot.ipxe"]
    assert any("ltsp http" in line for line in client.said)


@pytest.mark.parametrize(
    "fetched", [{"ltsp-http": "http://10.0.2.2:81"}, {"filename": "http://10.0.2.2:81/ltsp/ltsp.ipxe"}]
)
def test_a_menu_that_came_by_http_takes_the_image_from_there(fetched):
    menu = Menu("/srv/ltsp", LAB.images, http=True, http_port=81, options=MenuOptions(transport="auto"))
    client = booted(menu, pc(**fetched))
    assert client.chained == ["lab/boot.ipxe"]
    assert client.settings["ltsp-root"] == "http://10.0.2.2:81/images/"
    assert client.settings["ltsp-whole"]


def test_a_script_before_it_chooses_for_the_menu():
    given_before = {
        "ltsp-choice": "lab2",
        "ltsp-transport": "http",
        "ltsp-extra": "quiet",
        "ltsp-http": "http://1.2.3.4:5",
    }
    client = booted(LAB, pc(**given_before))
    assert client.said == [MENU_MARK]
    assert client.timeouts == []
    assert client.chained == ["lab2/boot.ipxe"]
    assert client.settings["ltsp-root"] == "http://1.2.3.4:5/images/"
    assert client.settings["ltsp-arguments"].split() == ["quiet"]


def test_a_choice_that_the_menu_lacks_is_named():
    client = booted(LAB, pc(**{"ltsp-choice": "lab9"}))
    assert "LTSP: cannot boot lab9: the lines above say why." in client.said


@given(st.lists(st.text(max_size=30), max_size=4), st.text(max_size=20))
def test_user_text_never_adds_a_command(titles, heading):
    entries = tuple(MenuEntry(f"n{number}", text) for number, text in enumerate(titles))
    text = Menu("/srv/ltsp", entries, (MenuEntry("c", heading),), memtest=True).text()
    assert text.isascii()
    for line in text.splitlines()[1:]:
        assert all(not words or words[0] in COMMANDS for _, words in commands(line)), line
    client = IpxeClient({"next-server": "1.2.3.4"})
    assert client.run(text) == "booted"
    assert [label for label, _ in client.items if label.startswith("n")] == [entry.name for entry in entries]


@pytest.mark.parametrize("path", ["/srv/my ltsp", "/srv/ltsp!", "/srv/(ltsp)", "/srv/ä", ""])
def test_a_base_directory_that_scripts_or_urls_cannot_contain_is_refused(path):
    with pytest.raises(UnwritableText):
        Menu(path, LAB.images).text()
