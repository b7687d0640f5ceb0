# Attaches the image that ltsp.root= names: IMAGE_FILE becomes a file, a block device, or a directory tree.

# Timeouts in seconds: for a server's answer, and for a transfer that has stalled.
ANSWER_SECONDS=30 STALL_SECONDS=60
# KiB of memory that an image fetched into memory must leave to the system.
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
    [ -n "$address" ] || fatal "cannot resolve the name of the NFS server: $server" 'use its address in the menu'
    # NFS 4 servers identify clients by this and the hostname, which is not set yet: if all clients had the same name,
    # each one that starts would end the sessions of the others. The kernel's client-identifier.rst
    { printf '%s' "$MAC" >"$SYS/module/nfs/parameters/nfs4_unique_id"; } 2>/dev/null
    # A version's file never changes, so cache its attributes. Not soft: a client waits for a server that restarts.
    common="ro,nolock,hard,nocto,noatime,actimeo=3600,proto=tcp,addr=$address"
    for version in 3,mountproto=tcp 4.2 4; do
        # noresvport admits clients behind NAT if the export is `insecure`, as most are.
        if error=$(timeout -s KILL "$ANSWER_SECONDS" mount -t nfs -o "vers=$version,$common" \
            "$address:$export" "$SOURCE" 2>&1); then
            IMAGE_FILE=$SOURCE${path:+/$path}
            [ -e "$IMAGE_FILE" ] || fatal "$path not found in $server:$export" "publish it again, or update the menu: ltsp ipxe"
            return
        fi
        say "NFS ${version%%,*}: $(printable "${error:-no answer in $ANSWER_SECONDS seconds}")"
    done
    fatal "cannot mount $export from $server by NFS" "check 'exportfs -v' there; run: ltsp nfs; open ports 111 and 2049"
}

# attach_nbd HOST[:PORT]/EXPORT
attach_nbd() {
    load_group nbd
    [ -e "$LTSP/bin/nbd-client" ] ||
        fatal 'nbd.img, which contains nbd-client, was not loaded' \
            'install nbd-client on the server or in the image, then: ltsp kernel; boot from the menu of ltsp ipxe'
    server=${1%%/*} export=${1#*/} port=10809
    case $server in
    *:*) port=${server##*:} server=${server%:*} ;;
    esac
    address=$(address_of "$server")
    [ -n "$address" ] || fatal "cannot resolve the name of the NBD server: $server" 'use its address in the menu'
    set -- "$LTSP/bin/nbd-client"
    for loader in "$LTSP"/lib/ld*; do
        if [ -e "$loader" ]; then set -- "$loader" --library-path "$LTSP/lib" "$@"; fi
    done
    # By ioctl, so that the program stays and reconnects when the server restarts; its mark keeps systemd from killing
    # it (systemd.io/ROOT_STORAGE_DAEMONS).
    error=$(timeout "$ANSWER_SECONDS" "$@" -nonetlink -persist -systemd-mark -readonly -block-size 4096 \
        -name "$export" "$address" "$port" "$DEV/nbd0" 2>&1) ||
        fatal "cannot attach $export from $server:$port by NBD: $error" 'check that the NBD server runs and exports that name'
    # The program goes to the background before it starts the device, and the kernel sets the size last
    # (nbd_start_device() in drivers/block/nbd.c). All reads fail until then.
    waited=0
    until [ "$(cat "$SYS/block/nbd0/size")" != 0 ]; do
        [ "$waited" -lt 100 ] || fatal "the NBD device for $export from $server:$port does not start" 'restart this computer'
        sleep 0.1 2>/dev/null || sleep 1
        waited=$((waited + 1))
    done
    IMAGE_FILE=$DEV/nbd0
}

attach_file() {
    [ -f "$1" ] ||
        fatal "$1 not found among the loaded initrds" 'load the image as an initrd under that name, or add memory'
    IMAGE_FILE=$1
    [ -z "$SHA256" ] || check_sum "$(sha256sum "$1")"
}

attach_http() {
    case $ROOT in
    https:*) say 'certificates are not checked here, only the checksum' ;;
    esac
    answer=$(timeout "$ANSWER_SECONDS" wget -S --spider "$ROOT" 2>&1) ||
        fatal "cannot fetch $ROOT: $(printf '%s' "$answer" | tail -n 1)" \
            "check that 'ltsp http' runs there, and that the version exists: ltsp ipxe"
    # Cut off three digits instead of dividing: shells may use 32 bits. Rounding up is fine.
    bytes=$(printf '%s\n' "$answer" | awk 'tolower($1) == "content-length:" { bytes = $2 } END { print bytes }' | tr -cd 0-9)
    size=$((${bytes%???} + 1))
    available=$(awk '$1 == "MemAvailable:" { print $2 }' "$PROC/meminfo")
    if [ $((size + SYSTEM_KIB)) -gt "$available" ]; then
        fatal "the image is $((size / 1024)) MiB, but this computer has only $((available / 1024)) MiB of free memory" \
            "boot by NFS or NBD, or add $(((size + SYSTEM_KIB - available) / 1024 + 1)) MiB of memory"
    fi
    mount -t tmpfs -o "nosuid,nodev,noexec,size=$((available - SYSTEM_KIB))k" tmpfs "$SOURCE"
    IMAGE_FILE=$SOURCE/image.img
    show_progress "$size" &
    progress=$!
    # To a file, whose checksum follows: busybox writes to a pipe in pieces of 1 KiB, which takes four times as long.
    wget -q -O "$IMAGE_FILE" "$ROOT" 2>"$WORK/wget.log"
    { kill "$progress" && wait "$progress"; } 2>/dev/null
    fetched=$(stat -c %s "$IMAGE_FILE")
    if [ "$fetched" != "${bytes:-$fetched}" ] || [ "$fetched" = 0 ]; then
        fatal "got only $fetched of $bytes bytes of $ROOT; $(tail -n 1 "$WORK/wget.log")" 'check the network and the server'
    fi
    [ -z "$SHA256" ] || check_sum "$(sha256sum "$IMAGE_FILE")"
}

# check_sum "SUM  NAME"
check_sum() {
    [ "${1%% *}" = "$SHA256" ] ||
        fatal "wrong checksum: the image has ${1%% *}, ltsp.sha256 is $SHA256" \
            'restart; if it happens again, the menu and the image have different versions: ltsp kernel'
}

# show_progress KIB: a line every five seconds. Not every wget notices a stalled server.
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
