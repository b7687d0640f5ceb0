# Units of systemd, switched by links as systemctl(1) makes them: its program would be one of the image.

UNITS=/etc/systemd/system

switch_units() {
    for layer in $LAYERS; do
        each_line "$layer/disable" disable_unit
        each_line "$layer/enable" enable_unit
        each_line "$layer/mask" mask_unit
    done
}

is_unit() {
    case $1 in
    */* | .* | '' | *[!A-Za-z0-9@:._\\-]*) warn "no unit can be named $1" && return 1 ;;
    esac
}

mask_unit() {
    if is_unit "$1"; then
        mkdir -p "$UNITS"
        rm -f "$UNITS/$1"
        ln -s /dev/null "$UNITS/$1"
    fi
}

disable_unit() {
    is_unit "$1" || return 0
    rm -f "$UNITS"/*.wants/"$1" "$UNITS"/*.requires/"$1"
    for link in "$UNITS"/*; do
        case $(readlink "$link") in
        */"$1") rm "$link" ;; # an alias
        esac
    done
}

unit_file() (
    template=$1
    case $1 in
    *@?*.*) template=${1%%@*}@.${1##*.} ;;
    esac
    for directory in etc usr/local/lib usr/lib lib; do
        for file in "/$directory/systemd/system/$1" "/$directory/systemd/system/$template"; do
            if [ -f "$file" ]; then
                printf '%s' "$file"
                exit 0
            fi
        done
    done
)

# enable_unit UNIT: what its [Install] section says, systemd.unit(5). SEEN keeps units that name each other apart.
SEEN=' '
enable_unit() {
    is_unit "$1" || return 0
    case $SEEN in
    *" $1 "*) return ;;
    esac
    SEEN="$SEEN$1 "
    file=$(unit_file "$1")
    if [ -z "$file" ]; then
        warn "the image has no unit $1 to enable"
        return
    fi
    awk -v "unit=$1" '
        /^\[/ { install = /^\[Install\]/ }
        install && split($0, half, "=") > 1 {
            gsub(/ /, "", half[1])
            count = split(substr($0, index($0, "=") + 1), words, " ")
            for (i = 1; i <= count; i++) print half[1], words[i]
        }' "$file" >"$RUN/ltsp/install.$1"
    while read -r how target; do
        case $how in
        WantedBy) link "$file" "$UNITS/$target.wants/$1" ;;
        RequiredBy) link "$file" "$UNITS/$target.requires/$1" ;;
        Alias) link "$file" "$UNITS/$target" ;;
        Also) also="${also-} $target" ;;
        esac
    done <"$RUN/ltsp/install.$1"
    # shellcheck disable=SC2086 # names of units
    set -- ${also-}
    also=''
    for unit; do enable_unit "$unit"; done
}

link() {
    mkdir -p "${2%/*}"
    [ -e "$2" ] || ln -s -f "$1" "$2"
}

find_init() {
    for init in ${INIT:-/sbin/init /usr/lib/systemd/systemd /lib/systemd/systemd /usr/sbin/init /bin/init}; do
        if [ -x "$init" ]; then
            printf '%s\n' "$init"
            return
        fi
    done
    return 0
}
