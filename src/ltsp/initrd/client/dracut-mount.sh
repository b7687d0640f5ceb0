# A mount hook of dracut, dracut.modules(7).
case $(cat /proc/cmdline) in
*ltsp.image=* | *ltsp.root=*)
    /ltsp/bin/busybox sh /ltsp/sh/mount-root.sh "$NEWROOT" </dev/console >/dev/console 2>&1 ||
        die 'ltsp: the root is not mounted; the lines above say why'
    ;;
esac
