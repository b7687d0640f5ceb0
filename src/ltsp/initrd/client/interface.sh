# The network card to boot by: the one that the firmware named (BOOTIF), else the first that has a link.

# Seconds that a card may take to be found, and a link to come up (switches with spanning tree need up to 30).
CARD_SECONDS=15 LINK_SECONDS=30

# BOOTIF is the hardware type, then the address, as PXELINUX writes it: 01-aa-bb-cc-dd-ee-ff.
booted_address() (
    address=${BOOTIF#??-}
    if [ ${#address} != 17 ]; then exit 0; fi
    printf '%s' "$address" | tr 'A-F-' 'a-f:'
)

# Ethernet cards, in the order that the kernel found them. Devices that are made by software have no device link.
cards() {
    for card in "$SYS"/class/net/*; do
        if [ -e "$card/device" ] && [ "$(cat "$card/type")" = 1 ]; then
            printf '%s %s\n' "$(cat "$card/ifindex")" "${card##*/}"
        fi
    done | sort -n | cut -d ' ' -f 2
}

card_with_address() {
    for card in $(cards); do
        if [ "$(cat "$SYS/class/net/$card/address")" = "$1" ]; then
            printf '%s' "$card"
            return
        fi
    done
}

# While a card is down, reading its carrier is an error.
has_link() {
    [ "$(cat "$SYS/class/net/$1/carrier" 2>/dev/null)" = 1 ]
}

card_with_link() {
    for card in "$@"; do
        if has_link "$card"; then
            printf '%s' "$card"
            return
        fi
    done
}

# find_interface sets INTERFACE.
find_interface() {
    wanted=$(booted_address)
    wait_for_cards
    booted=''
    [ -z "$wanted" ] || booted=$(card_with_address "$wanted")
    if [ -n "$wanted" ] && [ -z "$booted" ]; then
        warn "no card has the address that the firmware booted by, $wanted; trying the others"
    fi
    # shellcheck disable=SC2046 # names of interfaces have no blanks
    set -- $(cards)
    for card; do ip link set dev "$card" up; done
    waited=0
    while :; do
        INTERFACE=$(card_with_link ${booted:+"$booted"})
        if [ -n "$INTERFACE" ]; then return; fi
        # Another card serves when the booted one stays dead; without BOOTIF, any card does at once.
        if [ -z "$booted" ] || [ "$waited" -ge "$LINK_SECONDS" ]; then
            INTERFACE=$(card_with_link "$@")
            if [ -n "$INTERFACE" ]; then
                [ -z "$booted" ] || warn "$booted, which the firmware booted by, has no link; using $INTERFACE"
                return
            fi
        fi
        [ "$waited" -lt "$LINK_SECONDS" ] ||
            fatal "no link on $(described "$@") in $LINK_SECONDS seconds" 'check the cable and the port of the switch'
        [ $((waited % 5)) != 0 ] || say "waiting for a link on $(described "$@")"
        sleep 1
        waited=$((waited + 1))
    done
}

# USB cards appear while their bus is searched.
wait_for_cards() {
    waited=0
    while :; do
        load_network_drivers
        wait_for_names
        if [ -n "$wanted" ]; then
            if [ -n "$(card_with_address "$wanted")" ]; then return; fi
        elif [ -n "$(cards)" ]; then
            return
        fi
        if [ "$waited" -ge "$CARD_SECONDS" ]; then break; fi
        [ "$waited" != 3 ] || say 'waiting for a network card'
        sleep 1
        waited=$((waited + 1))
    done
    if [ -z "$(cards)" ]; then
        fatal "no network card with a driver$(undriven)" \
            'install its driver in the image (kernel modules, firmware), then: ltsp kernel'
    fi
}

# The udev of a distribution's initrd renames cards, and cannot any more once they are up.
wait_for_names() {
    if command -v udevadm >/dev/null; then udevadm settle --timeout=10; fi
}

# Network controllers (PCI class 02) that no driver took, by vendor and device.
undriven() {
    for device in "$SYS"/bus/pci/devices/*; do
        case $(cat "$device/class" 2>/dev/null) in
        0x02*) [ -e "$device/driver" ] || printf '; PCI %s:%s has none' "$(cat "$device/vendor")" "$(cat "$device/device")" ;;
        esac
    done
}

described() {
    separator=''
    for card; do
        printf '%s%s (%s)' "$separator" "$card" "$(cat "$SYS/class/net/$card/address")"
        separator=', '
    done
}
