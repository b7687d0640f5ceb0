# Gets an address for the client: by DHCP, or from ip=. lease.sh writes the lease as a file of KEY=value lines, which is
# parsed, not executed, since it comes from the network.

# Requests are sent every DHCP_PAUSE seconds, DHCP_TRIES times.
DHCP_TRIES=10 DHCP_PAUSE=3

needs_network() {
    case $ROOT in
    file:*) [ -n "$BOOTIF$ADDRESSES" ] ;;
    esac
}

start_network() {
    ip link set dev lo up
    find_interface
    # shellcheck disable=SC2034 # for the facts and the templates
    MAC=$(cat "$SYS/class/net/$INTERFACE/address")
    say "network card $INTERFACE, $MAC"
    if has_address; then static_lease "$ADDRESSES"; else ask_for_lease; fi
    read_lease
    [ -n "$IP" ] || fatal "$INTERFACE got no address" 'check the settings of the DHCP server'
    say "address $IP/$PREFIX"
    for address in $DNS; do printf 'nameserver %s\n' "$address"; done >/etc/resolv.conf
}

# Whether ip= contains an address.
has_address() {
    case $ADDRESSES in
    [0-9]*:*) return 0 ;;
    esac
    return 1
}

ask_for_lease() {
    udhcpc -f -q -n -i "$INTERFACE" -s "$LTSP/sh/lease.sh" -t "$DHCP_TRIES" -T "$DHCP_PAUSE" -O search -O staticroutes -O mtu \
        2>"$WORK/dhcp.log" || {
        tail -n 3 "$WORK/dhcp.log"
        fatal "no DHCP answer on $INTERFACE ($MAC) after $((DHCP_TRIES * DHCP_PAUSE)) seconds" \
            'check the DHCP server and its range, and set the switch port to portfast'
    }
}

# static_lease CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS:DNS, as in the kernel's nfsroot.rst.
static_lease() {
    set -f
    old_ifs=$IFS IFS=:
    # shellcheck disable=SC2086 # split at the colons
    set -- $1
    IFS=$old_ifs
    set +f
    interface=$INTERFACE ip=$1 siaddr=${2-} router=${3-} mask='' subnet=${4-} hostname=${5-} dns="${8-} ${9-}" \
        sh "$LTSP/sh/lease.sh" bound
}

# shellcheck disable=SC2034 # the other parts read these
read_lease() {
    IP='' PREFIX='' DNS='' DOMAIN='' SEARCH='' HOST='' NEXT_SERVER='' GATEWAY=''
    while IFS='=' read -r key value; do
        case $value in
        *[!A-Za-z0-9.:_/\ -]*) continue ;; # neither an address nor a name
        esac
        case $key in
        IP) IP=$value ;;
        PREFIX) PREFIX=$value ;;
        GATEWAY) GATEWAY=$value ;;
        DNS) DNS=$value ;;
        DOMAIN) DOMAIN=$value ;;
        SEARCH) SEARCH=$value ;;
        HOST) HOST=$value ;;
        NEXT_SERVER) NEXT_SERVER=$value ;;
        esac
    done <"$WORK/lease"
}

# address_of HOST prints its first IPv4 address: the kernel's NFS and NBD do not accept names.
address_of() {
    case $1 in
    *[!0-9.]*) nslookup -type=a "$1" 2>/dev/null | awk '/^Name:/ { answer = 1 } answer && /^Address/ { print $NF; exit }' ;;
    *) printf '%s' "$1" ;;
    esac
}
