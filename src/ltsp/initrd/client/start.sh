# The first steps: the kernel's file systems, busybox's applets, working directories.

# shellcheck disable=SC2034 # the other parts read these
prepare() {
    "$LTSP/bin/busybox" mkdir -p "$PROC" "$SYS" "$DEV" "$RUN" "$NEWROOT" /etc /tmp
    # Applets find themselves through /proc. In the distribution's initrd, all four are already mounted.
    [ -e "$PROC/mounts" ] || "$LTSP/bin/busybox" mount -t proc -o nosuid,nodev,noexec proc "$PROC"
    # Hard links: symbolic ones would dangle inside the new root, and not every shell runs applets without files.
    "$LTSP/bin/busybox" --install "$LTSP/bin"
    is_mounted "$SYS" || mount -t sysfs -o nosuid,nodev,noexec sysfs "$SYS"
    is_mounted "$DEV" || mount -t devtmpfs -o nosuid,mode=755 devtmpfs "$DEV"
    is_mounted "$RUN" || mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$RUN" # becomes /run of the running system
    mkdir -p "$RUN/ltsp/root" "$WORK"
    read -r KERNEL <"$LTSP/version"
    if [ "$KERNEL" != "$(uname -r)" ]; then
        fatal "the kernel is $(uname -r), but client.img is for $KERNEL" 'publish again: ltsp kernel'
    fi
    chmod 755 "$LTSP"/sh/*.sh
    borrow
}

is_mounted() {
    grep -q -F " $1 " "$PROC/mounts"
}

# Until give_back, the kernel's requests to user space are served from here: modules by modprobe.sh, and firmware, which
# is not in /lib/firmware, since a directory /lib would replace the distribution's link.
borrow() {
    KERNELS_MODPROBE=$(cat "$PROC/sys/kernel/modprobe" 2>/dev/null)
    { echo "$LTSP/sh/modprobe.sh" >"$PROC/sys/kernel/modprobe"; } 2>/dev/null
    KERNELS_FIRMWARE=$(cat "$SYS/module/firmware_class/parameters/path" 2>/dev/null)
    { printf '%s/firmware\0' "$LTSP" >"$SYS/module/firmware_class/parameters/path"; } 2>/dev/null
}

# Strings end with a NUL: the kernel would treat a newline as part of the path, and an empty string as no write.
give_back() {
    { printf '%s' "$KERNELS_MODPROBE" >"$PROC/sys/kernel/modprobe"; } 2>/dev/null
    { printf '%s\0' "$KERNELS_FIRMWARE" >"$SYS/module/firmware_class/parameters/path"; } 2>/dev/null
}
