# Applies the site's layers to the root; see docs/ltsp.img.md for the parts of a layer.

lay_layers() {
    for layer in $LAYERS; do
        each_line "$layer/remove" remove
        if [ -d "$layer/files" ]; then lay_files "$layer/files"; fi
        if [ -d "$layer/parts" ]; then
            mkdir -p "$WORK/parts"
            cp -r "$layer/parts/." "$WORK/parts"
        fi
    done
    assemble_parts
    for layer in $LAYERS; do
        if [ -f "$layer/shadow" ]; then set_hashes "$layer/shadow"; fi
        each_line "$layer/templates" fill_template
    done
}

# each_line FILE FUNCTION
each_line() {
    [ -f "$1" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        if [ -n "$line" ]; then "$2" "$line"; fi
    done <"$1"
}

remove() {
    if [ -e "/$1" ] || [ -L "/$1" ]; then rm -rf "/${1:?}"; fi
}

# Existing directories keep their mode and owner. Files are replaced, never written through a link.
lay_files() {
    cd "$1" || return
    find . | while IFS= read -r name; do
        if [ ! -d "$name" ] || [ -L "$name" ]; then
            remove "$name" && cp -a "$name" "/$name"
        elif [ ! -d "/$name" ]; then
            mkdir "/$name" && chown "$(stat -c %u:%g "$name")" "/$name" && chmod "$(stat -c %a "$name")" "/$name"
        fi || exit 1
    done || fatal "cannot write the files of ${1#"$SITE"/}" 'give the overlay more space: ltsp.overlay='
    cd /
}

assemble_parts() {
    [ -d "$WORK/parts" ] || return 0
    find "$WORK/parts" -type f | sed 's,/[^/]*$,,' | sort -u | while IFS= read -r directory; do
        path=${directory#"$WORK/parts"}
        mkdir -p "${path%/*}"
        rm -f "$path"
        cat "$directory"/* >"$path"
    done
}

# Lines of NAME:HASH; the file keeps its mode.
set_hashes() {
    [ -f /etc/shadow ] || return 0
    (
        umask 077
        awk -F : -v OFS=: '
            NR == FNR { hash[$1] = $2; next }
            $1 in hash { $2 = hash[$1]; seen[$1] = 1 }
            { print }
            END { for (name in hash) if (hash[name] == "!" && !(name in seen)) print name ":!:::::::" }
        ' "$1" /etc/shadow >"$WORK/shadow"
    )
    cat "$WORK/shadow" >/etc/shadow
}

# The values are a number, hexadecimal digits and hostnames, without special characters of sed.
fill_template() {
    if [ -f "/$1" ]; then
        if grep -q -F '%{HOSTNAME/' "/$1"; then fill_renamed "/$1"; fi
        sed -i -e "s/%{IP}/$(host_number "$IP" "$PREFIX")/g" -e "s/%{MAC}/$(bare_mac)/g" \
            -e "s/%{HOSTNAME}/$CLIENT/g" -e "s/%{SERVER}/$SERVER/g" "/$1"
    fi
}

# fill_renamed FILE: %{HOSTNAME/OLD/NEW} is the hostname with its first OLD replaced by NEW, and empty without OLD.
fill_renamed() {
    awk -v name="$CLIENT" '
        {
            while (match($0, /%[{]HOSTNAME\/[^\/}]*\/[^\/}]*[}]/)) {
                split(substr($0, RSTART + 11, RLENGTH - 12), word, "/")
                at = index(name, word[1])
                made = at ? substr(name, 1, at - 1) word[2] substr(name, at + length(word[1])) : ""
                $0 = substr($0, 1, RSTART - 1) made substr($0, RSTART + RLENGTH)
            }
            print
        }
    ' "$1" >"$WORK/filled"
    cat "$WORK/filled" >"$1"
}

# Runs PRE_INIT_x of ltsp.conf with the shell of the image.
run_site_commands() {
    for command in /etc/ltsp/pre-init/*; do
        [ -f "$command" ] || continue
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bin/sh "$command" ||
            warn "${command##*/} of ltsp.conf failed"
    done
}
