# Makes the file that ltsp.root= names readable here: IMAGE_FILE is a file, a block device, or a directory tree.

# Seconds that a server may take to answer, and to go on when it has stopped sending.
ANSWER_SECONDS=30 STALL_SECONDS=60
# KiB of memory that an image fetched into memory leaves to the system that runs from it.
SYSTEM_KIB=98304

attach_root() {
    SOURCE="$RUN/ltsp/root/source"
    mkdir -p "$SOURCE"
    say "root $ROOT"
    case $ROOT in
    nfs://*) attach_nfs "${ROOT#nfs://}" ;;
    nbd://*) attach_nbd "${ROOT#nbd://}" ;;
    http://* | https://*) attach_http ;;
    file:*) attach_file "${ROOT#file:}" ;;
    esac
}

# attach_nfs SERVER/EXPORT!PATH; without a path, the export itself is the root.
attach_nfs() {
    load_group nfs
    server=${1%%/*} export=/${1#*/} path=''
    case $export in
    *!*) path=${export#*!} export=${export%%!*} ;;
    esac
    server=${server:-${SERVER:-$NEXT_SERVER}}
    address=$(address_of "$server")
    [ -n "$address" ] || fatal "the name of the NFS server has no address: $server" 'write its address in the menu'
    # Servers of NFS 4 tell clients apart by this and the hostname, which none of them has yet: where all have the same
    # name, each that starts ends the sessions of the others. The kernel's client-identifier.rst
    { printf '%s' "$MAC" >"$SYS/module/nfs/parameters/nfs4_unique_id"; } 2>/dev/null
    # A version's file never changes, so its attributes are kept. Not soft: a client waits for a server that restarts.
    common="ro,nolock,hard,nocto,noatime,actimeo=3600,proto=tcp,addr=$address"
    for version in 3,mountproto=tcp 4.2 4; do
        # noresvport lets clients behind address translation in where the export is `insecure`; most are.
        if error=$(timeout -s KILL "$ANSWER_SECONDS" mount -t nfs -o "vers=$version,$common" \
            "$address:$export" "$SOURCE" 2>&1); then
            IMAGE_FILE=$SOURCE${path:+/$path}
            [ -e "$IMAGE_FILE" ] || fatal "no $path in $server:$export" "publish it again, or correct the menu: ltsp ipxe"
            return
        fi
        say "NFS ${version%%,*}: $(printable "${error:-no answer in $ANSWER_SECONDS seconds}")"
    done
    fatal "$server does not give $export by NFS" "look at 'exportfs -v' there; run: ltsp nfs; open ports 111 and 2049"
}

# attach_nbd HOST[:PORT]/EXPORT
attach_nbd() {
    load_group nbd
    [ -e "$LTSP/bin/nbd-client" ] ||
        fatal 'no nbd.img was loaded, which brings nbd-client' \
            'install nbd-client on the server or in the image, then: ltsp kernel; boot from the menu of ltsp ipxe'
    server=${1%%/*} export=${1#*/} port=10809
    case $server in
    *:*) port=${server##*:} server=${server%:*} ;;
    esac
    address=$(address_of "$server")
    [ -n "$address" ] || fatal "the name of the NBD server has no address: $server" 'write its address in the menu'
    set -- "$LTSP/bin/nbd-client"
    for loader in "$LTSP"/lib/ld*; do
        if [ -e "$loader" ]; then set -- "$loader" --library-path "$LTSP/lib" "$@"; fi
    done
    # By ioctl, so that the program stays and connects again when the server restarts; its mark keeps systemd from
    # killing it (systemd.io/ROOT_STORAGE_DAEMONS).
    error=$(timeout "$ANSWER_SECONDS" "$@" -nonetlink -persist -systemd-mark -readonly -block-size 4096 \
        -name "$export" "$address" "$port" "$DEV/nbd0" 2>&1) ||
        fatal "$server:$port does not give $export by NBD: $error" 'check that the NBD server runs and offers that name'
    # It goes to the background first and starts the device then, whose size shows last: nbd_start_device() in the
    # kernel's drivers/block/nbd.c. All reads fail until then.
    waited=0
    until [ "$(cat "$SYS/block/nbd0/size")" != 0 ]; do
        [ "$waited" -lt 100 ] || fatal "$export of $server:$port was attached by NBD and does not start" 'start again'
        sleep 0.1 2>/dev/null || sleep 1
        waited=$((waited + 1))
    done
    IMAGE_FILE=$DEV/nbd0
}

attach_file() {
    [ -f "$1" ] ||
        fatal "no $1 in what was loaded before the kernel" 'load the image as an initrd under that name, or give more memory'
    IMAGE_FILE=$1
    [ -z "$SHA256" ] || check_sum "$(sha256sum "$1")"
}

attach_http() {
    case $ROOT in
    https:*) say 'no certificates are checked here; the checksum is' ;;
    esac
    answer=$(timeout "$ANSWER_SECONDS" wget -S --spider "$ROOT" 2>&1) ||
        fatal "$ROOT cannot be fetched: $(printf '%s' "$answer" | tail -n 1)" \
            "check that 'ltsp http' runs there, and that the version was not deleted: ltsp ipxe"
    # Cutting three digits off, not dividing: shells may count in 32 bits. A little too many KiB is right.
    bytes=$(printf '%s\n' "$answer" | awk 'tolower($1) == "content-length:" { bytes = $2 } END { print bytes }' | tr -cd 0-9)
    size=$((${bytes%???} + 1))
    available=$(awk '$1 == "MemAvailable:" { print $2 }' "$PROC/meminfo")
    if [ $((size + SYSTEM_KIB)) -gt "$available" ]; then
        fatal "the image has $((size / 1024)) MiB, and of this computer's memory $((available / 1024)) MiB are free" \
            "boot it by NFS or NBD, or give it $(((size + SYSTEM_KIB - available) / 1024 + 1)) MiB more"
    fi
    mount -t tmpfs -o "nosuid,nodev,noexec,size=$((available - SYSTEM_KIB))k" tmpfs "$SOURCE"
    IMAGE_FILE=$SOURCE/image.img
    show_progress "$size" &
    progress=$!
    # To a file, which is summed afterwards: busybox writes 1 KiB at a time to a pipe, which takes four times as long.
    wget -q -O "$IMAGE_FILE" "$ROOT" 2>"$WORK/wget.log"
    { kill "$progress" && wait "$progress"; } 2>/dev/null
    fetched=$(stat -c %s "$IMAGE_FILE")
    if [ "$fetched" != "${bytes:-$fetched}" ] || [ "$fetched" = 0 ]; then
        fatal "only $fetched of $bytes bytes came from $ROOT; $(tail -n 1 "$WORK/wget.log")" 'look at the network and the server'
    fi
    [ -z "$SHA256" ] || check_sum "$(sha256sum "$IMAGE_FILE")"
}

# check_sum "SUM  NAME"
check_sum() {
    [ "${1%% *}" = "$SHA256" ] ||
        fatal "wrong checksum: the image has ${1%% *}, ltsp.sha256 is $SHA256" \
            'start again; if it comes back, the menu and the image are of different versions: ltsp kernel'
}

# show_progress KIB: a line each five seconds. Not every wget knows when a server has stopped sending.
show_progress() {
    before='' stalled=0
    while sleep 5; do
        blocks=$(stat -c %b "$IMAGE_FILE")
        say "fetched $((blocks / 2048)) of $(($1 / 1024)) MiB"
        if [ "$blocks" != "$before" ]; then stalled=0; fi
        before=$blocks stalled=$((stalled + 5))
        if [ "$stalled" -gt "$STALL_SECONDS" ]; then killall wget; fi
    done
}
