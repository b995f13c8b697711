#!/usr/bin/env bash
# Times a restore drill beside the plain restore of the same snapshot, in turns, and prints the ratio: release binaries, a
# PostgreSQL 15 for production and one for the restore, an S3 server in memory, all on this machine and gone afterwards.
#   bench/drill.sh [MEBIBYTES] [ROUNDS]    default: a database of 2048 MiB, 3 rounds; some 20 minutes, and 12 GiB of disk below TMPDIR
# The plain restore is `stonekeep restore` into a new database; beside it, `pg_restore -j` of the same snapshot as a local archive.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD size=${1:-2048} rounds=${2:-3} jobs=${JOBS:-2}
tests/servers/install.sh
[ -n "${STONEKEEP_BENCH_BIN:-}" ] || cargo build --quiet --release -p stonekeepd -p stonekeep
bin=${STONEKEEP_BENCH_BIN:-$root/target/release} pg=/usr/lib/postgresql/15/bin

dir=$(mktemp -d "${TMPDIR:-/tmp}/stonekeep-bench.XXXXXX")
chmod 755 "$dir"
# shellcheck disable=SC2317,SC2329  # called by the trap
end() {
  cd "$root"
  tests/servers/ceph.sh down "$dir/ceph"
  tests/servers/postgres.sh down "$dir/production"
  tests/servers/postgres.sh down "$dir/target"
  rm -rf "$dir"
}
trap end EXIT
trap 'exit 130' INT TERM
as=()
[ "$(id -u)" != 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)

port=$(tests/servers/ports.sh)
tests/servers/ceph.sh up "$dir/ceph" "$port"
tests/servers/postgres.sh up "$dir/production" $((port + 90))
tests/servers/postgres.sh up "$dir/target" $((port + 91))
source=postgres://postgres@127.0.0.1:$((port + 90)) target=postgres://postgres@127.0.0.1:$((port + 91))

# Rows of some 250 bytes of which half does not compress, with a primary key and an index; a table of one row for each ten.
"$pg/psql" -X -q -v ON_ERROR_STOP=1 "$source/postgres" -c 'CREATE DATABASE bench'
"$pg/psql" -X -q -v ON_ERROR_STOP=1 "$source/bench" <<S
SET synchronous_commit TO off;
CREATE TABLE bookings (id bigint PRIMARY KEY, customer bigint, at timestamptz, note text, code text);
INSERT INTO bookings SELECT i, i / 10, timestamptz '2026-01-01' + i * interval '1 second',
  repeat('picked up at the desk ', 4), md5(i::text) || md5((-i)::text) FROM generate_series(1, $size * 4000) i;
CREATE INDEX ON bookings (customer, at);
CREATE TABLE customers AS SELECT i AS id, md5(i::text) AS name FROM generate_series(1, $size * 400) i;
ALTER TABLE customers ADD PRIMARY KEY (id);
VACUUM ANALYZE;
S
"$pg/psql" -X -At "$source/bench" -c "SELECT 'database: ' || pg_size_pretty(pg_database_size('bench'))"

cd "$dir"
for key in owner signer; do ssh-keygen -q -t ed25519 -N '' -f "$key"; done
for identity in identity1 identity2; do age-keygen -o "$identity" 2>/dev/null; done
cat > stonekeepd.toml <<C
signer_file = "$dir/signer"
allowed_signers_file = "$dir/allowed_signers"
[encryption]
recipients = ["$(age-keygen -y identity1)", "$(age-keygen -y identity2)"]
[[repository]]
name = "vault"
bucket = "bench"
region = "us-east-1"
endpoint = "http://127.0.0.1:$port"
path_style = true
[[tier]]
name = "hourly"
every = "hour"
keep = "1d"
[[database]]
name = "bench"
url = "$source/bench"
tls = "disable"
C
export AWS_EC2_METADATA_DISABLED=true AWS_ACCESS_KEY_ID=OWNER AWS_SECRET_ACCESS_KEY=ownersecret
quiet() { "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; exit 1; }; }
quiet "$bin/stonekeep" init --daemon-config stonekeepd.toml --owner-key owner
quiet "$bin/stonekeepd" --config stonekeepd.toml backup
quiet "$bin/stonekeep" --config stonekeep.toml fetch latest --out "$dir/archive" --identity identity1
if [ "$(id -u)" = 0 ]; then chown -R postgres identity1 archive; chmod 644 stonekeep.toml allowed_signers; fi
install -d "$dir/scratch"
[ "$(id -u)" != 0 ] || chown postgres "$dir/scratch"

ratio() { awk "BEGIN { printf \"%.2f\", ($1) / ($2) }"; }
# seconds COMMAND…: how long it takes
seconds() {
  local begin=$EPOCHREALTIME
  quiet "$@"
  ratio "$EPOCHREALTIME - $begin" 1
}
drop() { "$pg/psql" -X -q -c "DROP DATABASE IF EXISTS $1" "$target/postgres"; }
printf '%-8s %10s %10s %10s %16s %16s\n' round drill restore pg_restore drill/restore drill/pg_restore
for round in $(seq "$rounds"); do
  drill=$(seconds "${as[@]}" "$bin/stonekeep" --config stonekeep.toml drill latest --jobs "$jobs" --scratch-dir "$dir/scratch" --identity identity1)
  plain=$(seconds "$bin/stonekeep" --config stonekeep.toml restore latest --jobs "$jobs" --identity identity1 --target "$target/plain")
  drop plain
  "$pg/psql" -X -q -c 'CREATE DATABASE stock' "$target/postgres"
  stock=$(seconds "$pg/pg_restore" -j "$jobs" -d "$target/stock" archive)
  drop stock
  printf '%-8s %10s %10s %10s %16s %16s\n' "$round" "$drill" "$plain" "$stock" "$(ratio "$drill" "$plain")" "$(ratio "$drill" "$stock")"
done
