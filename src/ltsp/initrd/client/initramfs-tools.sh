# The script /scripts/netboot of initramfs-tools(7), read by its own shell: dash or klibc's.

mountroot() {
    # shellcheck disable=SC2154 # initramfs-tools sets rootmnt
    /ltsp/bin/busybox sh /ltsp/sh/mount-root.sh "$rootmnt" </dev/console >/dev/console 2>&1 ||
        panic 'ltsp: the root is not mounted; the lines above say why'
}

# The functions of /scripts/nfs and /scripts/local would look for other roots.
mount_top() { :; }
mount_premount() { :; }
mount_bottom() { :; }
