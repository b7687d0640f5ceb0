# A cmdline hook of dracut, dracut.modules(7): the root is none that dracut has to wait for, or mount.
case $(cat /proc/cmdline) in
*ltsp.image=* | *ltsp.root=*)
    # shellcheck disable=SC2034 # they are dracut's
    root=ltsp rootok=1 netroot=''
    ;;
esac
