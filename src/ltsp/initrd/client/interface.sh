# Finds the network card to boot from: the one that the firmware used (BOOTIF), else the first one with a link.

# Seconds for a card to appear, and for a link to come up (switches with spanning tree need up to 30).
CARD_SECONDS=15 LINK_SECONDS=30

# BOOTIF is the hardware type and the address, as in PXELINUX: 01-aa-bb-cc-dd-ee-ff.
booted_address() (
    address=${BOOTIF#??-}
    if [ ${#address} != 17 ]; then exit 0; fi
    printf '%s' "$address" | tr 'A-F-' 'a-f:'
)

# Ethernet cards, in the order in which the kernel found them. Virtual interfaces have no device link.
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

# Reading the carrier of a card that is down is an error.
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
        warn "no card has the address that the firmware booted from, $wanted; trying the others"
    fi
    # shellcheck disable=SC2046 # names of interfaces have no blanks
    set -- $(cards)
    for card; do ip link set dev "$card" up; done
    waited=0
    while :; do
        INTERFACE=$(card_with_link ${booted:+"$booted"})
        if [ -n "$INTERFACE" ]; then return; fi
        # Use another card if the booted one gets no link; without BOOTIF, use any card at once.
        if [ -z "$booted" ] || [ "$waited" -ge "$LINK_SECONDS" ]; then
            INTERFACE=$(card_with_link "$@")
            if [ -n "$INTERFACE" ]; then
                [ -z "$booted" ] || warn "$booted, which the firmware booted from, has no link; using $INTERFACE"
                return
            fi
        fi
        [ "$waited" -lt "$LINK_SECONDS" ] ||
            fatal "no link on $(described "$@") after $LINK_SECONDS seconds" 'check the cable and the switch port'
        [ $((waited % 5)) != 0 ] || say "waiting for a link on $(described "$@")"
        sleep 1
        waited=$((waited + 1))
    done
}

# USB cards appear while their bus is being scanned.
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
        fatal "no network card has a driver$(undriven)" \
            'install the driver in the image (kernel modules, firmware), then: ltsp kernel'
    fi
}

# Waits until the udev of a distribution's initrd has renamed cards, which it cannot do once they are up.
wait_for_names() {
    if command -v udevadm >/dev/null; then udevadm settle --timeout=10; fi
}

# Network controllers (PCI class 02) without a driver, by vendor and device.
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
