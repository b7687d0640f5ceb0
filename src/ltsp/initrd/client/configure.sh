# Configures this client, started inside the new root by the static busybox of the initrd. First what any diskless
# client needs, then the site's layers, so that the site has the last word.
set -u
export LTSP=/run/ltsp/client PROC=/proc SYS=/sys DEV=/dev RUN=/run WORK=/run/ltsp/work PATH=/run/ltsp/client/bin
for part in message site layers identity connection units; do
    # shellcheck source=/dev/null
    . "$LTSP/sh/$part.sh"
done

# The caller gives up; only it has the means.
give_up() {
    exit 3
}

# Prints the program that becomes the first process; nothing if there is none.
find_init() {
    for init in ${INIT:-/sbin/init /usr/lib/systemd/systemd /lib/systemd/systemd /usr/sbin/init /bin/init}; do
        if [ -x "$init" ]; then
            printf '%s\n' "$init"
            return
        fi
    done
    return 0
}

read_facts
find_layers
read_environments
keep_connection
write_machine_id
make_keys_at_boot
lay_layers
write_hostname
switch_units
note_name
run_site_commands
find_init >"$WORK/init"
