# Mounts IMAGE_FILE: a file system, a partition of a disk, or the squashfs inside a live medium.

FILE_SYSTEMS='squashfs erofs ext4 xfs btrfs iso9660'

mount_image() {
    LOWER=$RUN/ltsp/root/image
    mkdir -p "$LOWER"
    if [ -d "$IMAGE_FILE" ]; then
        mount -o bind,ro "$IMAGE_FILE" "$LOWER"
    elif ! mount_file_system "$IMAGE_FILE" "$LOWER" && ! mount_partition; then
        fatal "cannot mount $IMAGE_FILE: $error" \
            'publish the image again; if it is intact, its kernel lacks the module for its file system'
    fi
    mount_live_system
    is_system "$LOWER" || fatal "$IMAGE_FILE is not a Linux root file system: neither sbin/init nor systemd" 'publish a root file system'
}

is_system() {
    for init in sbin/init usr/sbin/init usr/lib/systemd/systemd lib/systemd/systemd bin/init init; do
        # A link may point to a path that exists only once the image is the root.
        if [ -e "$1/$init" ] || [ -L "$1/$init" ]; then return; fi
    done
    return 1
}

# mount_file_system FILE DIRECTORY
mount_file_system() {
    device=$1
    if [ -f "$1" ]; then
        device=$(losetup -f)
        if ! error=$(losetup -r "$device" "$1" 2>&1); then return 1; fi
    fi
    error=''
    for type in $FILE_SYSTEMS; do
        case $type in
        ext4 | xfs) options=ro,norecovery ;; # a journal cannot be replayed on a read-only device
        *) options=ro ;;
        esac
        failure=$(mount -t "$type" -o "$options" "$device" "$2" 2>&1) && return
        case $failure in
        *'Invalid argument'* | *'No such device'*) ;;
        *) error="$error$failure " ;;
        esac
    done
    [ "$device" = "$1" ] || losetup -d "$device"
    error=${error:-found no $FILE_SYSTEMS}
    return 1
}

# Mounts the partition of a disk that contains a system.
mount_partition() {
    if [ -f "$IMAGE_FILE" ]; then
        disk=$(losetup -f)
        losetup -r -P "$disk" "$IMAGE_FILE" || return
    else
        disk=$IMAGE_FILE
    fi
    for partition in "$disk"p*; do
        if [ -b "$partition" ] && mount_file_system "$partition" "$LOWER"; then
            if is_system "$LOWER"; then return; fi
            umount "$LOWER"
        fi
    done
    return 1
}

# Live media of Ubuntu, Debian and Fedora contain their system as a file; Fedora's contains another disk image.
mount_live_system() {
    for inner in casper/filesystem.squashfs live/filesystem.squashfs LiveOS/squashfs.img LiveOS/rootfs.img; do
        if is_system "$LOWER"; then return; fi
        if [ -f "$LOWER/$inner" ]; then
            medium="$RUN/ltsp/root/medium${inner##*/}"
            mkdir -p "$medium"
            mount -o move "$LOWER" "$medium"
            mount_file_system "$medium/$inner" "$LOWER" ||
                fatal "cannot mount $inner of the live medium: $error" 'the kernel lacks the module for its file system'
        fi
    done
}
