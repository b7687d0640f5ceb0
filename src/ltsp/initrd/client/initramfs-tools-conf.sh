# A file of conf.d of initramfs-tools, whose init reads them in the order of their names. In menus of other kinds, the
# initrd goes on being the distribution's.
case $(cat /proc/cmdline) in
*ltsp.image=* | *ltsp.root=*)
    # shellcheck disable=SC2034 # it is initramfs-tools'
    BOOT=netboot
    ;;
esac
