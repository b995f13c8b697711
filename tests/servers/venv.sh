#!/usr/bin/env bash
# Python programs for tests, every version pinned.
#   venv.sh NAME    installs what NAME.txt beside this script lists, once, and prints where it is: below STONEKEEP_TEST_CACHE, or
#                   target/servers
set -euo pipefail
name=${1:?moto, ministack, smtp or manifests} here=$(realpath "$(dirname "$0")")
kept=${STONEKEEP_TEST_CACHE:-$(realpath "$here/../..")/target/servers}/$name
if ! cmp -s "$here/$name.txt" "$kept/installed.txt"; then
  rm -rf "$kept"
  mkdir -p "$kept"
  # Debian's own: another Python in the path may lack venv.
  /usr/bin/python3 -m venv "$kept"
  "$kept/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/$name.txt" >&2
  cp "$here/$name.txt" "$kept/installed.txt"
fi
echo "$kept"
