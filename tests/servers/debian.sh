#!/usr/bin/env bash
# The Debian that container images of this release begin with, in a directory tree. Needs root.
#   debian.sh DIR    unpacks it; the download is kept below STONEKEEP_TEST_CACHE, or target/servers
set -euo pipefail
dir=$(realpath -m "${1:?a directory}")
kept=${STONEKEEP_TEST_CACHE:-$(realpath "$(dirname "$0")/../..")/target/servers}/bookworm
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
mirror=${mirror:-$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)}
mkdir -p "$kept" "$dir"
chmod 755 "$dir"
debootstrap --variant=minbase --cache-dir="$kept" bookworm "$dir" "${mirror:-http://deb.debian.org/debian}" >"$kept/log" 2>&1 ||
  { tail -n 5 "$kept/log" >&2; exit 75; }
cp /etc/resolv.conf "$dir/etc/"
