#!/usr/bin/env bash
# A throw-away Ceph of another Debian release, in a directory tree of its own that shares loopback with this one. Needs root.
#   ceph_release.sh up RELEASE DIR PORT    trixie (Ceph 18) or sid (Ceph 20), as ceph.sh does: the same ports, users and keys
#   ceph_release.sh down RELEASE DIR       ends it; the tree stays, below STONEKEEP_TEST_CACHE, or target/servers
set -euo pipefail
command=${1:?up or down} release=${2:?trixie or sid} dir=$(realpath -m "${3:?a directory}") here=$(realpath "$(dirname "$0")")
tree=${STONEKEEP_TEST_CACHE:-$(realpath "$here/../..")/target/servers}/$release
run() { chroot "$tree" env LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

if [ ! -e "$tree/complete" ] && [ "$command" = up ]; then
  [ -x /usr/sbin/debootstrap ] || { apt-get update -qq; apt-get install -y -qq --no-install-recommends debootstrap >/dev/null; }
  rm -rf "$tree"
  mkdir -p "$(dirname "$tree")"
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
  mirror=${mirror:-$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)}
  debootstrap --variant=minbase "$release" "$tree" "${mirror:-http://deb.debian.org/debian}" >"$tree.log" 2>&1 ||
    { tail -n 5 "$tree.log" >&2; exit 75; }
  cp /etc/resolv.conf "$tree/etc/"
  # No package starts a server of its own.
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
  chmod +x "$tree/usr/sbin/policy-rc.d"
  # A mirror may hold an sid that is some weeks old.
  { run apt-get -o Acquire::Check-Valid-Until=false update &&
    run apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd ceph-common curl openssl procps uuid-runtime; } \
    >>"$tree.log" 2>&1 || { tail -n 5 "$tree.log" >&2; exit 75; }
  touch "$tree/complete"
fi

mkdir -p "$tree/servers"
cp "$here/ceph.sh" "$here/certificate.sh" "$tree/servers/"
inside=/run/stonekeep$dir
case $command in
  up)
    run dpkg-query --show radosgw >&2
    run /servers/ceph.sh up "$inside" "${4:?a port}"
    mkdir -p "$dir"
    cp "$tree$inside/ca.pem" "$dir/"
    ;;
  down)
    [ ! -e "$tree$inside" ] || run /servers/ceph.sh down "$inside"
    rm -rf "$dir"
    ;;
  *) echo "usage: $0 up RELEASE DIR PORT | down RELEASE DIR" >&2; exit 64 ;;
esac
