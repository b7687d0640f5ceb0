#!/ltsp/bin/busybox sh
# The script of udhcpc: configures the interface and writes the lease for network.sh.
# shellcheck disable=SC2154 # udhcpc sets these in the environment

if [ "$1" != bound ] && [ "$1" != renew ]; then
    if [ "$1" = nak ]; then printf 'ltsp: the DHCP server refused the request: %s\n' "${message-}"; fi
    exit 0
fi

# mask is the prefix length, if busybox sets it; subnet is the dotted form.
prefix() (
    if [ -n "${mask-}" ]; then
        printf '%s' "$mask"
        exit
    fi
    length=0 IFS=.
    for octet in ${subnet:-255.255.255.0}; do
        while [ "$octet" -gt 0 ]; do
            length=$((length + 1)) octet=$((octet * 2 % 256))
        done
    done
    printf '%s' "$length"
)

ip address flush dev "$interface"
ip address add "$ip/$(prefix)" ${broadcast:+broadcast "$broadcast"} dev "$interface"
if [ -n "${mtu-}" ]; then ip link set dev "$interface" mtu "$mtu"; fi
if [ -n "${staticroutes-}" ]; then
    # RFC 3442: the routes of option 121 replace the one of option 3.
    # shellcheck disable=SC2086 # pairs of target and gateway
    set -- $staticroutes
    while [ $# -ge 2 ]; do
        case $2 in
        0.0.0.0) ip route add "$1" dev "$interface" ;;
        *) ip route add "$1" via "$2" dev "$interface" onlink ;;
        esac
        shift 2
    done
else
    for gateway in ${router-}; do
        # A gateway may be outside the prefix, as with /32 addresses.
        ip route add default via "$gateway" dev "$interface" onlink ||
            ip route add default via "$gateway" dev "$interface" # busybox before 1.34
        break
    done
fi
{
    printf 'IP=%s\nPREFIX=%s\nDNS=%s\nDOMAIN=%s\n' "$ip" "$(prefix)" "${dns-}" "${domain-}"
    printf 'SEARCH=%s\nHOST=%s\nGATEWAY=%s\n' "${search-}" "${hostname-}" "${router-}"
    printf 'NEXT_SERVER=%s\n' "${siaddr:-${serverid-}}"
} >"$WORK/lease"
