#!/usr/bin/env bash
# Builds both Debian packages, for the Debian release and the architecture that it runs on.
#   deb.sh [DIR]                    a release build, some minutes; the packages are put into DIR, else target/debian
#   deb.sh --binaries FROM DIR      of the binaries in FROM, as they are: what the tests pack
set -euo pipefail
from=
if [ "${1:-}" = --binaries ]; then
  from=$(realpath "${2:?a directory}")
  shift 2
fi
root=$(realpath "$(dirname "$0")/..") out=$(realpath -m "${1:-$(dirname "$0")/../target/debian}")
cd "$root"
command -v cargo-deb >/dev/null || cargo install --locked --quiet cargo-deb --version 3.8.0
options=(--quiet)
if [ -n "$from" ]; then
  # cargo-deb packs what it finds in a target directory's `release`, never a debug build.
  target=$(mktemp -d "${TMPDIR:-/tmp}/stonekeep-deb.XXXXXX")
  trap 'rm -rf "$target"' EXIT
  mkdir "$target/release"
  strip -o "$target/release/stonekeepd" "$from/stonekeepd"
  strip -o "$target/release/stonekeep" "$from/stonekeep"
  cp "$from/pages" "$target/release/"
  # The quickest: gzip, as xz takes three times as long and cargo-deb's own gzip minutes.
  options+=(--fast --compress-system --compress-type gz)
else
  target=${CARGO_TARGET_DIR:-$root/target}
  CARGO_TARGET_DIR=$target cargo build --release --locked -p stonekeepd -p stonekeep -p stonekeep-packaging
fi
rm -rf "$target/release/packaging"
# Pages and packages are dated by the changelog, so that the same source makes the same files.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --file packaging/debian/changelog --show-field Timestamp)
export SOURCE_DATE_EPOCH
"$target/release/pages" "$target/release/packaging" "$(date --utc --date="@$SOURCE_DATE_EPOCH" +%F)"
gzip --best --no-name "$target"/release/packaging/*/man/*.1
mkdir -p "$out"
for package in stonekeepd stonekeep; do
  CARGO_TARGET_DIR=$target cargo deb --no-build "${options[@]}" --package "$package" --output "$out/"
done
