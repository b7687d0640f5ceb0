"""The same system gives the same image, whatever the machine is set to and wherever the system lies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace

import pytest

from corpus.site import Site
from corpus.small_disk import mounted
from corpus.system import make_system

pytestmark = [pytest.mark.oracle, pytest.mark.root]

THREADS = ("1", "2", "8")
LOCALES = ("C", "POSIX", "C.UTF-8", "de_DE.ISO-8859-1", "no_SUCH.locale")
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns")
UMASKS = (0o000, 0o022, 0o077)
MEDIA = ("where it was made", "ext4", "tmpfs")
HALF_MD4 = "mke2fs -qF -E hash_seed=11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def locales(tmp_path_factory):
    """A directory for LOCPATH with a locale whose bytes are not UTF-8, where this machine has what one is made of."""
    directory = tmp_path_factory.mktemp("locales")
    words = ["localedef", "--no-archive", "-i", "de_DE", "-f", "ISO-8859-1", directory / "de_DE.ISO-8859-1"]
    subprocess.run(words, check=False, capture_output=True)
    return str(directory)


@contextmanager
def on_every_medium(tmp_path, system, megabytes):
    """The site, and the system by its medium: copies on other file systems, whose directories list in other orders."""
    disk = tmp_path / "disk"
    places = {medium: tmp_path / medium for medium in MEDIA[1:]}
    for place in places.values():
        place.mkdir()
    script = f"""
        truncate -s {megabytes}m {disk}; {HALF_MD4} {disk}
        mount -o loop {disk} {places["ext4"]}
        mount -t tmpfs -o size={megabytes}m tmpfs {places["tmpfs"]}
        for place in {places["ext4"]} {places["tmpfs"]}; do cp -a {system} $place/lab; done
    """
    with mounted(Site.make(tmp_path), script) as site:
        yield site, {"where it was made": str(system), **{name: f"{place}/lab" for name, place in places.items()}}


def combinations(chance, count):
    """So many combinations, in which each value comes up as often as the others of its kind."""
    columns = [THREADS, LOCALES, ZONES, UMASKS, MEDIA, tuple(map(str, range(count)))]
    spread = []
    for column in columns:
        values = [column[index % len(column)] for index in range(count)]
        chance.shuffle(values)
        spread.append(values)
    return list(zip(*spread, strict=True))


def digests(site, systems, locales, every, *words):
    """The sha256 of each combination's image, as the command tells it."""
    found = {}
    for threads, locale, zone, umask, medium, seed in every:
        within = ("sh", "-c", f'umask {umask:o}; exec "$@"', "sh")
        done = replace(site, through=(*site.through, *within)).ltsp(
            *("image", "--json", "--name=lab", f"--threads={threads}", *words, systems[medium]),
            LC_ALL=locale,
            LOCPATH=locales,
            TZ=zone,
            PYTHONHASHSEED=seed,
        )
        (image,) = json.loads(done.stdout)["images"]
        found[threads, locale, zone, umask, medium, seed] = image["sha256"]
    return found


def test_threads_locale_zone_umask_and_order_of_directories_leave_no_trace(tmp_path, locales, chance, record_property):
    system = make_system(tmp_path / "system")
    for number in range(300):
        name = chance.randbytes(4).hex() + chance.choice(["", "é", "\udce9", "\n", " ", "'"])
        path = system / "usr/lib" / name
        path.write_bytes(chance.randbytes(chance.randrange(400)) * chance.randrange(1, 900))
        os.utime(path, (0, number))
        if number % 20 == 0:
            os.link(path, system / "opt" / name)
    with on_every_medium(tmp_path, system, 300) as (site, systems):
        listed = [os.listdir(f"{site.seen}{path}/usr/lib") for path in systems.values()]
        assert sorted(listed[0]) == sorted(listed[1]) == sorted(listed[2])
        assert len(set(map(tuple, listed))) > 1, "the orders are the same, and the test shows nothing"
        found = digests(site, systems, locales, combinations(chance, 9), "-m", "-comp gzip")
    record_property("R9", f"{len(found)} combinations, {len(set(found.values()))} image")
    assert len(set(found.values())) == 1, found


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("codec", ["zstd", "gzip", "lz4"])
def test_a_real_root_gives_one_image_in_twenty_combinations(
    tmp_path, locales, debian_root, chance, codec, record_property
):
    with on_every_medium(tmp_path, debian_root, 2000) as (site, systems):
        found = digests(site, systems, locales, combinations(chance, 20), f"--compression={codec}")
    record_property("R9", f"{len(found)} combinations of a Debian root in {codec}, {len(set(found.values()))} image")
    assert len(set(found.values())) == 1, found
    shutil.rmtree(tmp_path)
