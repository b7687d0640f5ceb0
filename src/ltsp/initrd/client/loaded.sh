# Whether the kernel unpacked all that was loaded before it. It stops at the first archive that it cannot read, says so in
# a line that scrolls by, and starts a client without the rest.

# A whole ltsp.img ends with /ltsp/site/server, docs/ltsp.img.md. Boot loaders that have no `initrd=` do not say whether
# there was one; a menu made by hand may do without.
check_loaded() {
    if [ -e "$LTSP/site/server" ]; then return; fi
    lack='this client has no accounts and settings'
    reason=$(dmesg 2>/dev/null | sed -n -e 's/.*Initramfs unpacking failed: //p' \
        -e 's/.*rootfs image is not initramfs (\(.*\)); looks like an initrd.*/\1/p' | tail -n 1)
    if [ -n "$ADD_ON$reason" ]; then
        fatal "the kernel did not unpack all of ltsp.img, so $lack${reason:+ ($reason)}" \
            'type on the server: ltsp kernel, then: ltsp initrd; if it comes back, give this computer more memory'
    fi
    announce 3 "ltsp: warning: no ltsp.img was loaded, so $lack: type on the server: ltsp initrd, then: ltsp ipxe"
}
