#!/usr/bin/env bash
# A throw-away mail server on loopback that wants STARTTLS and a login.
#   smtp.sh up DIR USER PASSWORD    starts it; DIR/port says where, DIR/ca.pem vouches for it, DIR/letters holds what it was sent
#   smtp.sh down DIR                ends it by its recorded process id
set -euo pipefail
command=${1:?up or down} dir=$(realpath -m "${2:?a directory}") here=$(realpath "$(dirname "$0")")

if [ "$command" = down ]; then
  [ ! -e "$dir/pid" ] || kill "$(cat "$dir/pid")" 2>/dev/null || true
  exit
fi
[ "$command" = up ] || { echo "usage: $0 up DIR USER PASSWORD | down DIR" >&2; exit 64; }

kept=$("$here/venv.sh" smtp)
mkdir -p "$dir/letters"
"$here/certificate.sh" "$dir"
setsid "$kept/bin/python" "$here/smtp.py" "$dir" "${3:?a user}" "${4:?a password}" >"$dir/log" 2>&1 &
echo $! >"$dir/pid"
for _ in $(seq 100); do [ ! -e "$dir/port" ] || exit 0; sleep 0.1; done
tail -n 5 "$dir/log" >&2
exit 1
