"""Archives and container images as sources: how they are written on the command line, found, named and read."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from archive.raw_tar import Layout, directory, docker, file, layout, packed, shown, tar
from archive.test_member import OLD_SPARSE
from corpus.site import Site
from ltsp.archive.archive import ArchiveReader
from ltsp.errors import FileChanged, FormatError, LtspError, ReaderFailed, SourceError, UsageError
from ltsp.source.archive import ArchiveSource, LayoutSource, RegistrySource, archive_source
from ltsp.source.find import find_source
from ltsp.source.location import ImageReference, make_source_absolute
from ltsp.storage.blocks import FileBlocks
from ltsp.tree.faults import Faults
from ltsp.tree.node import File
from ltsp.tree.selection import Inclusion, select_all

SYSTEM = tar(directory(b"proc/"), directory(b"etc/"), file(b"etc/passwd", b"root\n"), file(b"home/a", b"x"))
FOUND = {"etc/": "", "etc/passwd": "root\n", "home/": "", "home/a": "x", "proc/": ""}


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base/images").mkdir(parents=True)
    return tmp_path / "base"


def read(source, selection=select_all):
    with source.lock_package_manager(0, print) as notes, source.open(selection, Faults()) as tree:
        assert notes == []
        return shown(tree)


@pytest.mark.parametrize(
    ("name", "data"),
    {
        "lab.tar": SYSTEM,
        "lab.tar.gz": packed(SYSTEM),
        "lab.TGZ": packed(SYSTEM),
        "lab": SYSTEM,
        "lab.img": packed(layout(SYSTEM).archive()),
        "lab.oci": layout(packed(SYSTEM)).archive(),
        "lab.tar.zst": docker(SYSTEM),
    }.items(),
)
def test_an_archive_is_known_by_its_content_and_names_the_image(tmp_path, base, name, data):
    (tmp_path / name).write_bytes(data)
    source = find_source(f"{tmp_path}/{name}", str(base))
    assert source.kind == "archive"
    assert (source.name, source.kind) == ("lab", "archive")
    assert source.plan().included[0].description == f"archive {tmp_path}/{name}"
    assert read(source) == FOUND


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ID=debian", "apt-get update && apt-get install -y linux-image-generic systemd-sysv;"),
        ("ID=ubuntu", "apt-get update && apt-get install -y linux-image-generic systemd-sysv;"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'", "apt-get install -y linux-image-generic systemd-sysv;"),
        ("ID=fedora", "dnf install -y kernel systemd;"),
        ("ID=rocky\nID_LIKE='rhel centos fedora'", "dnf install -y kernel systemd;"),
        ("ID=alpine", "apk add linux-lts openrc;"),
        ("ID=arch", "pacman -Syu --noconfirm linux systemd-sysvcompat;"),
        ("ID=opensuse-leap", "zypper --non-interactive install kernel-default systemd-sysvinit;"),
        ("ID=void", "install one, or choose one with --kernel-initrd="),
    ],
)
def test_the_error_for_a_container_without_a_kernel_names_a_package(tmp_path, release, command):
    site = Site.make(tmp_path)
    passwd = file(b"etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    system = tar(directory(b"proc/"), directory(b"etc/"), passwd, file(b"etc/os-release", release.encode()))
    layout(packed(system)).write(site.home / "lab")
    said = site.ltsp("image", "oci:lab", status=1).stderr
    assert "no kernel in lab" in said
    assert command in said
    assert not site.image("lab").exists()


def test_an_archive_in_the_base_directory_is_found_by_its_name(base):
    (base / "lab.img").write_bytes(SYSTEM)
    assert read(find_source("lab", str(base))) == FOUND


def test_the_selection_says_what_is_taken(base):
    (base / "lab.img").write_bytes(SYSTEM)
    chosen = {"home": Inclusion.EMPTIED, "etc/passwd": Inclusion.NOTHING}
    found = read(find_source("lab", str(base)), lambda path, _directory: chosen.get(path, Inclusion.ALL))
    assert list(found) == ["etc/", "home/", "proc/"]


def test_a_system_in_a_directory_of_its_own_is_that_directory(tmp_path, base):
    (tmp_path / "lab.tar").write_bytes(tar(file(b"lab/etc/passwd", b"x"), directory(b"lab/proc")))
    assert list(read(find_source(f"{tmp_path}/lab.tar", str(base)))) == ["etc/", "etc/passwd", "proc/"]


def test_notations_of_containers(tmp_path, base, monkeypatch):
    layout(packed(SYSTEM)).write(tmp_path / "lab")
    (tmp_path / "lab.tar").write_bytes(layout(SYSTEM).archive())
    (tmp_path / "saved.tar").write_bytes(docker(SYSTEM))
    monkeypatch.chdir(tmp_path)
    for argument, name, kind in (
        ("oci:lab", "lab", "oci"),
        (f"oci:{tmp_path}/lab", "lab", "oci"),
        ("oci-archive:lab.tar", "lab", "archive"),
        ("docker-archive:./saved.tar:lab:latest", "saved", "archive"),
    ):
        source = find_source(argument, str(base))
        assert (source.name, source.kind) == (name, kind)
        assert read(source) == FOUND
    assert find_source("oci:lab", str(base), name="room").name == "room"


def test_a_colon_divides_a_path_from_a_tag_unless_it_is_of_the_path(tmp_path, base):
    made = Layout()
    made.of(made.image(SYSTEM, tag="one"), made.image(tar(file(b"other")), tag="localhost/lab:two"))
    made.write(tmp_path / "lab")
    made.write(tmp_path / "with:colon")
    assert read(find_source(f"oci:{tmp_path}/lab:one", str(base))) == FOUND
    assert read(find_source(f"oci:{tmp_path}/lab:localhost/lab:two", str(base))) == {"other": ""}
    assert read(find_source(f"oci:{tmp_path}/with:colon:one", str(base), name="lab")) == FOUND
    with pytest.raises(SourceError, match=rf"{tmp_path}/lab contains 2 images: localhost/lab:two, one"):
        read(find_source(f"oci:{tmp_path}/lab", str(base)))


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("-", "-"),
        ("docker://example.org/lab:1", "docker://example.org/lab:1"),
        ("oci:lab:one", "oci:{here}/lab:one"),
        ("oci:./lab", "oci:{here}/lab"),
        ("oci-archive:/a.tar", "oci-archive:/a.tar"),
        ("docker-archive:a.tar:x/y:z,,/b,subdir=c", "docker-archive:{here}/a.tar:x/y:z,,/b,subdir=c"),
        ("./lab,,/b", "{here}/lab,,/b"),
        ("./a,disk=b,disk=./c/d,partition=1,,/b", "{here}/a,disk=b,disk={here}/c/d,partition=1,,/b"),
        ("./a,disk=c/d", "{here}/a,disk=c/d"),
        ("lab", "{here}/base/lab"),
        ("lab,partition=2,,/b", "{here}/base/lab,partition=2,,/b"),
        ("vm", "{here}/base/vm.img"),
        ("/srv//lab/", "/srv/lab"),
        ("gone", "gone"),
    ],
)
def test_what_is_recorded_means_the_same_from_any_directory(tmp_path, monkeypatch, argument, meant):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base/lab/usr").mkdir(parents=True)
    (tmp_path / "base/vm.img").touch()
    assert make_source_absolute(argument, f"{tmp_path}/base") == meant.format(here=tmp_path)


def test_the_hint_for_a_missing_archive_shows_the_notation(base):
    with pytest.raises(LtspError, match="/nowhere not found") as caught:
        find_source("oci:/nowhere:tag", str(base))
    assert caught.value.hint == "use oci:PATH or oci:PATH:TAG"


def test_standard_input_needs_a_name(base):
    with pytest.raises(UsageError, match="needs a name") as caught:
        find_source("-", str(base))
    assert "--name" in caught.value.hint


@pytest.mark.parametrize("through", ["pipe", "file"])
def test_standard_input_is_read_to_its_end(base, tmp_path, through):
    source = find_source("-", str(base), name="lab")
    assert (source.name, source.description) == ("lab", "archive from standard input")
    path = tmp_path / "stdin"
    path.write_bytes(packed(SYSTEM) + bytes(1 << 20))
    saved = os.dup(0)
    with path.open("rb") as given, subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
        try:
            os.dup2(process.stdout.fileno() if through == "pipe" else given.fileno(), 0)
            assert read(source) == FOUND
        finally:
            os.dup2(saved, 0)
            os.close(saved)
    assert through == "file" or process.returncode == 0


def test_a_terminal_is_not_an_archive(base, monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda _descriptor: True)
    with pytest.raises(UsageError, match="standard input is a terminal"):
        read(find_source("-", str(base), name="lab"))


def test_an_image_from_standard_input_cannot_be_rebuilt(base):
    (base / "images/lab.img").write_bytes(b"hsqs" + bytes(92))
    with pytest.raises(LtspError, match="its source is unknown"):
        find_source("lab", str(base), find_recorded={"lab": "-"}.get)


@pytest.mark.parametrize("option", ["fstype=ext4", "partition=1"])
def test_options_of_disks_make_no_sense_for_archives(base, option):
    (base / "lab.img").write_bytes(SYSTEM)
    for argument in ("lab", f"oci-archive:{base}/lab.img"):
        with pytest.raises(UsageError, match=f"{option} does not apply to"):
            find_source(f"{argument},{option}", str(base))


def test_an_archive_that_is_written_to_while_it_is_read_is_an_error(base):
    path = base / "lab.img"
    path.write_bytes(SYSTEM)
    with pytest.raises(FileChanged, match="written to"), find_source("lab", str(base)).open(select_all, Faults()):
        os.utime(path, (0, 0))
    layout(SYSTEM).write(base / "layout")
    with (
        pytest.raises(FileChanged, match="written to"),
        LayoutSource("lab", f"{base}/layout").open(select_all, Faults()),
    ):
        os.utime(base / "layout/index.json", (0, 0))


def test_damage_is_reported_with_the_path(base):
    (base / "lab.img").write_bytes(SYSTEM[:-1200])
    with pytest.raises(FormatError, match=r"lab\.img is truncated") as caught:
        read(find_source("lab", str(base)))
    assert caught.value.hint


@pytest.mark.root
def test_a_layout_is_never_left_by_its_links(tmp_path):
    made = layout(SYSTEM).write(tmp_path / "lab")
    outside = layout(SYSTEM).write(tmp_path / "outside")
    blobs = list((made / "blobs/sha256").iterdir())
    for blob in blobs:
        blob.unlink()
        blob.symlink_to(outside / "blobs/sha256" / blob.name)
    with pytest.raises(FormatError, match=r"blobs/sha256/[0-9a-f]+ is missing"):
        read(LayoutSource("lab", str(made)))
    for blob in blobs:
        blob.unlink()
        os.mkfifo(blob)
    with pytest.raises(SourceError, match="not a regular file"):
        read(LayoutSource("lab", str(made)))


class TestProcess:
    """Of what reads archives: what becomes of it is an error that names the archive."""

    @pytest.fixture(autouse=True)
    def on_the_path(self, monkeypatch):
        tests = Path(__file__).parents[1]
        monkeypatch.setenv("PYTHONPATH", f"{tests.parent}/src:{tests}")

    @pytest.fixture
    def lab(self, base):
        (base / "lab.img").write_bytes(SYSTEM)
        return find_source("lab", str(base))

    def test_a_killed_process_is_reported(self, base, lab, monkeypatch):
        monkeypatch.setattr("ltsp.source.archive._SESSION_MODULE", "corpus.dying_session")
        with pytest.raises(ReaderFailed, match=r"lab\.img: its reader process was killed by SIGSEGV"):
            read(lab)
        layout(SYSTEM).write(base / "layout")
        with pytest.raises(ReaderFailed, match=r"layout: its reader process was killed"):
            read(LayoutSource("lab", f"{base}/layout"))
        (base / "lab.img").write_bytes(packed(SYSTEM))
        with pytest.raises(ReaderFailed, match=r"lab\.img: its reader process was killed by SIGSEGV"):
            find_source("lab", str(base))

    def test_one_that_asks_for_parts_of_a_tar_gets_none(self, lab, monkeypatch):
        monkeypatch.setattr("ltsp.source.archive._SESSION_MODULE", "corpus.dying_session")
        monkeypatch.setenv("LTSP_ASKS_FOR", "../../etc/shadow")
        with pytest.raises(FormatError, match="is damaged: it refers to"):
            read(lab)

    def test_one_that_asks_for_what_is_outside_of_a_layout_gets_none(self, base, monkeypatch):
        layout(SYSTEM).write(base / "layout")
        (base / "secret").write_text("secret")
        monkeypatch.setattr("ltsp.source.archive._SESSION_MODULE", "corpus.dying_session")
        monkeypatch.setenv("LTSP_ASKS_FOR", "../secret")
        with pytest.raises(FormatError, match=r"\.\./secret is missing"):
            read(LayoutSource("lab", f"{base}/layout"))

    def test_unpacked_files_are_in_tmpdir(self, base, tmp_path, monkeypatch):
        (base / "lab.img").write_bytes(packed(SYSTEM))
        monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
        with pytest.raises(LtspError, match=r"cannot unpack in .*/none: No such file") as caught:
            read(find_source("lab", str(base)))
        assert "TMPDIR" in caught.value.hint

    def test_a_pipe_that_is_slow_is_waited_for(self, base, monkeypatch):
        """Longer than a reader may be silent."""
        monkeypatch.setattr("ltsp.sandbox.client._REPLY_TIMEOUT", 5.0)
        source = find_source("-", str(base), name="lab")
        ours, theirs = os.pipe()
        saved = os.dup(0)
        writer = threading.Timer(7, lambda: (os.write(theirs, SYSTEM), os.close(theirs)))
        try:
            os.dup2(ours, 0)
            writer.start()
            assert read(source) == FOUND
        finally:
            os.dup2(saved, 0)
            writer.join()
            os.close(saved)
            os.close(ours)

    @pytest.mark.parametrize("form", ["plain", "packed", "layout", "packed layout", "layout in an archive"])
    def test_contents_are_the_same_wherever_they_lie(self, base, form):
        """In the archive, in a layer of it, in what it was unpacked to, with holes and with zeros at the end."""
        made = tar(file(b"a", b"text" * 500), OLD_SPARSE, file(b"empty"), file(b"zeros", bytes(200_000)))
        argument = "lab"
        match form:
            case "layout" | "packed layout":
                layout(made if form == "layout" else packed(made)).write(base / "layout")
                argument = f"oci:{base}/layout"
            case "layout in an archive":
                (base / "lab.img").write_bytes(layout(made, packed(tar(file(b"b", b"above")))).archive())
            case _:
                (base / "lab.img").write_bytes(made if form == "plain" else packed(made))
        with (
            find_source(argument, str(base)).open(select_all, Faults()) as tree,
            (base / "same").open("w+b") as same,
            ArchiveReader(str(base)) as reader,
        ):
            same.write(made)
            same.flush()
            expected = reader.read_file(FileBlocks.of(same))
            for path in (path for path, node in expected.walk() if isinstance(node, File)):
                with tree.get(path).content.open() as ours, expected.get(path).content.open() as theirs:
                    assert ours.hole_size() == theirs.hole_size()
                    assert ours.read(1 << 20) == theirs.read(1 << 20)

    def test_a_bomb_meets_its_limits_there(self, base):
        (base / "lab.img").write_bytes(packed(SYSTEM + bytes(1 << 30)))
        with pytest.raises(FormatError, match=r"lab\.img unpacks to more than|MiB of trailing data"):
            read(find_source("lab", str(base)))


def test_an_unknown_layout_is_an_error(base, tmp_path):
    (tmp_path / "lab").mkdir()
    with pytest.raises(FormatError, match=r"lab is not a valid OCI layout: index\.json is missing"):
        read(find_source(f"oci:{tmp_path}/lab", str(base)))
    (tmp_path / "lab/index.json").write_text("{}")
    with pytest.raises(SourceError, match=r"cannot read .*index\.json: Not a directory"):
        read(find_source(f"oci:{tmp_path}/lab/index.json", str(base)))
    with pytest.raises(SourceError, match="is not a regular file"):
        read(ArchiveSource("lab", str(tmp_path)))


class TestRegistry:
    """skopeo is a script here, which copies a layout from beside itself and takes notes."""

    @pytest.fixture
    def skopeo(self, tmp_path, monkeypatch):
        layout(packed(SYSTEM)).write(tmp_path / "remote")
        script = tmp_path / "bin/skopeo"
        script.parent.mkdir()
        script.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/called\n'
            f'cp -r {tmp_path}/remote "${{5#oci:}}" && test -e {tmp_path}/remote/index.json\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
        (tmp_path / "scratch").mkdir()
        return tmp_path

    @pytest.mark.parametrize("reference", ["example.org:5000/rooms/lab:1.2", "lab", f"a/lab@sha256:{'0' * 64}"])
    def test_an_image_is_copied_and_nothing_stays(self, base, skopeo, reference):
        source = find_source(f"docker://{reference}", str(base))
        assert (source.name, source.kind) == ("lab", "registry")
        assert source.description == f"container image docker://{reference}"
        assert read(source) == FOUND
        called = (skopeo / "called").read_text().split("\n")
        assert called[2:4] == ["copy", f"docker://{reference}"]
        assert list((skopeo / "scratch").iterdir()) == []

    def test_a_failure_is_reported_in_its_own_words(self, base, skopeo):
        (skopeo / "bin/skopeo").write_text("#!/bin/sh\necho 'manifest unknown' >&2\nexit 1\n")
        with pytest.raises(LtspError, match="skopeo failed with exit status 1: manifest unknown"):
            read(find_source("docker://example.org/lab", str(base)))
        assert list((skopeo / "scratch").iterdir()) == []

    def test_where_it_is_missing_the_package_is_named(self, base, monkeypatch):
        monkeypatch.setattr("ltsp.host.command.find_program", lambda _program: None)
        with pytest.raises(LtspError, match="skopeo not found") as caught:
            read(find_source("docker://example.org/lab", str(base)))
        assert caught.value.hint == "install the package skopeo"

    def test_a_copy_of_a_run_that_was_killed_is_removed_by_the_next_one(self, base, skopeo):
        forgotten, foreign = skopeo / "scratch/ltsp-registry-dead", skopeo / "scratch/ltsp-registry-live"
        for path in (forgotten, foreign):
            path.mkdir()
            (path / "layout").mkdir()
            os.utime(path, (time.time() - 1000,) * 2)
        (skopeo / "scratch/ltsp-registry-new").mkdir()
        hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), 2); print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", hold, foreign], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            holder.stdout.readline()
            assert read(find_source("docker://example.org/lab", str(base))) == FOUND
            holder.stdin.close()
        assert sorted(path.name for path in (skopeo / "scratch").iterdir()) == [
            "ltsp-registry-live",
            "ltsp-registry-new",
        ]


def test_notations_are_values():
    assert ImageReference.parse("lab") is None
    assert ImageReference.parse("./oci:lab") is None
    assert isinstance(archive_source(ImageReference.parse("docker://a/b:c"), "b"), RegistrySource)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_disk_on_standard_input_is_to_be_written_to_a_file(tmp_path, pack):
    disk = pack(b"QFI\xfb" + bytes(1 << 20))
    command = [sys.executable, "-m", "ltsp", f"--base-dir={tmp_path}", "image", "-", "--name=lab"]
    done = subprocess.run(command, input=disk, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert b"standard input is not a tar archive" in done.stderr
    assert b"save the disk image to a file, and name that" in done.stderr
