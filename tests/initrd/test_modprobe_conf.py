"""An image's modprobe.d applies to its clients before they have the image, as read by kmod."""

from __future__ import annotations

import subprocess

import pytest

from corpus.dict_tree import data, make_tree
from corpus.elf_files import module, program
from ltsp.errors import LtspError
from ltsp.initrd.client_tree import ClientInitrd, ClientOptions, build_client_tree
from ltsp.initrd.drivers import find_network_drivers
from ltsp.initrd.kernel_modules import KernelModules, module_name
from ltsp.initrd.modprobe_conf import ModprobeConf, replace_hyphens
from ltsp.initrd.program_file import BUSYBOX_APPLETS
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.faults import Faults
from ltsp.tree.node import Device, DeviceKind, File, Metadata
from ltsp.tree.selection import select_all

M = "usr/lib/modules/6.1"
ETHERNET = "kernel/drivers/net/ethernet"
FILES = {
    f"{ETHERNET}/r8169.ko": module(["alias=pci:v000010ECd00008168sv*sd*bc*sc*i*", "alias=r8169-alias"]),
    f"{ETHERNET}/mlx4_core.ko": module(["alias=pci:v000015B3d*"]),
    f"{ETHERNET}/mlx4-en.ko": module(),
    "kernel/drivers/hid/usbhid/usbhid.ko": module(["alias=usb:ic03"]),
    "kernel/fs/squashfs/squashfs.ko": module(["alias=fs-squashfs"]),
    "updates/dkms/r8168.ko": module(["alias=pci:v000010ECd00008168sv*sd*bc*sc*i*"], wants=["alloc_etherdev_mqs"]),
}


def system(conf):
    listed = "".join(f"{path}:\n" for path in FILES)
    files = {f"{M}/{path}": file for path, file in FILES.items()}
    programs = {"usr/bin/busybox": program(applets=BUSYBOX_APPLETS)}
    return make_tree({"lib": "-> usr/lib", f"{M}/modules.dep": listed, **files, **programs, **conf})


def made(conf, *network: str) -> ClientInitrd:
    tree = system({"etc/modprobe.d/x.conf": conf} if isinstance(conf, str) else conf)
    return build_client_tree(tree, KernelModules.read(tree, "6.1"), ClientOptions(network))


def text(initrd: ClientInitrd, name: str) -> list[str]:
    return (data(initrd.tree, f"ltsp/modules.{name}") or b"").decode().splitlines()


def names(initrd: ClientInitrd, group: str) -> list[str]:
    return list(map(module_name, initrd.modules[group]))


@pytest.mark.parametrize("line", ["blacklist r8169", "install r8169 /bin/false", "install r816? /bin/true # no"])
def test_a_blocked_driver_is_not_found_for_a_device_and_is_named(line):
    initrd = made(line)
    assert "r8169" not in names(initrd, "net")
    assert not any(alias.endswith("/r8169.ko") for alias in text(initrd, "alias"))
    assert "clients do not load the network driver r8169: /etc/modprobe.d/x.conf of the image blocks it" in (
        initrd.warnings
    )


def test_the_keyboards_driver_can_be_blocked_too():
    assert "usbhid" in names(made(""), "keyboard")
    assert "usbhid" not in names(made("blacklist usbhid"), "keyboard")


@pytest.mark.parametrize("line", ["install squashfs /bin/false", "blacklist squashfs"])
def test_a_required_module_is_loaded_even_if_it_is_blocked(line):
    """Guides to hardening have that line, since nobody but snapd needs squashfs on a computer with a disk."""
    initrd = made(line)
    assert "squashfs" in names(initrd, "base")
    said = [warning for warning in initrd.warnings if "squashfs" in warning]
    assert said == (
        ["clients load squashfs, which they need to boot, although /etc/modprobe.d/x.conf of the image blocks it"]
        if line.startswith("install")
        else []
    )


def test_a_command_that_loads_the_module_itself_is_not_run_and_is_named():
    initrd = made("install mlx4_core /sbin/modprobe --ignore-install mlx4_core $CMDLINE_OPTS && /bin/setup")
    assert "mlx4_core" in names(initrd, "net")
    (warning,) = (text for text in initrd.warnings if "mlx4_core" in text)
    assert warning.startswith(
        "clients load mlx4_core without its install command in /etc/modprobe.d/x.conf of the image"
    )
    assert "mlx4_core" not in names(made("install mlx4_core /sbin/modprobe r8168"), "net")


def test_options_are_included():
    initrd = made('options r8169 aspm=0  name="a b"\noptions r8169 eee=0\noptions other x=1\noptions usb-hid x\n')
    assert text(initrd, "options") == ['r8169 aspm=0  name="a b" eee=0']


def test_a_soft_post_dependency_is_loaded_after_the_module():
    """Debian's kmod has this line, and without it such cards have no interface."""
    initrd = made("softdep mlx4_core post: mlx4_en")
    path, other = f"{ETHERNET}/mlx4_core.ko", f"{ETHERNET}/mlx4-en.ko"
    assert f"{path}: {path} {other}" in text(initrd, "load")
    assert set(names(made("softdep mlx4_core post: mlx4_en", "mlx4_core"), "net")) == {"mlx4_core", "mlx4_en"}


def test_aliases_of_the_administrator_come_first():
    """Debian's r8168-dkms takes its devices from r8169 in this way."""
    device = "pci:v000010ECd00008168sv*sd*bc*sc*i*"
    aliases = text(made(f"alias {device} r8168\nalias net-pf-10 off\ninstall net-pf-31 /bin/true\n"), "alias")
    assert aliases[:3] == [f"{device} updates/dkms/r8168.ko conf", "net_pf_10 - conf", "net_pf_31 - conf"]


@pytest.mark.parametrize(
    ("files", "is_in"),
    [
        ({"usr/lib/modprobe.d/a.conf": "blacklist r8169"}, False),
        ({"usr/lib/modprobe.d/a.conf": "blacklist r8169", "etc/modprobe.d/a.conf": "# nothing\n"}, True),
        ({"usr/lib/modprobe.d/a.conf": "blacklist r8169", "etc/modprobe.d/a.conf": "-> /dev/null"}, True),
        (
            {
                "usr/lib/modprobe.d/a.conf": "blacklist r8169",
                "etc/modprobe.d/a.conf": "-> /dev/null",
                "dev/null": Device(Metadata(0o666), DeviceKind.CHARACTER, 1, 3),
            },
            True,
        ),
        ({"usr/lib/modprobe.d/a.conf": "blacklist r8169", "run/modprobe.d/a.conf": ""}, True),
        ({"run/modprobe.d/a.conf": "blacklist r8169", "etc/modprobe.d/a.conf": ""}, True),
        ({"usr/local/lib/modprobe.d/a.conf": "blacklist r8169"}, False),
        ({"etc/modprobe.d/a.conf": "-> ../alternatives/r8169", "etc/alternatives/r8169": "blacklist r8169"}, False),
        ({"etc/modprobe.d/a.conf.dpkg-old": "blacklist r8169"}, True),
        ({"etc/modprobe.d/.a.conf": "blacklist r8169"}, True),
        ({"etc/modprobe.d/a.conf/b.conf": "blacklist r8169"}, True),
        ({"etc/modprobe.d/a.conf": "  # blacklist r8169\n#blacklist r8169\nblacklist\n\n"}, True),
        ({"etc/modprobe.d/a.conf": "black\\\nlist r\\\n8169\n"}, False),
    ],
)
def test_one_file_of_a_name_counts_from_the_first_directory_that_has_it(files, is_in):
    assert ("r8169" in names(made(files), "net")) is is_in


def test_hyphens_are_underscores_except_in_ranges():
    assert replace_hyphens("snd-hda-[a-c]-x") == "snd_hda_[a-c]_x"


def test_an_unreadable_modprobe_conf_is_an_error():
    class Failing:
        size = 100

        def open(self):
            raise OSError(5, "Input/output error")

    with pytest.raises(LtspError, match=r"cannot read /etc/modprobe.d/x.conf of the image: Input/output error"):
        made({"etc/modprobe.d/x.conf": File(Metadata(0o644), Failing())})


@pytest.mark.parametrize("line", ["options r8169 a\x1bb", "alias \x01 r8169", "softdep r8169", "install r8169", "x"])
def test_invalid_lines_are_ignored(line):
    assert "r8169" in names(made(line), "net")
    assert text(made(line), "options") == []


def test_a_kernel_whose_only_drivers_are_blocked_has_none():
    tree = system({"etc/modprobe.d/x.conf": "blacklist r8169\nblacklist r8168\nblacklist mlx4_core\n"})
    assert find_network_drivers(KernelModules.read(tree, "6.1")) == {"mlx4_en"}


# By kmod's own program, which sees these files in the places of the machine's

SAID = {
    "etc/modprobe.d/b.conf": (
        "# comment\nblacklist r8169\nblacklist snd-x\\\n_y\n"
        'options r8169 a=1   b="x y" \\\n c=2\n\toptions r8169\td=4\n'
        "install usb-storage /bin/true\ninstall snd_* modprobe --ignore-install snd_a && x\n"
        "softdep mlx4_core post: mlx4_en\nsoftdep a-b pre: c-d e post: f\nalias foo-[1-3]-* bar-baz\n"
    ),
    "etc/modprobe.d/masked.conf": "-> /dev/null",
    "etc/modprobe.d/ignored.txt": "blacklist wrong_a",
    "usr/lib/modprobe.d/masked.conf": "blacklist wrong_b",
    "usr/lib/modprobe.d/b.conf": "blacklist wrong_c",
    "usr/lib/modprobe.d/c.conf": "blacklist right_c\noptions r8169 late=1\n",
    "usr/lib/modprobe.d/a.conf": "options r8169 early=1\n",
    "run/modprobe.d/c.conf": "blacklist right_run\noptions r8169 run=1\n",
}
_IN_THEIR_PLACES = """
mount --bind "$1/etc/modprobe.d" /etc/modprobe.d
mount --bind "$1/usr/lib/modprobe.d" /lib/modprobe.d
mount -t tmpfs none /run
cp -a "$1/run/modprobe.d" /run/modprobe.d
mkdir -p "$1/lib/modules/6.1"
exec modprobe -d "$1" -S 6.1 -c
"""


@pytest.mark.oracle
@pytest.mark.root
def test_modprobe_reads_the_same(tmp_path):
    for path, content in SAID.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            (tmp_path / path).symlink_to(content[3:])
        else:
            (tmp_path / path).write_text(content)
    with DirectorySource("d", str(tmp_path), "").open(select_all, Faults()) as tree:
        conf = ModprobeConf.read(tree)
    command = ["unshare", "--mount", "sh", "-eu", "-c", _IN_THEIR_PLACES, "sh", tmp_path]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    said = [line.split(None, 2) for line in dumped if line]
    assert set(conf.blacklist) == {words[1] for words in said if words[0] == "blacklist"}
    assert [[rule.pattern, rule.text] for rule in conf.install_rules] == [w[1:] for w in said if w[0] == "install"]
    assert [[rule.pattern, rule.text] for rule in conf.aliases] == [w[1:] for w in said if w[0] == "alias"]
    options = [words[2] for words in said if words[:2] == ["options", "r8169"]]
    assert conf.options["r8169"].split() == " ".join(options).split()
    # Some releases write no blank before `post:`.
    soft = {w[1]: w[2].replace("-", "_").replace("post:", " post:").split() for w in said if w[0] == "softdep"}
    assert {
        each.name: [*_marked("pre:", each.pre_modules), *_marked("post:", each.post_modules)] for each in conf.softdeps
    } == soft
    assert {"r8169", "snd_x_y", "right_run"} == set(conf.blacklist)


def _marked(word, names):
    return [word, *names] if names else []
