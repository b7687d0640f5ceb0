# Enables, disables and masks systemd units by links, as systemctl(1) does: systemctl itself would be a program of the image.

UNITS=/etc/systemd/system

# A unit that a layer keeps is neither masked nor disabled by that layer and earlier ones.
switch_units() {
    MASKED=' ' DISABLED=' '
    for layer in $LAYERS; do
        each_line "$layer/unneeded" add_unneeded
        each_line "$layer/mask" add_masked
        each_line "$layer/disable" add_disabled
        each_line "$layer/keep" keep_unit
    done
    for layer in $LAYERS; do each_line "$layer/enable" enable_unit; done
    for unit in $DISABLED; do disable_unit "$unit"; done
    [ "$MASKED" = ' ' ] || mkdir -p "$UNITS"
    for unit in $MASKED; do mask_unit "$unit"; done
}

# An image has only a few of the some hundred units that clients do not need, and each link takes a process.
add_unneeded() {
    if has_unit "$1"; then add_masked "$1"; fi
}

add_masked() {
    if is_unit "$1"; then MASKED="$MASKED$1 "; fi
}

add_disabled() {
    if is_unit "$1"; then DISABLED="$DISABLED$1 "; fi
}

keep_unit() {
    MASKED=$(without "$1" "$MASKED") DISABLED=$(without "$1" "$DISABLED")
}

# without WORD " WORDS "
without() (
    words=$2
    while :; do
        case $words in
        *" $1 "*) words="${words%%" $1 "*} ${words#*" $1 "}" ;;
        *) break ;;
        esac
    done
    printf '%s' "$words"
)

is_unit() {
    case $1 in
    */* | .* | '' | *[!A-Za-z0-9@:._\\-]*) warn "$1 is not a unit name" && return 1 ;;
    esac
}

has_unit() {
    for directory in etc usr/local/lib usr/lib lib; do
        if [ -e "/$directory/systemd/system/$1" ]; then return 0; fi
    done
    [ -e "/etc/init.d/${1%.service}" ]
}

# One process for each unit, since there are many of them.
mask_unit() {
    ln -s -f -n /dev/null "$UNITS/$1"
}

disable_unit() {
    rm -f "$UNITS"/*.wants/"$1" "$UNITS"/*.requires/"$1" "$UNITS"/*.upholds/"$1"
    for link in "$UNITS"/*; do
        [ -L "$link" ] || continue
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

# enable_unit UNIT: follows its [Install] section, systemd.unit(5). SEEN stops units that name each other.
SEEN=' '
enable_unit() {
    is_unit "$1" || return 0
    case $SEEN in
    *" $1 "*) return ;;
    esac
    SEEN="$SEEN$1 "
    file=$(unit_file "$1")
    if [ -z "$file" ]; then
        warn "cannot enable $1: no such unit in the image"
        return
    fi
    awk '
        /^\[/ { install = /^\[Install\]/ }
        install && split($0, half, "=") > 1 {
            gsub(/ /, "", half[1])
            count = split(substr($0, index($0, "=") + 1), words, " ")
            for (i = 1; i <= count; i++) print half[1], words[i]
        }' "$file" >"$WORK/install.$1"
    while read -r how target; do
        case $how in
        WantedBy) link "$file" "$UNITS/$target.wants/$1" ;;
        UpheldBy) link "$file" "$UNITS/$target.upholds/$1" ;;
        RequiredBy) link "$file" "$UNITS/$target.requires/$1" ;;
        Alias) link "$file" "$UNITS/$target" ;;
        Also) also="${also-} $target" ;;
        esac
    done <"$WORK/install.$1"
    # shellcheck disable=SC2086 # unit names have no spaces
    set -- ${also-}
    also=''
    for unit; do enable_unit "$unit"; done
}

link() {
    mkdir -p "${2%/*}"
    [ -e "$2" ] || ln -s -f "$1" "$2"
}
