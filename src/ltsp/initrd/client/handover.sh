# The last acts: the configuration is laid over the new root from inside it, then its own init takes over.

# configure move|bind
# shellcheck disable=SC2034,SC2153 # names of the other parts
configure() {
    write_facts
    for place in dev proc sys run; do mount -o "$1" "/$place" "$NEWROOT/$place"; done
    PROC=$NEWROOT/proc SYS=$NEWROOT/sys DEV=$NEWROOT/dev RUN=$NEWROOT/run WORK=$NEWROOT/run/ltsp/work
    mkdir "$RUN/ltsp/client"
    mount -o bind "$LTSP" "$RUN/ltsp/client"
    # Inside, links of the image lead to where they will lead, never to this initrd; the shell is our static one, which
    # sets its own places. A PATH before this command would be where chroot itself is looked for.
    INIT=$INIT chroot "$NEWROOT" /run/ltsp/client/bin/busybox sh /run/ltsp/client/sh/configure.sh
    case $? in
    0) ;;
    3) give_up ;; # the cause has been told
    *) fatal 'the configuration could not be laid over the image' 'read the lines above; make it again: ltsp initrd' ;;
    esac
    umount "$RUN/ltsp/client"
    rmdir "$RUN/ltsp/client"
}

# For configure.sh and the running system. HOST is the name that DHCP gave.
write_facts() {
    dhcp=ipv4
    if has_address; then dhcp=no; fi
    printf '%s=%s\n' IMAGE "$(image_name)" ROOT "$ROOT" SERVER "$(server)" INTERFACE "${INTERFACE-}" MAC "${MAC-}" \
        IP "${IP-}" PREFIX "${PREFIX-}" GATEWAY "${GATEWAY-}" DNS "${DNS-}" DOMAIN "${DOMAIN-}" SEARCH "${SEARCH-}" \
        HOST "${HOST-}" DHCP "$dhcp" >"$RUN/ltsp/facts"
}

# Who the menu says, else who the image comes from, else who DHCP says.
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
        fatal "the image has no init${INIT:+ at $INIT}" 'publish a root file system, or correct init= in the menu'
}

hand_over() {
    # A file /init is what tells switch_root that / is an initramfs that it may empty. There is none in client.img: laid
    # over the distribution's initrd, it would take the place of that one's.
    : >/init
    set -- "$NEWROOT" "$FIRST"
    unset LTSP PROC SYS DEV RUN WORK NEWROOT LC_ALL # systemd would hand them to its services
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    exec /ltsp/bin/switch_root "$@"
}
