# Keeps the network connection of the root up, whatever manages the network in the image.

keep_connection() {
    if [ -n "$INTERFACE" ]; then
        keep_from_networkd
        keep_from_ifupdown
        write_resolver
    fi
}

# networkd renews the lease and keeps the configuration: systemd.network(5), KeepConfiguration=. It is enabled even if
# the image uses another network manager, which then leaves the card alone: without renewal, the server may eventually
# give the address to another client. Since Linux 6.2, a card that is up may be renamed; NamePolicy keeps its name.
# If write_resolver has name servers, networkd uses none: those of the lease would be added to those of the site.
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

# interfaces(5); a `manual` card is neither brought up nor down.
keep_from_ifupdown() {
    if [ -d /etc/network ]; then
        printf 'auto lo\niface lo inet loopback\niface %s inet manual\n' "$INTERFACE" >"$WORK/interfaces"
        rm -f /etc/network/interfaces
        cp "$WORK/interfaces" /etc/network/interfaces
    fi
}

# systemd-resolved gets a drop-in; any other link to a file of the running system would stay dangling.
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
    # NetworkManager has no name servers for a connection that it did not make, and would overwrite resolv.conf.
    mkdir -p "$RUN/NetworkManager/conf.d"
    printf '[main]\ndns=none\n' >"$RUN/NetworkManager/conf.d/00-ltsp.conf"
}
