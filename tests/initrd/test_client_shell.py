"""The functions of the client's shell code, under dash and every busybox, with a fake /proc and /sys."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from pathlib import Path

import pytest

from corpus.busyboxes import BUSYBOXES, path_of
from corpus.diskless import CLIENT

SHELLS = ("dash", *BUSYBOXES)
HOSTILE = ["$(touch canary)", "`touch canary`", "';touch canary;'", '";touch canary;"', "|touch canary", "${IFS}", "*"]
GIVE_UP = "give_up() { exit 9; }"


def command(shell: str) -> list[str | Path]:
    return ["dash"] if shell == "dash" else [path_of(shell), "sh"]


@pytest.fixture(params=SHELLS)
def shell(request, tmp_path):
    """Runs functions of parts: `shell("settings network", "booted_address", cmdline=…)` gives what they print."""
    for name in ("proc", "sys/bus", "sys/class/net", "sys/module", "dev", "run/ltsp", "work", "ltsp/site", "bin"):
        (tmp_path / name).mkdir(parents=True)

    def run(parts: str, script: str, *, cmdline: str | None = None, fails: bool = False) -> str:
        if cmdline is not None:
            (tmp_path / "proc/cmdline").write_text(f"{cmdline}\n")
        sources = "\n".join(f". {shlex.quote(str(CLIENT / part))}.sh" for part in ["message", *parts.split()])
        done = subprocess.run(
            [*command(request.param), "-c", f"set -u\n{sources}\n{GIVE_UP}\n{script}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": f"{tmp_path}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C",
                "KERNEL": "6.1",
                "LTSP": f"{tmp_path}/ltsp",
                "PROC": f"{tmp_path}/proc",
                "SYS": f"{tmp_path}/sys",
                "DEV": f"{tmp_path}/dev",
                "RUN": f"{tmp_path}/run",
                "WORK": f"{tmp_path}/work",
            },
        )
        assert done.returncode == (9 if fails else 0), done.stdout + done.stderr
        assert not (tmp_path / "canary").exists()
        assert done.stderr == ""
        return done.stdout

    return run


@pytest.mark.parametrize("part", sorted(CLIENT.iterdir()), ids=lambda part: part.name)
def test_shellcheck_is_clean(part):
    done = subprocess.run(["shellcheck", "-s", "sh", part], capture_output=True, text=True, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("part", sorted(CLIENT.iterdir()), ids=lambda part: part.name)
@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_can_parse_it(part, shell):
    subprocess.run([*command(shell), "-n", part], check=True)


def show(*names: str) -> str:
    return "read_settings; printf '%s\\n' " + " ".join(f'"${name}"' for name in names)


def test_known_words_are_read_and_the_last_one_wins(shell):
    words = "quiet ltsp.root=nfs://a/b ltsp.root=nfs://10.0.2.2/srv/ltsp!i.img BOOTIF=01-aa ltsp.overlay=1G x.root=y"
    assert shell("settings", show("ROOT", "BOOTIF", "OVERLAY", "DEBUG"), cmdline=words).splitlines() == [
        "nfs://10.0.2.2/srv/ltsp!i.img",
        "01-aa",
        "1G",
        "",
    ]


@pytest.mark.parametrize(
    ("words", "root"),
    [
        (
            "root=/dev/nfs nfsroot=10.0.2.2:/srv/ltsp,tcp ltsp.image=images/a.img",
            "nfs://10.0.2.2/srv/ltsp!images/a.img",
        ),
        ("root=/dev/nfs nfsroot=10.0.2.2:/srv/ltsp/chroot", "nfs://10.0.2.2/srv/ltsp/chroot"),
        ("root=/dev/nfs nfsroot=/srv/ltsp ltsp.image=images/a.img", "nfs:///srv/ltsp!images/a.img"),
        ("root=/dev/nfs nfsroot=/srv/ltsp ltsp.server=10.0.2.2", "nfs://10.0.2.2/srv/ltsp"),
        ("root=/dev/nfs nfsroot=10.0.2.2:/srv ltsp.root=file:/a.img ltsp.image=images/a.img", "file:/a.img"),
        ("root=/dev/sda1 ltsp.root=file:/a.img", "file:/a.img"),
    ],
)
def test_menus_of_older_clients_are_understood(shell, words, root):
    assert shell("settings", show("ROOT"), cmdline=words).strip() == root


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "key", ["ltsp.root=nfs://10.0.2.2/", "ltsp.server=", "ltsp.overlay=", "ltsp.sha256=", "ltsp.image=", "ip="]
)
def test_no_value_of_the_command_line_is_executed(shell, key, value):
    value = value.replace(" ", "${IFS}")
    words = f"ltsp.root=file:/a.img {key}{value}"
    fails = key in {"ltsp.server=", "ltsp.overlay=", "ltsp.sha256="} or (key.startswith("ltsp.root") and value != "")
    shell("settings", 'read_settings; image_name; [ -z "$IMAGE" ] || image_name', cmdline=words, fails=fails)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("", "no ltsp.root= on the kernel command line"),
        ("ltsp.root=ftp://10.0.2.2/a", "not a supported URL, ftp://10.0.2.2/a"),
        ("ltsp.root=nfs://10.0.2.2", "not a supported URL"),
        ("ltsp.root=https://10.0.2.2/a", "https needs ltsp.sha256="),
        ("ltsp.root=http://10.0.2.2/a ltsp.sha256=abc", "has 3 digits"),
        ("ltsp.root=http://10.0.2.2/a ltsp.sha256=xyz", "is not a checksum"),
        ("ltsp.root=file:/a ltsp.overlay=lots", "is not a size"),
        ("ltsp.root=file:/a ltsp.server=a,b", "is not an address"),
        ("ltsp.root=nfs://a\x1b[2J/b", "an invalid character"),
    ],
)
def test_an_invalid_setting_is_reported_with_a_remedy(shell, words, cause):
    told = shell("settings", "read_settings", cmdline=words, fails=True)
    assert told.startswith("ltsp: FATAL: ")
    assert cause in told
    assert cause in told.split(": ")[2]
    assert len(told.split(": ")[3]) > 10
    assert told.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("images/.versions/lab/20261122T215512Z-b13f90af/image.img", "lab"),
        ("images/lab.img", "lab"),
        ("lab.img", "lab"),
        ("images/.versions/../V/image.img", ""),
        ("images/...img", ""),
        ("images/.img", ""),
    ],
)
def test_the_image_is_known_by_its_name(shell, image, name):
    assert shell("settings", "read_settings; image_name", cmdline=f"ltsp.root=file:/a ltsp.image={image}") == name


@pytest.mark.parametrize(
    "line",
    [
        "Initramfs unpacking failed: junk within compressed archive",
        "rootfs image is not initramfs (junk within compressed archive); looks like an initrd",
    ],
)
def test_a_client_without_settings_reports_the_kernels_reason(shell, line):
    log = f"dmesg() {{ printf '%s\\n' '[    0.5] Linux' '[    0.9] {line}' '[    1.0] more'; }}\n"
    told = shell("loaded", f"{log}ADD_ON=; check_loaded", fails=True)
    assert "FATAL: the kernel did not unpack all of ltsp.img" in told
    assert "(junk within compressed archive): run on the server: ltsp kernel" in told


def card(tmp_path: Path, name: str, address: str, *, index: int, carrier: str) -> None:
    directory = tmp_path / "sys/class/net" / name
    (directory / "device").mkdir(parents=True)
    for file, text in {"address": address, "type": "1", "carrier": carrier, "ifindex": str(index)}.items():
        (directory / file).write_text(f"{text}\n")


@pytest.fixture
def cards(tmp_path, shell):
    """Two cards, of which the second has a link; commands that need a kernel do nothing."""
    card(tmp_path, "eth0", "52:54:00:00:00:01", index=2, carrier="0")
    card(tmp_path, "eth1", "52:54:00:00:00:0a", index=3, carrier="1")
    (tmp_path / "sys/class/net/lo").mkdir()

    def find(bootif: str, *, fails: bool = False) -> str:
        script = f"load_network_drivers() {{ :; }}; ip() {{ :; }}; sleep() {{ :; }}; BOOTIF={bootif}\n"
        return shell("interface", script + "find_interface; printf '%s\\n' \"card $INTERFACE\"", fails=fails)

    return find


def test_the_card_that_booted_is_used(cards):
    assert cards("01-52-54-00-00-00-0A").endswith("card eth1\n")


def test_without_bootif_the_first_card_with_a_link_is_used(cards):
    assert cards("''").endswith("card eth1\n")


def test_another_card_is_used_if_the_booted_one_gets_no_link(cards):
    told = cards("01-52-54-00-00-00-01")
    assert "waiting for a link on eth0" in told
    assert "eth0, which the firmware booted from, has no link; using eth1" in told
    assert told.endswith("card eth1\n")


def test_a_missing_card_is_reported_and_another_one_is_used(cards):
    told = cards("01-52-54-00-00-00-99")
    assert "no card has the address that the firmware booted from, 52:54:00:00:00:99" in told
    assert told.endswith("card eth1\n")


def test_no_link_at_all_names_the_cards_and_the_cable(cards, tmp_path):
    (tmp_path / "sys/class/net/eth1/carrier").write_text("0\n")
    told = cards("''", fails=True)
    assert "FATAL: no link on eth0 (52:54:00:00:00:01), eth1 (52:54:00:00:00:0a) after 30 seconds: check" in told


def test_no_card_at_all_names_the_controllers_that_have_no_driver(shell, tmp_path):
    device = tmp_path / "sys/bus/pci/devices/0000:00:03.0"
    device.mkdir(parents=True)
    for file, text in {"class": "0x020000", "vendor": "0x8086", "device": "0x100e"}.items():
        (device / file).write_text(f"{text}\n")
    script = "load_network_drivers() { :; }; sleep() { :; }; BOOTIF=; find_interface"
    told = shell("interface", script, fails=True)
    assert "FATAL: no network card has a driver; PCI 0x8086:0x100e has none: install the driver" in told


@pytest.fixture
def modules(tmp_path, shell):  # noqa: ARG001 - it makes the directories
    """Lists of modules as the image's maker writes them."""
    ltsp = tmp_path / "ltsp"
    (ltsp / "modules.order").write_text(
        "base a/loop.ko\nnet a/mii.ko\nnet a/e1000.ko\nnet a/virtio-net.ko\nstorage a/ahci.ko\n"
    )
    (ltsp / "modules.load").write_text(
        "a/loop.ko: a/loop.ko\na/e1000.ko: a/core.ko a/mii.ko a/e1000.ko a/after.ko\n"
        "a/virtio-net.ko: a/failover.ko a/virtio-net.ko\n"
    )
    (ltsp / "modules.alias").write_text(
        "pci:v00008086d0000100Esv*sd*bc*sc*i* a/e1000.ko\n"
        "pci:v00008086d0000100Fsv*sd*bc*sc*i* a/e1000.ko\n"
        "virtio:d00000001v* a/virtio-net.ko\n"
        "pci:v*d*sv*sd*bc01sc06i01* a/ahci.ko\n"
    )
    return tmp_path


def loaded(tmp_path: Path) -> list[str]:
    lines = (tmp_path / "loaded").read_text().splitlines()
    return [line.removeprefix(f"{tmp_path}/ltsp/modules/6.1/") for line in lines]


def plug(tmp_path: Path, *modaliases: str) -> None:
    for number, modalias in enumerate(modaliases):
        device = tmp_path / f"sys/bus/pci/devices/{number}"
        device.mkdir(parents=True)
        (device / "modalias").write_text(f"{modalias}\n")


def stub(tmp_path: Path, text: str) -> str:
    """busybox runs its own insmod before that of PATH; a function comes before both."""
    return f"insmod() {{ printf '%s\\n' \"$1\" >>{tmp_path}/loaded; {text}; }}\n"


def test_dependencies_are_loaded_first_and_nothing_twice(shell, modules):
    (modules / "sys/module/core").mkdir()
    shell("modules", stub(modules, ":") + "load_with_dependencies a/e1000.ko")
    assert loaded(modules) == ["a/mii.ko", "a/e1000.ko", "a/after.ko"]


def options_of(shell, modules: Path, path: str, cmdline: str = "quiet") -> str:
    """What a module is loaded with."""
    false = f"insmod() {{ shift; printf '%s|' \"$@\" >>{modules}/options; }}\n"
    shell("modules", f"{false}: >{modules}/options; load {path}", cmdline=cmdline)
    return (modules / "options").read_text()


def test_a_module_is_loaded_with_options_of_modprobe_d_and_the_command_line(shell, modules):
    (modules / "ltsp/modules.options").write_text('e1000 speed=100 name="a  b"\nvirtio_net napi=0\n')
    words = "quiet ltsp.root=http://10.0.2.2/e1000.x=1 ip=10.0.2.15 e1000.debug=1 virtio-net.gso=* e1000 x=/e1000.y=1"
    assert options_of(shell, modules, "a/e1000.ko", words) == 'speed=100 name="a  b" debug=1|'
    assert options_of(shell, modules, "a/virtio-net.ko", words) == "napi=0 gso=*|"
    assert options_of(shell, modules, "a/loop.ko", words) == "|"


@pytest.mark.parametrize("value", HOSTILE)
def test_options_of_modules_are_not_executed(shell, modules, value):
    (modules / "ltsp/modules.options").write_text(f"e1000 x={value}\n")
    assert options_of(shell, modules, "a/e1000.ko").startswith(f"x={value}")


@pytest.mark.parametrize(
    ("words", "drivers"),
    [
        ("quiet", ["a/e1000.ko", "a/virtio-net.ko"]),
        ("modprobe.blacklist=virtio-net,x quiet", ["a/e1000.ko"]),
        ("modprobe.blacklist=y modprobe.blacklist=virtio_net,e1000", []),
    ],
)
def test_drivers_on_the_command_lines_blacklist_are_not_loaded_for_devices(shell, modules, words, drivers):
    plug(modules, "pci:v00008086d0000100Esv0sd0bc02sc00i00", "virtio:d00000001v00001AF4")
    script = "load_with_dependencies() { printf '%s\\n' \"$1\" >>loaded; }; : >loaded; load_network_drivers"
    shell("modules", script, cmdline=words)
    assert loaded(modules) == drivers


def test_aliases_of_modprobe_d_override_all_others(shell, modules):
    """As Debian's r8168-dkms takes some devices from r8169."""
    ltsp = modules / "ltsp"
    said = (
        "pci:v00008086d0000100Esv*sd*bc*sc*i* a/virtio-net.ko conf\n"
        "pci:v00008086d0000100Fsv*sd*bc*sc*i* - conf\n"
        "net_pf_1[0-9] - conf\n"
    )
    (ltsp / "modules.alias").write_text(said + (ltsp / "modules.alias").read_text() + "net-pf-10 a/loop.ko\n")
    for number, driver in {"E": "a/virtio-net.ko\n", "F": ""}.items():
        alias = f"pci:v00008086d0000100{number}sv00001AF4sd00001100bc02sc00i00"
        assert shell("modules", f"echo {alias} | modules_for net") == driver
    assert shell("modules", "echo net-pf-10 | modules_for ''") == "-\n"
    assert shell("modules", "echo net-pf-20 | modules_for ''") == ""


@pytest.mark.parametrize(
    ("modaliases", "drivers"),
    [
        (["pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"], ["a/e1000.ko"]),
        (["virtio:d00000001v00001AF4", "acpi:PNP0303:"], ["a/virtio-net.ko"]),
        (["virtio:d00000002v00001AF4", "pci:v000010ECd00008139sv0sd0bc02sc00i00"], []),
        (["pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"], []),
        ([], []),
    ],
)
def test_drivers_are_those_whose_alias_matches_the_hardware(shell, modules, modaliases, drivers):
    plug(modules, *modaliases)
    shell("modules", "load_with_dependencies() { printf '%s\\n' \"$1\" >>loaded; }; : >loaded; load_network_drivers")
    assert loaded(modules) == drivers


@pytest.mark.usefixtures("modules")
def test_the_kernel_may_request_modules_of_any_group(shell):
    alias = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"
    assert shell("modules", f"echo {alias} | modules_for ''") == "a/ahci.ko\n"


@pytest.mark.parametrize(
    ("alias", "modalias", "fits"),
    [
        ("fs-nfs4", "fs-nfs4", True),
        ("fs-nfs4", "fs-nfs4x", False),
        ("crypto-gcm(aes)", "crypto-gcm(aes)", True),
        ("of:N*T*Cvendor,card-1.0C*", "of:NethTnetCvendor,card-1.0Cx", True),
        ("of:N*T*Cvendor,card-1.0C*", "of:NethTnetCvendor,card-1x0Cx", False),
        ("mdio:0000000101000001000011011110????", "mdio:00000001010000010000110111100001", True),
        ("hid:b0003g*v0000[1-3]p*", "hid:b0003g1v00002p7", True),
        ("hid:b0003g*v0000[1-3]p*", "hid:b0003g1v00004p7", False),
        ("*:last", "first:last", True),
    ],
)
def test_an_alias_is_a_pattern_of_the_shell(shell, tmp_path, alias, modalias, fits):
    (tmp_path / "ltsp/modules.order").write_text("net a/x.ko\n")
    (tmp_path / "ltsp/modules.alias").write_text(f"{alias} a/x.ko\n")
    assert shell("modules", f"echo {shlex.quote(modalias)} | modules_for net") == ("a/x.ko\n" if fits else "")


def test_a_module_that_the_kernel_refuses_is_reported_and_absent_hardware_is_not(shell, modules):
    refused = stub(modules, "echo \"insmod: can't insert '$1': invalid module format\" >&2; return 1")
    assert "warning: cannot load a kernel module: " in shell("modules", refused + "load a/loop.ko")
    absent = stub(modules, "echo \"insmod: can't insert '$1': No such device\" >&2; return 1")
    assert shell("modules", absent + "load a/loop.ko") == ""


@pytest.mark.parametrize(("path", "name"), [("a/b/snd-hda-intel.ko.xz", "snd_hda_intel"), ("loop.ko", "loop")])
def test_a_module_has_the_name_that_the_kernel_gives_it(shell, path, name):
    assert shell("modules", f'name_module {path}; printf %s "$MODULE"') == name


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [("mask=20", 20), ("subnet=255.255.255.0", 24), ("subnet=255.255.240.0", 20), ("subnet=255.255.255.255", 32)],
)
def test_a_lease_is_recorded_with_its_prefix(shell, tmp_path, settings, prefix):
    script = f"ip() {{ :; }}; export {settings} ip=10.1.2.3 interface=eth0; set -- bound; . {CLIENT}/lease.sh"
    shell("", script)
    assert f"IP=10.1.2.3\nPREFIX={prefix}\n" in (tmp_path / "work/lease").read_text()


def test_routes_of_a_lease_replace_its_router(shell):
    script = (
        "ip() { printf '%s\\n' \"$*\"; }; export mask=24 ip=10.1.2.3 interface=eth0 router=10.1.2.1\n"
        f"staticroutes='10.9.0.0/16 10.1.2.9 0.0.0.0/0 10.1.2.8'; set -- bound; . {CLIENT}/lease.sh"
    )
    routes = [line for line in shell("", script).splitlines() if line.startswith("route")]
    assert routes == [
        "route add 10.9.0.0/16 via 10.1.2.9 dev eth0 onlink",
        "route add 0.0.0.0/0 via 10.1.2.8 dev eth0 onlink",
    ]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_dhcp_answer_is_not_executed_and_invalid_values_are_dropped(shell, tmp_path, value):
    (tmp_path / "work/lease").write_text(f"IP=10.1.2.3\nHOST={value}\nPATH=/evil\nDOMAIN=x.example\n")
    assert shell("network", 'read_lease; printf \'%s,\' "$IP" "$HOST" "$DOMAIN"') == "10.1.2.3,,x.example,"


@pytest.mark.parametrize(
    ("address", "prefix", "number"),
    [
        ("192.168.67.20", 24, 20),
        ("192.168.67.20", 16, 17172),
        ("192.168.67.20", 20, 788),
        ("10.0.2.0", 23, 0),
        ("10.0.3.0", 23, 256),
        ("10.255.255.254", 8, 16777214),
    ],
)
def test_a_client_has_the_number_of_its_address_in_its_network(shell, address, prefix, number):
    assert shell("identity", f"host_number {address} {prefix}") == str(number)


def layer(tmp_path: Path, name: str, **files: str) -> None:
    directory = tmp_path / "ltsp/site" / name
    directory.mkdir(parents=True)
    for file, text in files.items():
        (directory / file).write_text(text)


FACTS = "IMAGE=lab\nMAC=52:54:00:00:00:0a\nIP=192.168.67.20\nPREFIX=24\n"
FOUND = """
read_facts; find_layers; read_environments
for each in $LAYERS; do printf '%s ' "${each#$SITE/}"; done; echo; echo $CLIENT
"""


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ("52:54:*", True),
        ("192.168.67.*", True),
        ("pc2[0-9]", True),
        ("nothing\nPC20\npc20", True),
        ("pc20", True),
        ("52:55:*", False),
        ("*.67", False),
        ("", False),
        ("$(touch canary)", False),
    ],
)
def test_a_section_matches_by_globs_of_mac_address_or_name(shell, tmp_path, match, fits):
    (tmp_path / "run/ltsp/facts").write_text(FACTS)
    layer(tmp_path, "common", env="HOSTNAME='PC%{IP}'\n")
    layer(tmp_path, "image/lab")
    layer(tmp_path, "image/other")
    layer(tmp_path, "section/0001", match=match)
    expected = "common image/lab section/0001 " if fits else "common image/lab "
    assert shell("identity site", FOUND).splitlines() == [expected, "PC20"]


def test_a_section_by_address_may_set_the_name_that_another_section_matches(shell, tmp_path):
    (tmp_path / "run/ltsp/facts").write_text(f"{FACTS}HOST=dhcp\n")
    layer(tmp_path, "section/0001", match="teacher")
    layer(tmp_path, "section/0002", match="52:54:00:00:00:0a", env="HOSTNAME='teacher'")
    assert shell("identity site", FOUND).splitlines() == ["section/0001 section/0002 ", "teacher"]


@pytest.mark.parametrize(("host", "name"), [("", "ltsp20"), ("given", "given"), ("-bad", "ltsp")])
def test_without_a_setting_the_name_comes_from_dhcp_or_from_the_address(shell, tmp_path, host, name):
    (tmp_path / "run/ltsp/facts").write_text(f"{FACTS}HOST={host}\n")
    assert shell("identity site", FOUND).splitlines()[-1] == name


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_of_the_site_is_executed(shell, tmp_path, value):
    (tmp_path / "run/ltsp/facts").write_text(FACTS)
    layer(tmp_path, "common", env=f"HOSTNAME='{value}'\nDNS_SERVER={value}\nPATH='/evil'\nIFS='x'\n")
    told = shell("identity site", f"{FOUND}printf '%s\\n' \"$DNS,$PATH\"").splitlines()
    assert told[-2] == "ltsp20"
    assert told[-1].startswith(",")
    assert "/evil" not in told[-1]


def test_the_machine_id_depends_only_on_the_card(shell):
    told = shell("identity", "MAC=52:54:00:00:00:01; machine_id; MAC=52:54:00:00:00:02; machine_id").split()
    assert told == [hashlib.md5(f"ltsp 52:54:00:00:00:0{number}".encode()).hexdigest() for number in (1, 2)]


def test_kept_units_are_removed_from_the_lists(shell):
    assert shell("units", "without b.service ' a.service b.service c.service b.service '") == " a.service c.service "


def test_the_server_is_the_one_of_the_menu_else_of_the_root_else_of_dhcp(shell):
    script = (
        "NEXT_SERVER=3.3.3.3\n"
        "for pair in 1.1.1.1,nfs://2.2.2.2/a ,nfs://2.2.2.2/a ,http://2.2.2.2:80/a ,file:/a ,nfs:///a; do\n"
        "SERVER=${pair%%,*} ROOT=${pair#*,}; server; echo; done"
    )
    assert shell("handover", script).split() == ["1.1.1.1", "2.2.2.2", "2.2.2.2", "3.3.3.3", "3.3.3.3"]


def test_an_nbd_device_is_used_once_it_has_its_size(shell, tmp_path):
    """Its pid shows earlier, and what is read before the size shows is an error."""
    (tmp_path / "ltsp/bin").mkdir()
    (tmp_path / "ltsp/bin/nbd-client").touch()
    (tmp_path / "sys/block/nbd0").mkdir(parents=True)
    (tmp_path / "sys/block/nbd0/pid").touch()
    (tmp_path / "sys/block/nbd0/size").write_text("0\n")
    false = "load_group() { :; }; address_of() { echo 10.0.2.2; }; timeout() { :; }\n"
    grows = 'sleep() { echo slept; echo 8 >"$SYS/block/nbd0/size"; }\n'
    told = shell("attach", f'{false}{grows}attach_nbd 10.0.2.2/lab; echo "$IMAGE_FILE"')
    assert told == f"slept\n{tmp_path}/dev/nbd0\n"


def test_without_nbd_img_the_client_says_what_was_not_loaded(shell, tmp_path):
    (tmp_path / "ltsp/modules.order").write_text("")
    told = shell("modules attach", "attach_nbd 10.0.2.2/lab", fails=True)
    assert "FATAL: nbd.img, which contains nbd-client, was not loaded: install nbd-client" in told
    assert "ltsp kernel" in told


def test_each_client_has_its_own_name_for_nfs_4_servers(shell, tmp_path):
    """By default it is the hostname, which is `(none)` then; a server takes them all for one that restarts again and
    again.
    """
    (tmp_path / "sys/module/nfs/parameters").mkdir(parents=True)
    (tmp_path / "run/ltsp/root").mkdir()
    false = "load_group() { :; }; address_of() { echo 10.0.2.2; }; timeout() { :; }; MAC=52:54:00:12:34:56\n"
    shell("attach", f"{false}SOURCE=$RUN/ltsp/root attach_nfs 10.0.2.2/srv/ltsp")
    assert (tmp_path / "sys/module/nfs/parameters/nfs4_unique_id").read_text() == "52:54:00:12:34:56"


@pytest.mark.parametrize(
    ("name", "text", "filled"),
    [
        ("pc01", "%{HOSTNAME/pc/guest}", "guest01"),
        ("pc01", "User=%{HOSTNAME/pc/guest}; %{HOSTNAME/0/x} of %{HOSTNAME}", "User=guest01; pcx1 of pc01"),
        ("pc-pc2", "%{HOSTNAME/pc/guest}", "guest-pc2"),
        ("room-pc3", "%{HOSTNAME/-pc/}", "room3"),
        ("teacher", "[%{HOSTNAME/pc/guest}]", "[]"),
        ("pc.01", "%{HOSTNAME/c./x}", "px01"),
        ("pc01", "%{HOSTNAME/pc}", "%{HOSTNAME/pc}"),
    ],
)
def test_an_account_is_derived_from_the_clients_name(shell, tmp_path, name, text, filled):
    (tmp_path / "file").write_text(f"{text}\n")
    script = f"WORK={tmp_path}/work CLIENT={name} IP=192.0.2.1 PREFIX=24 MAC= SERVER=s; fill_template {tmp_path}/file"
    shell("identity layers", script)
    assert (tmp_path / "file").read_text() == f"{filled}\n"


def test_everybody_can_enter_the_root_of_a_client(shell):
    """That of a chroot, which is booted without an image, may be a folder of mode 0700."""
    script = """
        mount() { :; }
        LOWER=$WORK/lower NEWROOT=$WORK/new OVERLAY=80%
        mkdir -p "$NEWROOT/dev" "$NEWROOT/proc" "$NEWROOT/sys" "$NEWROOT/run"
        mkdir -m 2700 "$LOWER"
        umask 077
        mount_overlay
        stat -c %a "$RUN/ltsp/root/upper/upper"
    """
    assert shell("overlay", script) == "755\n"
