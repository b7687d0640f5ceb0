# Started inside the new root by the static busybox of the initrd: what makes this client itself. First what any
# diskless client needs, then the site's layers, so that the site has the last word.
set -u
for part in message site identity connection units; do
    # shellcheck source=/dev/null
    . "$LTSP/sh/$part.sh"
done

read_facts
find_layers
read_environments
keep_connection
write_machine_id
make_keys_at_boot
lay_layers
expand_templates
write_hostname
switch_units
find_init >"$RUN/ltsp/init"
