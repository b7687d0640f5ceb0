# What the person before the screen reads; whoever boots clients by machine looks for the same lines.

say() {
    printf 'ltsp: %s\n' "$*"
    # Level 7 is not shown on consoles; the journal of the running system has it.
    { printf '<7>ltsp: %s\n' "$*" >"$DEV/kmsg"; } 2>/dev/null
}

# Text of others (a server's answer, the command line) without the control bytes that a terminal obeys.
printable() {
    printf '%s' "$*" | tr '\n\t' '  ' | tr -cd ' -~'
}

stage() {
    if [ "${DEBUG-}" = "$1" ]; then
        debug_shell "the stage $1 comes next; exit goes on"
    fi
    say "stage $1"
}

warn() {
    say "warning: $(printable "$1")"
}

# announce LEVEL LINE: to all consoles. printf writes to one of them; what the kernel says at level 3 or below goes to all.
announce() {
    printf '%s\n' "$2"
    { printf '<%s>%s\n' "$1" "$2" >"$DEV/kmsg"; } 2>/dev/null
}

# fatal CAUSE REMEDY: one line, in which the remedy begins after the first `: ` behind FATAL.
fatal() {
    trap - EXIT
    announce 2 "ltsp: FATAL: $(printable "$1" | sed 's/: /, /g'): $(printable "$2")"
    give_up
}

debug_shell() {
    say "a shell: $1"
    load_group keyboard
    # shellcheck disable=SC2094 # a terminal
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
