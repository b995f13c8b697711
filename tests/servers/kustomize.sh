#!/usr/bin/env bash
# kustomize from the Debian release that has it (trixie), unpacked and not installed: it runs with this Debian's libc.
#   kustomize.sh    prints where it is: below STONEKEEP_TEST_CACHE, or target/servers
set -euo pipefail
kept=${STONEKEEP_TEST_CACHE:-$(realpath "$(dirname "$0")/../..")/target/servers}/kustomize
if [ ! -x "$kept/usr/bin/kustomize" ]; then
  mkdir -p "$kept/lists/partial"
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
  mirror=${mirror:-$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)}
  trusted=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$trusted] ${mirror:-http://deb.debian.org/debian} trixie main" >"$kept/sources.list"
  apt=(apt-get -qq -o "Dir::State::lists=$kept/lists" -o "Dir::Cache=$kept" -o "Dir::Etc::sourcelist=$kept/sources.list"
    -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o Debug::NoLocking=true -o APT::Sandbox::User=root)
  "${apt[@]}" update >&2
  (cd "$kept" && "${apt[@]}" download kustomize >&2)
  dpkg -x "$kept"/kustomize_*.deb "$kept"
  rm -rf "$kept/lists" "$kept"/*.deb
fi
echo "$kept/usr/bin/kustomize"
