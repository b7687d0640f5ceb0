# The last acts: the configuration is laid over the new root from inside it, then its own init takes over.

# shellcheck disable=SC2034,SC2153 # names of the other parts
configure() {
    write_facts
    for place in dev proc sys run; do mount -o move "/$place" "$NEWROOT/$place"; done
    DEV=$NEWROOT/dev RUN=$NEWROOT/run
    mkdir "$RUN/ltsp/client"
    mount -o bind "$LTSP" "$RUN/ltsp/client"
    # Inside, links of the image lead to where they will lead, never to this initrd; the shell is our static one.
    INIT=$INIT DEV=/dev RUN=/run LTSP=/run/ltsp/client PATH=/run/ltsp/client/bin \
        chroot "$NEWROOT" /run/ltsp/client/bin/busybox sh /run/ltsp/client/sh/configure.sh ||
        fatal 'the configuration could not be laid over the image' 'read the lines above; make it again: ltsp initrd'
    umount "$RUN/ltsp/client"
    rmdir "$RUN/ltsp/client"
}

# For the running system; configure.sh reads them too.
write_facts() {
    printf '%s=%s\n' IMAGE "$(image_name)" ROOT "$ROOT" SERVER "$SERVER" INTERFACE "${INTERFACE-}" MAC "${MAC-}" \
        IP "${IP-}" PREFIX "${PREFIX-}" GATEWAY "${GATEWAY-}" DNS "${DNS-}" DOMAIN "${DOMAIN-}" SEARCH "${SEARCH-}" \
        HOST "${HOST-}" KERNELS_MODPROBE "$KERNELS_MODPROBE" >"$RUN/ltsp/facts"
}

hand_over() {
    read -r init <"$RUN/ltsp/init" ||
        fatal "the image has no init${INIT:+ at $INIT}" 'publish a root file system, or correct init= in the menu'
    printf '%s' "$KERNELS_MODPROBE" >"$NEWROOT/proc/sys/kernel/modprobe"
    find "$RUN/ltsp" -xdev -type f ! -name facts -exec rm {} +
    # A file /init is what tells switch_root that / is an initramfs that it may empty.
    [ -f /init ] || : >/init
    trap - EXIT
    set -- "$NEWROOT" "$init"
    unset LTSP PROC SYS DEV RUN NEWROOT LC_ALL # systemd would hand them to its services
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    exec /ltsp/bin/switch_root "$@"
}
