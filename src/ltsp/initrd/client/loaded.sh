# Checks that the kernel unpacked all initrds. It stops at the first archive that it cannot read, logs a line, and starts
# the client without the rest.

# A complete ltsp.img ends with /ltsp/site/server, docs/ltsp.img.md. Without `initrd=` on the command line, it is unknown
# whether one was loaded; a menu written by hand may do without.
check_loaded() {
    if [ -e "$LTSP/site/server" ]; then return; fi
    lack='this client has no accounts or settings'
    reason=$(dmesg 2>/dev/null | sed -n -e 's/.*Initramfs unpacking failed: //p' \
        -e 's/.*rootfs image is not initramfs (\(.*\)); looks like an initrd.*/\1/p' | tail -n 1)
    if [ -n "$ADD_ON$reason" ]; then
        fatal "the kernel did not unpack all of ltsp.img, so $lack${reason:+ ($reason)}" \
            'run on the server: ltsp kernel, then: ltsp initrd; if it happens again, add memory to this computer'
    fi
    announce 3 "ltsp: warning: no ltsp.img was loaded, so $lack: run on the server: ltsp initrd, then: ltsp ipxe"
}
