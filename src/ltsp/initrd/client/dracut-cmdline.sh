# A cmdline hook of dracut, dracut.modules(7): dracut shall neither wait for the root nor mount it.
case $(cat /proc/cmdline) in
*ltsp.image=* | *ltsp.root=*)
    # shellcheck disable=SC2034 # dracut reads these
    root=ltsp rootok=1 netroot=''
    ;;
esac
