#!/usr/bin/env bash
# A throw-away MiniStack on loopback: an S3 emulator with users and rights.
#   ministack.sh up DIR PORT    starts it with the users owner (all rights), writer (puts, locks, reads locks: the least a writer
#                               needs) and reader (none); DIR/env has ENDPOINT, OWNER, WRITER and READER, each of these KEY:SECRET
#   ministack.sh down DIR       ends it by its recorded process group and removes DIR
set -euo pipefail
command=${1:?up or down} dir=$(realpath -m "${2:?a directory}") here=$(realpath "$(dirname "$0")")

if [ "$command" = down ]; then
  [ ! -e "$dir/pid" ] || kill -9 -- "-$(cat "$dir/pid")" 2>/dev/null || true
  rm -rf "$dir"
  exit
fi
[ "$command" = up ] || { echo "usage: $0 up DIR PORT | down DIR" >&2; exit 64; }

port=${3:?a port}
kept=$("$here/venv.sh" ministack)
mkdir -p "$dir/tmp"
TMPDIR=$dir/tmp AUTH=true BIND_HOST=127.0.0.1 GATEWAY_PORT=$port MINISTACK_HOST=127.0.0.1 IOT_MTLS_ENABLED=0 SFTP_ENABLED=0 \
  S3_PERSIST=0 S3_DATA_DIR=$dir/s3 setsid "$kept/bin/ministack" >"$dir/log" 2>&1 &
echo $! >"$dir/pid"
for _ in $(seq 300); do ! curl -sf "http://127.0.0.1:$port/_ministack/health" >/dev/null || break; sleep 0.1; done
# Its root, "test", is not asked for a signature; the users it makes are.
"$kept/bin/python" "$here/users.py" "http://127.0.0.1:$port" test:test >"$dir/env" || { tail -n 5 "$dir/log" >&2; exit 1; }
