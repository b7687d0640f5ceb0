# Kernel modules: those that every client needs, and the drivers of this computer's hardware.
# The lists are made with the image: modules.order (GROUP PATH), modules.load (PATH: PATH …), modules.alias (ALIAS PATH),
# and modules.options (NAME OPTIONS); they include the image's modprobe.d(5). awk searches them: a shell reads a byte at a
# time, and takes seconds to compare some thousand aliases.

load_group() {
    order=$(awk -v "group=$1" '$1 == group { print $2 }' "$LTSP/modules.order")
    for path in $order; do load "$path"; done
}

# load PATH, whose dependencies are loaded. A driver without its hardware is not an error.
load() {
    name_module "$1"
    if [ -d "$SYS/module/$MODULE" ]; then return; fi
    set_options
    if error=$(insmod "$LTSP/modules/$KERNEL/$1" ${OPTIONS:+"$OPTIONS"} 2>&1); then return; fi
    case $error in
    *'File exists'* | *'No such device'*) ;;
    *) warn "cannot load a kernel module: $error" ;;
    esac
}

# name_module PATH sets MODULE to the kernel's name of it: without directory and suffix, with underscores.
name_module() {
    MODULE=${1##*/} MODULE=${MODULE%%.ko*}
    while :; do
        case $MODULE in
        *-*) MODULE=${MODULE%%-*}_${MODULE#*-} ;;
        *) break ;;
        esac
    done
}

# read_options sets OPTION_LINES (NAME OPTIONS) and BLACKLIST (,NAME,NAME,) from the image and then the kernel's command
# line: NAME.PARAMETER=VALUE and modprobe.blacklist=NAME,NAME, as in modprobe(8).
read_options() {
    OPTION_LINES=$(cat "$LTSP/modules.options" 2>/dev/null) BLACKLIST=,
    module=${MODULE-} words=''
    read -r words 2>/dev/null <"$PROC/cmdline" || :
    set -f
    for word in $words; do
        case ${word%%.*} in
        "$word" | *[!A-Za-z0-9_-]*) continue ;; # without a dot, or with one only in its value
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

# set_options sets OPTIONS to the options for MODULE.
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

# is_blacklisted PATH: by the command line, for devices. The lists already respect the image's blacklist.
is_blacklisted() {
    name_module "$1"
    [ -n "${BLACKLIST-}" ] || read_options
    case $BLACKLIST in
    *,"$MODULE",*) return 0 ;;
    esac
    return 1
}

# modules.load lists a module's dependencies and the module itself.
load_with_dependencies() {
    order=$(awk -v "wanted=$1:" '$1 == wanted { for (i = 2; i <= NF; i++) print $i }' "$LTSP/modules.load")
    for path in $order; do load "$path"; done
}

# Loads the drivers of this computer's network cards.
load_network_drivers() {
    cat "$SYS"/bus/*/devices/*/modalias 2>/dev/null | modules_for net >"$WORK/drivers"
    while read -r driver; do
        is_blacklisted "$driver" || load_with_dependencies "$driver"
    done <"$WORK/drivers"
}

# modules_for GROUP reads modaliases of devices, and prints the paths of the group's modules that drive one of them. With
# an empty GROUP, it considers all modules, and prints `-` if modprobe.d says to load none. Aliases are patterns of the
# shell. Most are ruled out by the text before their first wildcard. Those of modprobe.d come first, have underscores, and
# override all others.
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
