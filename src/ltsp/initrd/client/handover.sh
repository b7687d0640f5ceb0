# The last steps: configure the new root from inside it, then hand over to its init.

# configure move|bind
# shellcheck disable=SC2034,SC2153 # names of the other parts
configure() {
    write_facts
    for place in dev proc sys run; do mount -o "$1" "/$place" "$NEWROOT/$place"; done
    PROC=$NEWROOT/proc SYS=$NEWROOT/sys DEV=$NEWROOT/dev RUN=$NEWROOT/run WORK=$NEWROOT/run/ltsp/work
    mkdir "$RUN/ltsp/client"
    mount -o bind "$LTSP" "$RUN/ltsp/client"
    # In the chroot, links of the image resolve as they will later, never into this initrd; the shell is the static one
    # of the initrd. It sets PATH itself: a PATH before this command would be where chroot itself is looked up.
    INIT=$INIT chroot "$NEWROOT" /run/ltsp/client/bin/busybox sh /run/ltsp/client/sh/configure.sh
    case $? in
    0) ;;
    3) give_up ;; # the cause has been printed
    *) fatal "cannot apply the site's configuration" 'read the lines above; run on the server: ltsp initrd' ;;
    esac
    umount "$RUN/ltsp/client"
    rmdir "$RUN/ltsp/client"
}

# Facts for configure.sh and the running system. HOST is the hostname from DHCP.
write_facts() {
    dhcp=ipv4
    if has_address; then dhcp=no; fi
    printf '%s=%s\n' IMAGE "$(image_name)" ROOT "$ROOT" SERVER "$(server)" INTERFACE "${INTERFACE-}" MAC "${MAC-}" \
        IP "${IP-}" PREFIX "${PREFIX-}" GATEWAY "${GATEWAY-}" DNS "${DNS-}" DOMAIN "${DOMAIN-}" SEARCH "${SEARCH-}" \
        HOST "${HOST-}" DHCP "$dhcp" >"$RUN/ltsp/facts"
}

# The server: from the menu, else from the image's URL, else from DHCP.
server() (
    case ${SERVER:-$ROOT} in
    nfs:///* | file:*) ;;
    *://*) SERVER=${ROOT#*://} SERVER=${SERVER%%/*} SERVER=${SERVER%:*} ;;
    esac
    printf '%s' "${SERVER:-${NEXT_SERVER-}}"
)

# read_init sets FIRST, the program that becomes the first process.
read_init() {
    read -r FIRST <"$WORK/init" ||
        fatal "no init in the image${INIT:+ at $INIT}" 'publish a root file system, or correct init= in the menu'
}

hand_over() {
    # switch_root empties / only if it has a file /init, the mark of an initramfs. client.img has none, since it would
    # replace that of the distribution's initrd.
    : >/init
    set -- "$NEWROOT" "$FIRST"
    unset LTSP PROC SYS DEV RUN WORK NEWROOT LC_ALL # systemd would hand them to its services
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    exec /ltsp/bin/switch_root "$@"
}
