#!/usr/bin/env bash
# A throw-away PostgreSQL on loopback: 15, or that whose programs are in PG_BIN.
#   postgres.sh up DIR PORT    members of the role by_password log in by password (scram), those of by_tls over TLS only, all
#                              others as they like; DIR/ca.pem signed the server's certificate
#                              PG_CONF: lines more for postgresql.conf; LOCPATH: a directory of locales that localedef has made
#   postgres.sh standby DIR PORT PRIMARY   a copy of the server on port PRIMARY that follows it; PG_CONF as above
#   postgres.sh down DIR       ends it and removes DIR
# A server has the extension in extension/ at hand.
# As root it runs as the user postgres, since initdb refuses root.
set -euo pipefail
command=${1:?up or down} dir=$(realpath -m "${2:?a directory}") bin=${PG_BIN:-/usr/lib/postgresql/15/bin}
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --init-groups --reset-env ${LOCPATH:+env "LOCPATH=$LOCPATH"})

if [ "$command" = down ]; then
  [ ! -e "$dir/data/postmaster.pid" ] || "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
  rm -rf "$dir"
  exit
fi
[ "$command" = up ] || [ "$command" = standby ] || { echo "usage: $0 up DIR PORT | standby DIR PORT PRIMARY | down DIR" >&2; exit 64; }

mkdir -p "$dir"
[ "$(id -u)" != 0 ] || chown postgres "$dir"
if [ "$command" = standby ]; then
  "${as[@]}" "$bin/pg_basebackup" -h 127.0.0.1 -p "${4:?the primary\'s port}" -U postgres -D "$dir/data" -R -X stream -c fast --no-sync
  printf 'port = %s\nunix_socket_directories = %s\n%s\n' "${3:?a port}" "'$dir'" "${PG_CONF:-}" >>"$dir/data/postgresql.conf"
  exec "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w start >/dev/null
fi
extensions=${bin%/lib/postgresql/*}/share/postgresql/$(basename "$(dirname "$bin")")/extension
for file in "$(dirname "$0")"/extension/*; do
  cmp -s "$file" "$extensions/$(basename "$file")" && continue
  if [ -w "$extensions" ]; then install -m 644 "$file" "$extensions"; else sudo install -m 644 "$file" "$extensions"; fi
done
"${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -E UTF8 --locale=C.UTF-8 --auth=trust --no-sync >/dev/null
"$(dirname "$0")/certificate.sh" "$dir"
[ "$(id -u)" != 0 ] || chown postgres "$dir/server.key" "$dir/server.pem"
cat >> "$dir/data/postgresql.conf" <<C
ssl = on
ssl_cert_file = '$dir/server.pem'
ssl_key_file = '$dir/server.key'
port = ${3:?a port}
listen_addresses = '127.0.0.1'
unix_socket_directories = '$dir'
fsync = off
full_page_writes = off
synchronous_commit = off
max_connections = 200
max_locks_per_transaction = 256
max_wal_size = 4GB
log_min_messages = fatal
jit = off
${PG_CONF:-}
C
cat > "$dir/data/pg_hba.conf" <<C
local all all trust
host all +by_password 127.0.0.1/32 scram-sha-256
hostnossl all +by_tls 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
C
"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w start >/dev/null
"$bin/psql" -X -q -h 127.0.0.1 -p "$3" -U postgres -c 'CREATE ROLE by_password NOLOGIN' -c 'CREATE ROLE by_tls NOLOGIN' postgres
