"""Services that make no sense on a client without disks, and why. KEEP_SYSTEM_SERVICES takes any of them off the list.

Units that an image does not have are no fault. A masked unit cannot be started at all; a disabled one is not started
by itself. Timers are masked with their services: a timer whose service is masked is a failed unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from ltsp.initrd.site_text import has_kind


class Fate(Enum):
    MASKED = "mask"
    DISABLED = "disable"


@dataclass(frozen=True, slots=True)
class Services:
    fate: Fate
    reason: str
    units: tuple[str, ...]


def _rows(fate: Fate, reason: str, units: str) -> Services:
    return Services(fate, reason, tuple(units.split()))


DEFAULTS = (
    _rows(
        Fate.MASKED,
        "packages are updated in the image; on a client that costs memory and lasts until it is switched off",
        """
        apt-daily.service apt-daily.timer apt-daily-upgrade.service apt-daily-upgrade.timer apt-news.service
        esm-cache.service unattended-upgrades.service update-notifier-download.timer update-notifier-motd.timer
        ua-timer.timer ua-reboot-cmds.service dnf-makecache.timer dnf5-makecache.timer dnf-automatic.timer
        dnf-automatic-install.timer dnf5-automatic.timer rpmdb-rebuild.service rpmdb-migrate.service
        packagekit-offline-update.service transactional-update.timer reflector.timer pamac-mirrorlist.timer
        archlinux-keyring-wkd-sync.timer fwupd-refresh.timer snapd.refresh.timer snapd.refresh.service
        snapd.snap-repair.timer motd-news.timer motd-news.service apport-autoreport.timer apport-autoreport.path
        """,
    ),
    _rows(
        Fate.MASKED,
        "there is no disk of the client's own to trim, scrub or watch",
        """
        fstrim.timer e2scrub_all.timer e2scrub_reap.service xfs_scrub_all.timer mdcheck_start.timer
        mdcheck_continue.timer mdmonitor-oneshot.timer raid-check.timer smartd.service smartmontools.service
        """,
    ),
    _rows(
        Fate.MASKED,
        "what they write lies in memory, and each start begins anew",
        """
        man-db.timer man-db-cache-update.service logrotate.timer plocate-updatedb.timer mlocate-updatedb.timer
        updatedb.timer dpkg-db-backup.timer sysstat-collect.timer sysstat-summary.timer rsyslog.service
        dphys-swapfile.service ureadahead.service ureadahead-stop.service
        """,
    ),
    _rows(
        Fate.MASKED,
        "they note in a boot loader on disk that the system has started",
        """
        grub-common.service grub-initrd-fallback.service grub-boot-success.timer grub2-systemd-integration.service
        secureboot-db.service systemd-bless-boot.service systemd-boot-update.service
        """,
    ),
    _rows(
        Fate.MASKED,
        "the network was up before they start, and nobody manages the interface that they wait for",
        """
        NetworkManager-wait-online.service systemd-networkd-wait-online.service ifupdown-wait-online.service
        """,
    ),
    _rows(
        Fate.MASKED,
        "they would set up the machine that the image came from",
        """
        cloud-init.service cloud-init-local.service cloud-init-main.service cloud-init-network.service
        cloud-config.service cloud-final.service systemd-firstboot.service
        """,
    ),
    _rows(
        Fate.MASKED,  # some are scripts of init.d still, which cannot be disabled from outside
        "they belong to the server, and two of a kind in one network harm each other",
        """
        dnsmasq.service isc-dhcp-server.service isc-dhcp-server6.service kea-dhcp4-server.service
        kea-dhcp6-server.service dhcpd.service tftpd-hpa.service atftpd.service tftp.socket nfs-kernel-server.service
        nfs-server.service nbd-server.service epoptes.service ltsp.service ltsp-http.service
        """,
    ),
    _rows(
        Fate.DISABLED,
        "every client would have the same identity",
        "anydesk.service teamviewerd.service rustdesk.service",
    ),
)

SESSION_DEFAULTS = ("gnome-software-service", "update-notifier")
"""User services and entries of autostart: they look for updates."""

_CRON = """
    apt apt-compat aptitude bsdmainutils cracklib-runtime dpkg logrotate man-db mlocate passwd plocate
    popularity-contest standard sysstat ubuntu-advantage-tools update-notifier-common apt-xapian-index ieee-data
"""
CRON_JOBS = (
    *("etc/cron.d/popularity-contest", "etc/cron.d/e2scrub_all", "etc/cron.d/mdadm", "etc/cron.d/sysstat"),
    *(f"etc/cron.{period}/{job}" for period in ("daily", "weekly", "monthly") for job in _CRON.split()),
)
"""Jobs of cron that do what the masked timers do."""


def defaults(fate: Fate) -> tuple[str, ...]:
    return tuple(unit for services in DEFAULTS if services.fate is fate for unit in services.units)


def kept(words: Iterable[str]) -> tuple[str, ...]:
    """What KEEP_SYSTEM_SERVICES means: a name without a kind means the timer, socket and path of that name, too."""
    kinds = (".service", ".timer", ".socket", ".path")
    return tuple(unit for word in words for unit in ([word] if has_kind(word) else [word + kind for kind in kinds]))
