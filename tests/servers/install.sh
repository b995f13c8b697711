#!/usr/bin/env bash
# Installs what the tests and the demonstration need and this Debian lacks. Starts and stops no server of the machine's.
set -euo pipefail

need=()
want() { [ -e "$2" ] || need+=("$1"); }
want postgresql-15 /usr/lib/postgresql/15/bin/initdb
want radosgw /usr/bin/radosgw
want ceph-mon /usr/bin/ceph-mon
want ceph-osd /usr/bin/ceph-osd
want ceph-common /usr/bin/ceph
want age /usr/bin/age
want zstd /usr/bin/zstd
want jq /usr/bin/jq
want curl /usr/bin/curl
want openssl /usr/bin/openssl
want openssh-client /usr/bin/ssh-keygen
want uuid-runtime /usr/bin/uuidgen
want ca-certificates /etc/ssl/certs/ca-certificates.crt
want gcc /usr/bin/cc
want libc6-dev /usr/include/stdio.h
want make /usr/bin/make
want cmake /usr/bin/cmake
# For a server that prints money otherwise.
want locales /usr/share/i18n/locales/de_DE
want pgbouncer /usr/sbin/pgbouncer
want patchelf /usr/bin/patchelf
want chromium /usr/bin/chromium
# pdftotext: what of a page gets onto paper.
want poppler-utils /usr/bin/pdftotext
want fonts-dejavu-core /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
# For the image of the Containerfile.
want debootstrap /usr/sbin/debootstrap
# systemd-analyze and systemd-notify; nothing here runs systemd itself.
want systemd /usr/bin/systemd-analyze
want dpkg-dev /usr/bin/dpkg-shlibdeps
want lintian /usr/bin/lintian
want mandoc /usr/bin/mandoc
# For moto; Debian's Python comes without.
/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || need+=(python3-venv)
/usr/bin/python3 -c 'import seccomp' 2>/dev/null || need+=(python3-seccomp)
# Of Prometheus the checker of its rules alone: the package would start a server.
promtool=$(command -v promtool || true)
[ ${#need[@]} -gt 0 ] || [ -z "$promtool" ] || exit 0

sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
# Debian's package would start a cluster of its own, which nobody asked for.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  "${sudo[@]}" mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
echo "installing ${need[*]} ${promtool:-promtool}" >&2
"${sudo[@]}" apt-get update -qq
[ ${#need[@]} -eq 0 ] || "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
if [ -z "$promtool" ]; then
  packages=$(mktemp -d)
  (cd "$packages" && apt-get -o APT::Sandbox::User=root download -qq prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool)
  "${sudo[@]}" install -m 755 "$packages/usr/bin/promtool" /usr/local/bin/promtool
  rm -rf "$packages"
fi
