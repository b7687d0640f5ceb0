#!/bin/sh
# Make this checkout ready for its tests, demo and benchmarks: Debian packages, then a virtual environment in .venv.
#
# Run by make before anything else. Existing parts are left alone; a second run takes well under a second.
# As root with apt, missing packages are installed; otherwise they are listed, and nothing is changed.
set -eu
cd "$(dirname "$0")/.."

# Package, and the proof that it is installed: a program, however it was installed; a Python module; or, if no program
# of it is run by name, a dash for the state of the package itself. File paths of packages differ between releases.
# One a line. distro-info-data tells mmdebstrap which suites are Ubuntu's.
needed() {
    cat <<'LIST'
python3-venv         python:ensurepip
squashfs-tools       mksquashfs
mmdebstrap           mmdebstrap
distro-info-data     -
shellcheck           shellcheck
strace               strace
acl                  setfacl
attr                 setfattr
binutils             readelf
libcap2-bin          setcap
e2fsprogs            mkfs.ext4
util-linux           losetup
man-db               man
groff                groff
mandoc               mandoc
bash-completion      -
zsh                  zsh
busybox-static       -
debian-archive-keyring -
distro-info-data     -
cpio                 cpio
dash                 dash
kmod                 modinfo
iproute2             ip
dnsmasq-base         dnsmasq
ipxe                 -
ipxe-qemu            -
qemu-system-x86      qemu-system-x86_64
ovmf                 -
nbdkit               nbdkit
nbd-client           nbd-client
nfs-ganesha          ganesha.nfsd
nfs-ganesha-vfs      -
rpcbind              rpcbind
systemd              systemd-analyze
xorriso              xorriso
skopeo               skopeo
umoci                umoci
libarchive-tools     bsdtar
bzip2                bzip2
xz-utils             xz
zstd                 zstd
qemu-utils           qemu-img
fdisk                sfdisk
lvm2                 lvm
cryptsetup-bin       cryptsetup
mdadm                mdadm
xfsprogs             mkfs.xfs
btrfs-progs          mkfs.btrfs
dosfstools           mkfs.vfat
mtools               mcopy
erofs-utils          mkfs.erofs
LIST
}

LOG=build/apt.log

say() { printf '%s\n' "setup: $*"; }

fail() {
    say "$*" >&2
    exit 1
}

# has PACKAGE PROOF
has() {
    case $2 in
        -) [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
        python:*) python3 -c "import ${2#python:}" 2>/dev/null ;;
        *) command -v "$2" >/dev/null || [ -x "/usr/sbin/$2" ] || [ -x "/sbin/$2" ] ;;
    esac
}

missing_packages() {
    needed | while read -r package proof; do
        has "$package" "$proof" || printf '%s\n' "$package"
    done
}

# apt without questions.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" >>"$LOG" 2>&1
}

# Servers that tests start themselves must not run on this machine: neither now nor at boot.
SERVERS='nfs-ganesha rpcbind'

keep_servers_down() {
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && return 0
    # shellcheck disable=SC2064  # the path as it is now
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

disable_servers() {
    command -v systemctl >/dev/null || return 0
    for server in $SERVERS; do
        case " $1 " in
            *" $server "*) systemctl disable --quiet "$server.service" 2>/dev/null || true ;;
        esac
    done
    case " $1 " in
        *" rpcbind "*) systemctl disable --quiet rpcbind.socket 2>/dev/null || true ;;
    esac
}

# Try again after a failure: a mirror may be updating, or another apt may hold a lock. Lists that cannot be downloaded may
# be those of a vendor, and the packages may be in apt's cache: what counts is whether they can be installed.
install_packages() {
    keep_servers_down
    mkdir -p "$(dirname "$LOG")"
    : >"$LOG"
    for _ in 1 2; do
        apt update || true
        # shellcheck disable=SC2086  # a list of package names
        if apt install --no-install-recommends $1; then
            disable_servers "$1"
            return 0
        fi
    done
    fail "apt-get cannot install the packages: $(grep -m 1 '^[EW]: ' "$LOG" || tail -n 1 "$LOG"); see $LOG"
}

require_python() {
    if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        fail "python3 is older than 3.11 or missing; install Python 3.11 or later"
    fi
}

require_packages() {
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "packages are missing; install them as root: apt-get install $missing"
    fi
    # shellcheck disable=SC2086  # a list of package names
    say "installing $(printf '%s\n' $missing | wc -l) packages and their dependencies; the output of apt-get goes to $LOG"
    install_packages "$missing"
    missing=$(missing_packages | tr '\n' ' ')
    if [ -n "$missing" ]; then
        fail "still missing after apt-get install: $missing(see $LOG)"
    fi
}

# The inputs of the environment, which is created again when any of them changes.
fingerprint() {
    { python3 -c 'import sys; print(sys.version, sys.base_prefix)'; pwd; cat requirements/dev.txt; } | sha256sum
}

require_environment() {
    stamp=.venv/setup-stamp
    project=.venv/project-stamp
    wanted=$(fingerprint)
    if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
        say "creating the virtual environment .venv"
        [ ! -e "$stamp" ] || rm -rf .venv
        python3 -m venv .venv
        .venv/bin/pip install --quiet --disable-pip-version-check --retries 5 \
            --require-hashes --requirement requirements/dev.txt ||
            fail "pip cannot install requirements/dev.txt; see above"
        rm -f "$project"
        printf '%s\n' "$wanted" >"$stamp"
    fi
    if [ ! -x .venv/bin/ltsp ] || ! sha256sum --status --check "$project" 2>/dev/null; then
        say "installing ltsp into .venv, in place"
        .venv/bin/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
        sha256sum pyproject.toml >"$project"
    fi
}

require_python
require_packages
require_environment
