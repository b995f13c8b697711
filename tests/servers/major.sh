#!/usr/bin/env bash
# The programs of a PostgreSQL major that this Debian does not have, from the Debian release that has it, unpacked and not
# installed: they run with their own libraries, need no chroot and leave nothing behind.
#   major.sh MAJOR DIR     unpacks into DIR and prints where its programs are; packages are kept in target/postgres/MAJOR
set -euo pipefail
major=${1:?a major} dir=$(realpath -m "${2:?a directory}") root=$(realpath "$(dirname "$0")/../..")
case $major in
  13) release=bullseye ;;
  17) release=trixie ;;
  18) release=sid ;;
  *) echo "no Debian release has PostgreSQL $major" >&2; exit 64 ;;
esac
kept=$root/target/postgres/$major
mkdir -p "$kept/lists/partial" "$kept/archives/partial" "$dir"
if [ ! -e "$kept/complete" ]; then
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
  mirror=${mirror:-$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)}
  mirror=${mirror:-http://deb.debian.org/debian} trusted=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$trusted] $mirror $release main" >"$kept/sources.list"
  # A pg_dump must know what the servers' last security updates have brought.
  security=$(sed -n -e 's/^URIs: *\(.*security[^ ]*\) *$/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1) || true
  [ "$release" = sid ] || echo "deb [signed-by=$trusted] ${security:-${mirror%/}-security} $release-security main" >>"$kept/sources.list"
  # Nothing counts as installed, so that every library comes along.
  : >"$kept/status"
  apt=(apt-get -qq -o "Dir::State::lists=$kept/lists" -o "Dir::State::status=$kept/status" -o "Dir::Cache=$kept"
    -o "Dir::Cache::archives=$kept/archives" -o "Dir::Etc::sourcelist=$kept/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o APT::Install-Recommends=false -o Debug::NoLocking=true -o APT::Sandbox::User=root)
  "${apt[@]}" update >&2
  "${apt[@]}" install -y --download-only "postgresql-$major" >/dev/null
  touch "$kept/complete"
fi
for package in "$kept"/archives/*.deb; do dpkg -x "$package" "$dir"; done
chmod 755 "$dir"
bin=$dir/usr/lib/postgresql/$major/bin
loader=$(find "$dir" -path '*-linux-gnu/ld-linux-*' | head -n 1)
triple=$(basename "$(dirname "$loader")")
libraries=$dir/usr/lib/$triple:$dir/lib/$triple
for program in "$bin"/*; do
  # Some are scripts.
  patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$program" 2>/dev/null || true
done
"$bin/postgres" --version >&2
echo "$bin"
