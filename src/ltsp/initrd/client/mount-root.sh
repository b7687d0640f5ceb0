#!/ltsp/bin/busybox sh
# mount-root.sh DIRECTORY: started by the distribution's own initrd instead of its own mount (CLIENT_INITRD=distro).
# Mounts the root at DIRECTORY; the caller switches to it.
set -u
# The longer PATH is for udevadm of the initrd.
export LTSP=/ltsp PROC=/proc SYS=/sys DEV=/dev RUN=/run WORK=/run/ltsp/work NEWROOT="$1" LC_ALL=C
export PATH=/ltsp/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 022
# shellcheck source=/dev/null
. "$LTSP/sh/root.sh"

make_root bind
for place in dev proc sys run; do umount -l "$NEWROOT/$place"; done
