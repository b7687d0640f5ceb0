# The first things of all: the kernel's own file systems, the applets, the place of the parts.

# shellcheck disable=SC2034 # the other parts read these
prepare() {
    "$LTSP/bin/busybox" mkdir -p "$PROC" "$SYS" "$DEV" "$RUN" "$NEWROOT" /etc /tmp
    "$LTSP/bin/busybox" mount -t proc -o nosuid,nodev,noexec proc "$PROC" # applets find themselves through it
    "$LTSP/bin/busybox" --install -s "$LTSP/bin"
    mount -t sysfs -o nosuid,nodev,noexec sysfs "$SYS"
    mount -t devtmpfs -o nosuid,mode=755 devtmpfs "$DEV"
    mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$RUN" # becomes /run of the running system
    mkdir -p "$RUN/ltsp/root" "$WORK"
    read -r KERNEL <"$LTSP/version"
    if [ "$KERNEL" != "$(uname -r)" ]; then
        fatal "the kernel is $(uname -r), the modules here are for $KERNEL" 'publish again: ltsp kernel'
    fi
    chmod 755 "$LTSP"/sh/*.sh
    KERNELS_MODPROBE=$(cat "$PROC/sys/kernel/modprobe" 2>/dev/null)
    { echo "$LTSP/sh/modprobe.sh" >"$PROC/sys/kernel/modprobe"; } 2>/dev/null
}
