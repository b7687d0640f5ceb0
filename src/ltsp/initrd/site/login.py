"""AUTOLOGIN and RELOGIN: automatic login in the configuration of each display manager and of agetty.

Each of the two keys has its own files or pieces, so that a section can set one and leave the other as it is.
gdm has one file for all of its settings; the image's own piece of it comes first (`00-image`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ltsp.initrd.site import quoting
from ltsp.initrd.site.client_texts import HEADER

GDM_FILES = ("etc/gdm3/daemon.conf", "etc/gdm3/custom.conf", "etc/gdm/custom.conf")
"""On Debian, Ubuntu, and others; a client reads one of them."""
SESSION_FILE = "etc/sddm.conf.d/80-ltsp-session.conf"
SESSION_DIRECTORIES = ("usr/share/xsessions", "usr/share/wayland-sessions")
_RELOGIN_DELAY = 2
"""Seconds until display managers log in again; if shorter, lightdm shows no greeter to users of another account."""
_PLAIN = re.compile(r"[A-Za-z0-9-]+")
_ACCOUNT_PART = re.compile(r"[A-Za-z0-9_.-]{0,31}")
"""A part of an account's name."""


@dataclass(frozen=True, slots=True)
class LoginFiles:
    """Files and pieces of files for a layer."""

    files: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def autologin_files(user: str) -> LoginFiles:
    """Log in this user automatically; an empty name for nobody."""
    gdm = f"[daemon]\nAutomaticLoginEnable={_boolean(user)}\nAutomaticLogin={user}\nTimedLogin={user}\n"
    return LoginFiles(
        {
            "etc/ltsp/autologin": f"{user}\n",
            "etc/lightdm/lightdm.conf.d/90-ltsp-autologin.conf": f"{HEADER}[Seat:*]\nautologin-user={user}\n",
            "etc/sddm.conf.d/90-ltsp-autologin.conf": f"{HEADER}[Autologin]\nUser={user}\n",
        },
        {path: {"50-autologin": gdm if user else ""} for path in GDM_FILES},
    )


def relogin_files(enabled: bool) -> LoginFiles:
    """Whether a user who logs out is logged in again."""
    gdm = f"[daemon]\nTimedLoginEnable={_boolean(enabled)}\nTimedLoginDelay={_RELOGIN_DELAY}\n"
    lightdm = f"{HEADER}[Seat:*]\nautologin-user-timeout={_RELOGIN_DELAY if enabled else 0}\n"
    return LoginFiles(
        {
            "etc/ltsp/relogin": f"{int(enabled)}\n",
            "etc/lightdm/lightdm.conf.d/90-ltsp-relogin.conf": lightdm,
            "etc/sddm.conf.d/90-ltsp-relogin.conf": f"{HEADER}[Autologin]\nRelogin={_boolean(enabled)}\n",
        },
        {path: {"60-relogin": gdm} for path in GDM_FILES},
    )


def display_manager_files(key: str, text: str) -> LoginFiles:
    """GDM3_CONF, LIGHTDM_CONF and SDDM_CONF: lines that follow those of LTSP."""
    match key:
        case "GDM3_CONF":
            return LoginFiles({}, {path: {"70-more": f"[daemon]\n{text}"} for path in GDM_FILES})
        case "LIGHTDM_CONF":
            return LoginFiles({"etc/lightdm/lightdm.conf.d/95-ltsp.conf": f"{HEADER}[Seat:*]\n{text}"})
        case _:
            return LoginFiles({"etc/sddm.conf.d/95-ltsp.conf": f"{HEADER}[Autologin]\n{text}"})


def parse_account(value: str) -> str:
    """The account of AUTOLOGIN; for `pc/guest`, a template that each client expands: guest01 on pc01.

    Raises ValueError.
    """
    old, slash, new = value.partition("/")
    if not slash:
        return quoting.check_user(value)
    if not _PLAIN.fullmatch(old) or not _ACCOUNT_PART.fullmatch(new):
        raise ValueError("is neither an account nor OLD/NEW, which derives an account from the hostname")
    return f"%{{HOSTNAME/{old}/{new}}}"


def _boolean(on: object) -> str:
    return "true" if on else "false"
