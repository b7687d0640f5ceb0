# The connection that carries the root: whatever manages the network in the image has to leave it up.

keep_connection() {
    if [ -n "$INTERFACE" ]; then
        keep_from_networkd
        keep_from_ifupdown
        write_resolver
    fi
}

# networkd renews the lease and keeps what it finds: systemd.network(5), KeepConfiguration=. It is started even where
# the image leaves networks to others, which take the card for one that somebody else manages: without renewal, the
# server may give the address to another one day. A card that is up may be renamed since Linux 6.2; its name stays.
# It is told no name servers where write_resolver has some: those of a lease would come beside those of the site.
keep_from_networkd() {
    use_dns=yes
    if [ -n "$DNS" ]; then use_dns=no; fi
    if [ -n "$(unit_file systemd-networkd.service)" ]; then enable_unit systemd-networkd.service; fi
    mkdir -p "$RUN/systemd/network"
    printf '[Match]\nMACAddress=%s\n[Link]\nNamePolicy=keep\n' "$MAC" >"$RUN/systemd/network/00-ltsp.link"
    {
        printf '[Match]\nMACAddress=%s\nType=ether\n[Network]\nDHCP=%s\nKeepConfiguration=yes\n' "$MAC" "${DHCP:-ipv4}"
        printf '[DHCPv4]\nClientIdentifier=mac\nUseDNS=%s\n[IPv6AcceptRA]\nUseDNS=%s\n' "$use_dns" "$use_dns"
    } >"$RUN/systemd/network/00-ltsp.network"
}

# interfaces(5); a card that is configured by hand is neither taken up nor down.
keep_from_ifupdown() {
    if [ -d /etc/network ]; then
        printf 'auto lo\niface lo inet loopback\niface %s inet manual\n' "$INTERFACE" >"$WORK/interfaces"
        rm -f /etc/network/interfaces
        cp "$WORK/interfaces" /etc/network/interfaces
    fi
}

# systemd-resolved is told; any other link to a file of the running system would stay dangling.
write_resolver() {
    if [ -z "$DNS" ]; then return; fi
    case $(readlink /etc/resolv.conf) in
    *systemd/resolve/*)
        if [ -e /usr/lib/systemd/systemd-resolved ] || [ -e /lib/systemd/systemd-resolved ]; then
            mkdir -p "$RUN/systemd/resolved.conf.d"
            printf '[Resolve]\nDNS=%s\nDomains=%s\n' "$DNS" "${SEARCH:-$DOMAIN}" >"$RUN/systemd/resolved.conf.d/ltsp.conf"
            return
        fi
        ;;
    esac
    rm -f /etc/resolv.conf
    {
        for address in $DNS; do printf 'nameserver %s\n' "$address"; done
        [ -z "$SEARCH$DOMAIN" ] || printf 'search %s\n' "${SEARCH:-$DOMAIN}"
    } >/etc/resolv.conf
    # NetworkManager calls a connection that it did not make external, knows no name servers for it, and would say so.
    mkdir -p "$RUN/NetworkManager/conf.d"
    printf '[main]\ndns=none\n' >"$RUN/NetworkManager/conf.d/00-ltsp.conf"
}
