# Kernel modules: those that each client needs, and the drivers of the hardware that is here.
# Lists are made with the image: modules.order (GROUP PATH), modules.load (PATH: PATH …), modules.alias (ALIAS PATH), and
# modules.options (NAME OPTIONS). What the image's modprobe.d(5) says is in them. They are looked up by awk: a shell reads
# a byte at a time, and takes seconds to compare some thousand aliases.

load_group() {
    order=$(awk -v "group=$1" '$1 == group { print $2 }' "$LTSP/modules.order")
    for path in $order; do load "$path"; done
}

# load PATH, whose dependencies are there. A driver of something that this computer lacks is no fault.
load() {
    name_module "$1"
    if [ -d "$SYS/module/$MODULE" ]; then return; fi
    set_options
    if error=$(insmod "$LTSP/modules/$KERNEL/$1" ${OPTIONS:+"$OPTIONS"} 2>&1); then return; fi
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

# read_options sets OPTION_LINES (NAME OPTIONS) and BLACKLIST (,NAME,NAME,) to what the image and, after it, the kernel's
# command line say of modules: NAME.PARAMETER=VALUE and modprobe.blacklist=NAME,NAME, as in modprobe(8).
read_options() {
    OPTION_LINES=$(cat "$LTSP/modules.options" 2>/dev/null) BLACKLIST=,
    module=${MODULE-} words=''
    read -r words 2>/dev/null <"$PROC/cmdline" || :
    set -f
    for word in $words; do
        case ${word%%.*} in
        "$word" | *[!A-Za-z0-9_-]*) continue ;; # without a dot, or with one in its value
        esac
        case $word in
        modprobe.blacklist=*) BLACKLIST=$BLACKLIST$(echo "${word#*=}" | tr - _), ;;
        *)
            name_module "${word%%.*}"
            OPTION_LINES="$OPTION_LINES$NEWLINE$MODULE ${word#*.}"
            ;;
        esac
    done
    set +f
    MODULE=$module
}

NEWLINE='
'

# set_options sets OPTIONS to what MODULE is loaded with.
set_options() {
    [ -n "${BLACKLIST-}" ] || read_options
    OPTIONS=''
    old_ifs=$IFS IFS=$NEWLINE
    set -f
    for line in $OPTION_LINES; do
        case $line in
        "$MODULE "*) OPTIONS="$OPTIONS${OPTIONS:+ }${line#* }" ;;
        esac
    done
    set +f
    IFS=$old_ifs
}

# is_blacklisted PATH: by the command line, for a device. What the image says is in the lists already.
is_blacklisted() {
    name_module "$1"
    [ -n "${BLACKLIST-}" ] || read_options
    case $BLACKLIST in
    *,"$MODULE",*) return 0 ;;
    esac
    return 1
}

# modules.load lists all that belongs to a module, and it itself.
load_with_dependencies() {
    order=$(awk -v "wanted=$1:" '$1 == wanted { for (i = 2; i <= NF; i++) print $i }' "$LTSP/modules.load")
    for path in $order; do load "$path"; done
}

# Loads what drives the network cards that are here and were not driven yet.
load_network_drivers() {
    cat "$SYS"/bus/*/devices/*/modalias 2>/dev/null | modules_for net >"$WORK/drivers"
    while read -r driver; do
        is_blacklisted "$driver" || load_with_dependencies "$driver"
    done <"$WORK/drivers"
}

# modules_for GROUP: paths of its modules that drive one of the devices whose modaliases are read; of any where it is
# empty, and then `-` where modprobe.d says that none shall. Aliases are patterns of the shell. Most are told from all
# devices by what precedes their first wildcard. Those of modprobe.d stand first, have underscores, and leave no others.
modules_for() {
    awk -v "group=$1" '
        function regular(pattern) {
            gsub(/[.+(){}|$]/, "[&]", pattern)
            gsub(/\*/, ".*", pattern)
            gsub(/\?/, ".", pattern)
            return "^" pattern "$"
        }
        part == 1 && !($0 in devices) {
            devices[$0] = $0
            gsub(/-/, "_", devices[$0])
            for (i = length($0); i >= 0; i--) heads[substr($0, 1, i)]
        }
        part == 2 && (group == "" || $1 == group) { wanted[$2] }
        part == 3 && $3 == "conf" {
            for (device in devices) if (devices[device] ~ regular($1)) {
                settled[device]
                if ($2 in wanted || (group == "" && $2 == "-")) print $2
                delete wanted[$2]
            }
            next
        }
        part == 3 && !begun {
            for (device in settled) delete devices[device]
            begun = 1
        }
        part == 3 && $2 in wanted {
            head = match($1, /[*?[]/) ? substr($1, 1, RSTART - 1) : $1
            if (!(head in heads)) next
            for (device in devices) if (device ~ regular($1)) {
                print $2
                delete wanted[$2]
                next
            }
        }' part=1 - part=2 "$LTSP/modules.order" part=3 "$LTSP/modules.alias"
}
