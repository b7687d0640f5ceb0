# What initramfs-tools(7) has as /scripts/netboot, read by a shell of its own: dash or klibc's.

mountroot() {
    # shellcheck disable=SC2154 # rootmnt is initramfs-tools'
    /ltsp/bin/busybox sh /ltsp/sh/mount-root.sh "$rootmnt" </dev/console >/dev/console 2>&1 ||
        panic 'ltsp: the root is not mounted; the lines above say why'
}

# Those of /scripts/nfs and /scripts/local would look for other roots.
mount_top() { :; }
mount_premount() { :; }
mount_bottom() { :; }
