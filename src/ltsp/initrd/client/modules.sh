# Kernel modules: those that each client needs, and the drivers of the hardware that is here.
# Lists are made with the image: modules.order (GROUP PATH), modules.alias (ALIAS PATH), modules.dep(5). They are looked
# up by awk: a shell reads a byte at a time, and takes seconds to compare some thousand aliases.

load_group() {
    order=$(awk -v "group=$1" '$1 == group { print $2 }' "$LTSP/modules.order")
    for path in $order; do load "$path"; done
}

# load PATH, whose dependencies are there. A driver of something that this computer lacks is no fault.
load() {
    name_module "$1"
    if [ -d "$SYS/module/$MODULE" ]; then return; fi
    if error=$(insmod "$LTSP/modules/$KERNEL/$1" 2>&1); then return; fi
    case $error in
    *'File exists'* | *'No such device'*) ;;
    *) warn "the kernel did not take a module: $error" ;;
    esac
}

# name_module PATH sets MODULE, as the kernel writes it: without directory and suffix, with underscores.
name_module() {
    MODULE=${1##*/} MODULE=${MODULE%%.ko*}
    while :; do
        case $MODULE in
        *-*) MODULE=${MODULE%%-*}_${MODULE#*-} ;;
        *) break ;;
        esac
    done
}

# modules.dep lists all of them, those that others need last.
load_with_dependencies() {
    order=$(awk -v "wanted=$1:" '$1 == wanted { for (i = NF; i > 1; i--) print $i }' "$LTSP/modules.dep")
    for path in $order "$1"; do load "$path"; done
}

# Loads what drives the network cards that are here and were not driven yet.
load_network_drivers() {
    cat "$SYS"/bus/*/devices/*/modalias 2>/dev/null | modules_for net >"$WORK/drivers"
    while read -r driver; do load_with_dependencies "$driver"; done <"$WORK/drivers"
}

# modules_for GROUP: paths of its modules that drive one of the devices whose modaliases are read; of any where it is
# empty. Aliases are patterns of the shell. Most are told from all devices by what precedes their first wildcard.
modules_for() {
    awk -v "group=$1" '
        part == 1 && !($0 in devices) {
            devices[$0]
            for (i = length($0); i >= 0; i--) heads[substr($0, 1, i)]
        }
        part == 2 && (group == "" || $1 == group) { wanted[$2] }
        part == 3 && $2 in wanted {
            head = match($1, /[*?[]/) ? substr($1, 1, RSTART - 1) : $1
            if (!(head in heads)) next
            pattern = $1
            gsub(/[.+(){}|$]/, "[&]", pattern)
            gsub(/\*/, ".*", pattern)
            gsub(/\?/, ".", pattern)
            for (device in devices) if (device ~ "^" pattern "$") {
                print $2
                delete wanted[$2]
                next
            }
        }' part=1 - part=2 "$LTSP/modules.order" part=3 "$LTSP/modules.alias"
}
