#!/usr/bin/env bash
# Runs a program under a unit's hardening as far as that goes without systemd as process 1: its user's rights, its view of /proc,
# a read-only file system, its limits, and its filters of system calls (confine.py). Needs root.
#   confine.sh UNIT DIR PROGRAM…    DIR alone may be written to; it is given to the user
set -euo pipefail
unit=$(realpath "${1:?a unit}") dir=$(realpath "${2:?a directory}") program=$(realpath "$(command -v "${3:?a program}")")
here=$(realpath "$(dirname "$0")")
shift 3
# An id that nobody has, of the range that DynamicUser= takes from.
id=64999
mkdir -p "$dir/tmp"
# The user may have no way to where these are.
cp "$unit" "$here/confine.py" "$dir/tmp/"
case $program in
  /usr/*) ;;
  *) cp "$program" "$dir/tmp/"; program=$dir/tmp/$(basename "$program") ;;
esac
{ cat /etc/passwd; echo "stonekeep-test:x:$id:$id::/nonexistent:/usr/sbin/nologin"; } >"$dir/tmp/passwd"
chown -R "$id:$id" "$dir"
export TMPDIR=$dir/tmp
# shellcheck disable=SC2016  # expanded by the inner shell
exec unshare --mount --ipc --propagation private bash -c '
  set -eu
  dir=$1 unit=$2 id=$3
  shift 3
  mount --bind "$dir" "$dir"
  cd "$dir"
  # As systemd-sysusers has it: PostgreSQL asks for the name of whoever starts it.
  mount --bind tmp/passwd /etc/passwd
  mount -o bind,remount,ro /etc/passwd
  mount -o bind,remount,ro /
  mount -t proc -o nosuid,nodev,noexec,subset=pid,hidepid=invisible proc /proc
  umask 0077
  ulimit -c 0
  exec setpriv --reuid "$id" --regid "$id" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
    /usr/bin/python3 tmp/confine.py "tmp/$unit" "$@"
' confine "$dir" "$(basename "$unit")" "$id" "$program" "$@"
