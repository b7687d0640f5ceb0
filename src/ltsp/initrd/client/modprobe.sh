#!/ltsp/bin/busybox sh
# Started by the kernel as `modprobe -q -- NAME` when it needs a module by alias or name: drivers of network PHYs,
# versions of NFS, algorithms. See /proc/sys/kernel/modprobe in the kernel's admin-guide/sysctl/kernel.rst.
export LTSP=/ltsp PROC=/proc SYS=/sys DEV=/dev PATH=/ltsp/bin LC_ALL=C
for part in message modules; do
    # shellcheck source=/dev/null
    . "$LTSP/sh/$part.sh"
done
# shellcheck disable=SC2034 # modules.sh reads it
read -r KERNEL <"$LTSP/version"
for name; do :; done # the last argument
paths=$(echo "$name" | modules_for '')
for path in $paths; do
    [ "$path" = - ] || is_blacklisted "$path" || load_with_dependencies "$path"
done
if [ -n "$paths" ]; then exit; fi
name_module "$name"
path=$(awk -v "name=$MODULE" '{
    own = $2; sub(/.*\//, "", own); sub(/\.ko.*/, "", own); gsub(/-/, "_", own)
    if (own == name) { print $2; exit }
}' "$LTSP/modules.order")
if [ -n "$path" ]; then
    load_with_dependencies "$path"
    exit
fi
# The distribution's initrd has its own modules too.
[ -x /sbin/modprobe ] && exec /sbin/modprobe "$@"
