# Messages for the person at the screen; boottest/console.py parses them.

say() {
    printf 'ltsp: %s\n' "$*"
    # Level 7 is not shown on consoles, but ends up in the journal of the running system.
    { printf '<7>ltsp: %s\n' "$*" >"$DEV/kmsg"; } 2>/dev/null
}

# Removes control characters from untrusted text (a server's answer, the command line).
printable() {
    printf '%s' "$*" | tr '\n\t' '  ' | tr -cd ' -~'
}

stage() {
    if [ "${DEBUG-}" = "$1" ]; then
        debug_shell "next stage: $1; exit continues"
    fi
    say "stage $1"
}

warn() {
    say "warning: $(printable "$1")"
}

# announce LEVEL LINE: to all consoles. printf writes to only one; kernel messages of level 3 or below go to all.
announce() {
    printf '%s\n' "$2"
    { printf '<%s>%s\n' "$1" "$2" >"$DEV/kmsg"; } 2>/dev/null
}

# fatal CAUSE REMEDY: one line, in which the remedy begins after the first `: ` that follows FATAL.
fatal() {
    trap - EXIT
    announce 2 "ltsp: FATAL: $(printable "$1" | sed 's/: /, /g'): $(printable "$2")"
    give_up
}

debug_shell() {
    say "debug shell: $1"
    load_group keyboard
    # shellcheck disable=SC2094 # it is a terminal
    setsid -c sh -i <"$DEV/console" >"$DEV/console" 2>&1
}

give_up() {
    if [ -n "${DEBUG-}" ]; then
        debug_shell "exit restarts this computer"
    elif [ -n "${WAIT-}" ]; then
        while :; do sleep 3600; done
    else
        say 'this computer restarts in 30 seconds'
        sleep 30
    fi
    reboot -f
    exit 1
}
