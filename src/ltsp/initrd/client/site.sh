# Finds the layers of the site's configuration for this client, and its hostname: see docs/ltsp.img.md.

SITE=$LTSP/site

# shellcheck disable=SC2034 # the other parts read these
read_facts() {
    IMAGE='' SERVER='' INTERFACE='' MAC='' IP='' PREFIX='' DNS='' DOMAIN='' SEARCH='' HOST='' GATEWAY='' DHCP=''
    while IFS='=' read -r key value; do
        case $key in
        IMAGE) IMAGE=$value ;;
        INTERFACE) INTERFACE=$value ;;
        MAC) MAC=$value ;;
        IP) IP=$value ;;
        PREFIX) PREFIX=$value ;;
        GATEWAY) GATEWAY=$value ;;
        DNS) DNS=$value ;;
        DOMAIN) DOMAIN=$value ;;
        SEARCH) SEARCH=$value ;;
        HOST) HOST=$value ;;
        DHCP) DHCP=$value ;;
        SERVER) SERVER=$value ;;
        esac
    done <"$RUN/ltsp/facts"
}

# find_layers sets LAYERS, and CLIENT to the hostname. A section may set the hostname by which another one then matches.
find_layers() {
    CLIENT=''
    for layer in "$SITE/common" "$SITE/image/$IMAGE" "$SITE"/section/*; do
        case $layer in
        */section/*) matches "$layer" "$MAC" "$IP" || continue ;;
        esac
        read_environment "$layer"
    done
    CLIENT=$(expanded "${CLIENT:-${HOST:-ltsp%{IP\}}}")
    case $CLIENT in
    '' | -* | *[!A-Za-z0-9.-]*)
        warn "$CLIENT is not a hostname; using ltsp"
        CLIENT=ltsp
        ;;
    esac
    LAYERS=''
    for layer in "$SITE/common" "$SITE/image/$IMAGE" "$SITE"/section/*; do
        case $layer in
        */section/*) matches "$layer" "$MAC" "$IP" "$CLIENT" || continue ;;
        esac
        if [ -d "$layer" ]; then LAYERS="$LAYERS $layer"; fi
    done
}

# matches LAYER WORD...: one of its globs matches one of the words, ignoring case.
matches() (
    if [ ! -f "$1/match" ]; then exit 1; fi
    layer=$1
    shift
    words=$(printf '%s\n' "$@" | tr '[:upper:]' '[:lower:]')
    set -f
    while read -r pattern || [ -n "$pattern" ]; do
        for word in $words; do
            # shellcheck disable=SC2254 # it is a pattern
            case $word in
            $pattern) exit 0 ;;
            esac
        done
    done <"$layer/match"
    exit 1
)

# Settings of later layers override earlier ones.
read_environments() {
    name=$CLIENT
    for layer in $LAYERS; do read_environment "$layer"; done
    CLIENT=$name SERVER=${SITE_SERVER:-$SERVER}
    # shellcheck disable=SC2034 # connection.sh reads it
    DNS=${DNS_SERVER:-$DNS} SEARCH=${SEARCH_DOMAIN:-$SEARCH}
}

# Lines of KEY='value'. They are parsed, not executed, and values with other characters than allowed are refused.
read_environment() {
    [ -f "$1/env" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        key=${line%%=*} value=${line#*=}
        case $value in
        \'*\') value=${value#?} value=${value%?} ;;
        esac
        case $value in
        *[!A-Za-z0-9.:_%{}\ -]*)
            warn "ignored an invalid value of $key in the site's configuration: $value"
            continue
            ;;
        esac
        case $key in
        HOSTNAME) CLIENT=$value ;;
        SERVER) SITE_SERVER=$value ;;
        DNS_SERVER) DNS_SERVER=$value ;;
        SEARCH_DOMAIN) SEARCH_DOMAIN=$value ;;
        esac
    done <"$1/env"
}
