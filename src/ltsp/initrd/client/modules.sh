# Kernel modules: those that each client needs, and the drivers of the hardware that is here.
# Lists are made with the image: modules.order (GROUP PATH), modules.alias (ALIAS PATH), modules.dep(5).

load_group() {
    while read -r group path; do
        if [ "$group" = "$1" ]; then load "$path"; fi
    done <"$LTSP/modules.order"
}

# load PATH, whose dependencies are there. A driver of something that this computer lacks is no fault.
load() {
    if [ -d "$SYS/module/$(module_name "$1")" ]; then return; fi
    if error=$(insmod "$LTSP/modules/$KERNEL/$1" 2>&1); then return; fi
    case $error in
    *'File exists'* | *'No such device'*) ;;
    *) warn "the kernel did not take a module: $error" ;;
    esac
}

# As the kernel writes it: without directory and suffix, with underscores.
module_name() (
    name=${1##*/} name=${name%%.ko*}
    while :; do
        case $name in
        *-*) name=${name%%-*}_${name#*-} ;;
        *) break ;;
        esac
    done
    printf '%s' "$name"
)

# modules.dep lists all of them, those that others need last.
load_with_dependencies() {
    while read -r path dependencies; do
        if [ "$path" != "$1:" ]; then continue; fi
        order=$1
        for dependency in $dependencies; do order="$dependency $order"; done
        for path in $order; do load "$path"; done
        return
    done <"$LTSP/modules.dep"
    load "$1"
}

# Loads what drives the network cards that are here and were not driven yet.
load_network_drivers() {
    modules_for "$(cat "$SYS"/bus/*/devices/*/modalias 2>/dev/null | sort -u)" net >"$WORK/drivers"
    while read -r driver; do load_with_dependencies "$driver"; done <"$WORK/drivers"
}

# modules_for MODALIASES GROUP: paths of the modules that drive one of the devices.
# Some thousand patterns against a hundred devices are much for a shell: those of other makers are dropped first.
modules_for() (
    set -f
    IFS='
'
    printf '%s\npci:v*\nusb:v*\n' "$1" | sed -e 's/^\(pci:v........\).*/\1/;t' -e 's/^\(usb:v....\).*/\1/;t' \
        -e 's/^\(virtio:d........\).*/\1/;t' -e 's/^\([^:]*:\).*/\1/' -e '/^$/d' | sort -u >"$WORK/makers"
    grep -F -f "$WORK/makers" "$LTSP/modules.alias" | while IFS=' ' read -r pattern path; do
        for modalias in $1; do
            # shellcheck disable=SC2254 # it is a pattern
            case $modalias in
            $pattern)
                if [ -z "$2" ] || grep -q -x -F "$2 $path" "$LTSP/modules.order"; then printf '%s\n' "$path"; fi
                break
                ;;
            esac
        done
    done | awk '!seen[$0]++'
)
