# Mounts the root of the running system: the image below, the client's memory above.

mount_overlay() {
    upper=$RUN/ltsp/root/upper
    mkdir -p "$upper"
    mount -t tmpfs -o "mode=755,size=$OVERLAY" tmpfs "$upper" ||
        fatal "invalid size ltsp.overlay=$OVERLAY" 'give a percentage or a size, such as 80% or 512M'
    mkdir "$upper/upper" "$upper/work"
    # The root directory itself comes from upper: a chroot may be a directory that only its owner may enter.
    chmod 755 "$upper/upper"
    error=$(mount -t overlay -o "lowerdir=$LOWER,upperdir=$upper/upper,workdir=$upper/work" ltsp "$NEWROOT" 2>&1) ||
        fatal "cannot mount the overlay: $error" 'use a kernel with overlayfs, then: ltsp kernel'
    for place in dev proc sys run; do
        [ -d "$NEWROOT/$place" ] || mkdir "$NEWROOT/$place" ||
            fatal "/$place of the image is not a directory" 'publish a root file system'
    done
}
