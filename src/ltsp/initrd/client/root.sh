# The steps of a client to its root: network, image, overlay, configuration. Each failure prints its cause and a remedy.
# Started by the client's own init, or by mount-root.sh inside the distribution's initrd.

for part in message start settings loaded modules interface network attach image overlay handover; do
    # shellcheck source=/dev/null
    . "$LTSP/sh/$part.sh"
done

# make_root move|bind: how the new root gets the kernel's file systems.
make_root() {
    trap 'fatal "the client init ended unexpectedly" "boot with ltsp.debug and read the lines above"' EXIT
    prepare
    stage start
    read_settings
    check_loaded
    load_group base
    if needs_network; then
        stage network
        start_network
    fi
    stage attach
    attach_root
    mount_image
    stage overlay
    mount_overlay
    stage site
    configure "$1"
    stage switch
    read_init
    give_back
    rm -r "$WORK"
    trap - EXIT
}
