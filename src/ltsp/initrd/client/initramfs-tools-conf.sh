# A file in conf.d of initramfs-tools, whose init reads them in the order of their names. Without ltsp.* parameters, the
# initrd works as the distribution's own.
case $(cat /proc/cmdline) in
*ltsp.image=* | *ltsp.root=*)
    # shellcheck disable=SC2034 # initramfs-tools reads it
    BOOT=netboot
    ;;
esac
