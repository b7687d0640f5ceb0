# Settings from the kernel's command line. Values are compared and passed on in quotes, never executed; unknown keys are
# ignored. The last word of a key wins, as in the kernel.

# shellcheck disable=SC2034 # the other parts read these
read_settings() {
    ADD_ON='' ROOT='' SHA256='' IMAGE='' SERVER='' BOOTIF='' ADDRESSES='' OVERLAY='80%' DEBUG='' WAIT='' INIT=''
    kernel_root='' nfs_root=''
    read -r words <"$PROC/cmdline" || :
    set -f
    for word in $words; do
        value=${word#*=}
        case $word in
        ltsp.root=*) ROOT=$value ;;
        ltsp.sha256=*) SHA256=$value ;;
        ltsp.image=*) IMAGE=$value ;;
        ltsp.server=*) SERVER=$value ;;
        ltsp.overlay=*) OVERLAY=$value ;;
        ltsp.debug=*) DEBUG=$value ;;
        ltsp.debug) DEBUG=failure ;;
        ltsp.wait | ltsp.wait=*) WAIT=1 ;;
        BOOTIF=*) BOOTIF=$value ;;
        ip=*) ADDRESSES=$value ;;
        init=*) INIT=$value ;;
        initrd=*ltsp.img | initrd=*ltsp.img,*) ADD_ON=loaded ;;
        root=*) kernel_root=$value ;;
        nfsroot=*) nfs_root=$value ;;
        esac
    done
    set +f
    settle_root
    check_settings
}

# Menus for older clients have root=/dev/nfs nfsroot=SERVER:/srv/ltsp ltsp.image=images/NAME.img.
settle_root() {
    case $ROOT$kernel_root in
    /dev/nfs) ;;
    *) return ;;
    esac
    nfs_root=${nfs_root%%,*}
    case $nfs_root in
    *:/*) ROOT=nfs://${nfs_root%%:*}${nfs_root#*:} ;;
    /*) ROOT=nfs://$SERVER$nfs_root ;; # an empty server is the one that answered DHCP
    *) return ;;
    esac
    [ -z "$IMAGE" ] || ROOT=$ROOT!$IMAGE
}

check_settings() {
    [ -n "$ROOT" ] ||
        fatal 'no ltsp.root= on the kernel command line' 'update the menu: ltsp ipxe'
    case $ROOT in
    *[!A-Za-z0-9._~%+@:/\!?=\&-]*) fatal "ltsp.root has an invalid character: $ROOT" 'correct ltsp.root= in the menu' ;;
    nfs://*/* | nbd://?*/* | file:/* | http://?*/* | https://?*/*) ;;
    *) fatal "ltsp.root is not a supported URL: $ROOT" 'use nfs://, nbd://, http://, https:// or file:/' ;;
    esac
    case $SHA256 in
    *[!0-9a-f]*) fatal "ltsp.sha256 is not a checksum: $SHA256" 'give 64 lower case hexadecimal digits' ;;
    esac
    case ${#SHA256}:$ROOT in
    0:https:*) fatal 'https needs ltsp.sha256=' 'give the checksum: certificates are not checked here' ;;
    0:* | 64:*) ;;
    *) fatal "ltsp.sha256 has ${#SHA256} digits, not 64" 'give all 64 digits' ;;
    esac
    case ${OVERLAY%[%kKmMgG]} in
    '' | *[!0-9]*) fatal "ltsp.overlay is not a size: $OVERLAY" 'give a percentage or a size, such as 80% or 512M' ;;
    esac
    case $SERVER in
    *[!A-Za-z0-9.:-]*) fatal "ltsp.server is not an address: $SERVER" 'correct ltsp.server= in the menu' ;;
    esac
}

# The name of the image, which selects its part of the site's configuration.
image_name() (
    case $IMAGE in
    images/.versions/*) name=${IMAGE#images/.versions/} name=${name%%/*} ;;
    *) name=${IMAGE##*/} name=${name%.img} ;;
    esac
    case $name in
    [A-Za-z0-9]*) ;;
    *) exit 0 ;;
    esac
    case $name in
    *[!A-Za-z0-9._+-]*) ;;
    *) printf '%s' "$name" ;;
    esac
)
