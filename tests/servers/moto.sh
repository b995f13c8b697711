#!/usr/bin/env bash
# A throw-away moto on loopback: an S3 emulator that takes locks and does not keep them, which `prove` must find out.
#   moto.sh up DIR PORT    starts it with the users owner (all rights), writer (puts, locks, reads locks: the least a writer
#                          needs) and reader (none); DIR/env has ENDPOINT, OWNER, WRITER and READER, each of these KEY:SECRET
#   moto.sh down DIR       ends it by its recorded process id and removes DIR
set -euo pipefail
command=${1:?up or down} dir=$(realpath -m "${2:?a directory}") here=$(realpath "$(dirname "$0")")

if [ "$command" = down ]; then
  [ ! -e "$dir/pid" ] || kill -9 "$(cat "$dir/pid")" 2>/dev/null || true
  rm -rf "$dir"
  exit
fi
[ "$command" = up ] || { echo "usage: $0 up DIR PORT | down DIR" >&2; exit 64; }

port=${3:?a port}
kept=$("$here/venv.sh" moto)
mkdir -p "$dir/tmp"
# moto asks nobody for rights until users.py has made the users and told it to.
TMPDIR=$dir/tmp INITIAL_NO_AUTH_ACTION_COUNT=1000000 setsid "$kept/bin/moto_server" -H 127.0.0.1 -p "$port" >"$dir/log" 2>&1 &
echo $! >"$dir/pid"
for _ in $(seq 300); do ! curl -sf "http://127.0.0.1:$port/moto-api/" >/dev/null || break; sleep 0.1; done
"$kept/bin/python" "$here/users.py" "http://127.0.0.1:$port" unchecked:unchecked >"$dir/env" || { tail -n 5 "$dir/log" >&2; exit 1; }
curl -sf -X POST -H 'Content-Type: text/plain' --data 0 "http://127.0.0.1:$port/moto-api/reset-auth" >/dev/null
