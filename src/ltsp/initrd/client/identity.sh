# The identity of this client: hostname, host number, machine ID, keys.

# expanded TEXT: expands templates of ltsp.conf(5). %{IP} is the host's number in its network, %{MAC} has no colons.
expanded() (
    text=$1
    while :; do
        case $text in
        *'%{IP}'*) text="${text%%'%{IP}'*}$(host_number "$IP" "$PREFIX")${text#*'%{IP}'}" ;;
        *'%{MAC}'*) text="${text%%'%{MAC}'*}$(bare_mac)${text#*'%{MAC}'}" ;;
        *) break ;;
        esac
    done
    printf '%s' "$text"
)

# host_number ADDRESS PREFIX: 20 for 192.168.67.20/24, 17172 for 192.168.67.20/16.
host_number() (
    number=0 bits=${2:-24} IFS=.
    for octet in $1; do
        if [ "$bits" -ge 8 ]; then
            bits=$((bits - 8)) octet=0
        fi
        number=$((number * 256 + (octet & (255 >> bits))))
        if [ "$octet" != 0 ]; then bits=0; fi
    done
    printf '%s' "$number"
)

bare_mac() {
    printf '%s' "$MAC" | tr -d :
}

# Adds to the facts for the running system.
note_name() {
    printf 'HOSTNAME=%s\nSERVER=%s\n' "$CLIENT" "$SERVER" >>"$RUN/ltsp/facts"
}

write_hostname() {
    printf '%s\n' "$CLIENT" >/etc/hostname
    hostname "$CLIENT"
    grep -q -s -w -F "$CLIENT" /etc/hosts || printf '127.0.1.1\t%s\n' "$CLIENT" >>/etc/hosts
}

# The same at each boot, so that logs and leases belong to one machine; see machine-id(5).
write_machine_id() {
    if [ -n "$MAC" ]; then
        rm -f /etc/machine-id
        machine_id >/etc/machine-id
        chmod 444 /etc/machine-id
    fi
}

machine_id() {
    printf 'ltsp %s' "$MAC" | md5sum | cut -c 1-32
}

# Keys in an image would be shared by all clients, and known to everybody who can fetch the image.
make_keys_at_boot() {
    is_there /etc/ssh/ssh_host_*_key || [ ! -x /usr/bin/ssh-keygen ] || [ -e /usr/lib/systemd/system/sshd-keygen@.service ] ||
        make_at_boot ltsp-ssh-keys '/usr/bin/ssh-keygen -A' ssh.service sshd.service ssh@.service sshd@.service
    if [ -x /usr/sbin/make-ssl-cert ] && [ ! -s /etc/ssl/private/ssl-cert-snakeoil.key ] &&
        grep -r -q -s ssl-cert-snakeoil.key /etc/apache2 /etc/nginx /etc/postfix /etc/dovecot /etc/exim4 /etc/postgresql /etc/xrdp; then
        make_at_boot ltsp-snakeoil '/usr/sbin/make-ssl-cert generate-default-snakeoil --force-overwrite' \
            apache2.service nginx.service postfix.service dovecot.service exim4.service postgresql.service xrdp.service
    fi
}

is_there() {
    [ -e "$1" ]
}

# make_at_boot NAME COMMAND UNIT...: adds a unit that runs the command before these units.
make_at_boot() {
    mkdir -p /etc/systemd/system
    made=$1.service
    cat >"/etc/systemd/system/$made" <<END
[Unit]
Description=Keys of this client: $1
Before=$(shift 2 && printf '%s ' "$@")
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$2
END
    shift 2
    for unit; do
        if [ -n "$(unit_file "$unit")" ]; then
            mkdir -p "/etc/systemd/system/$unit.wants"
            ln -s -f "../$made" "/etc/systemd/system/$unit.wants/$made"
        fi
    done
}
