#!/usr/bin/env bash
# A file system that nobody can write to, with nothing on it but what a program needs to run. Needs root.
#   jail.sh build DIR PROGRAM…    copies the programs, their libraries, /bin/sh and the system's authorities to where they are
#   jail.sh run DIR COMMAND…      runs a command in it, read-only, as an unprivileged user, with the caller's environment
set -euo pipefail
command=${1:?build or run} dir=${2:?a directory}
shift 2
case $command in
  build)
    mkdir -p "$dir/proc" "$dir/dev" "$dir/etc/ssl/certs"
    touch "$dir/dev/null"
    cp /etc/ssl/certs/ca-certificates.crt "$dir/etc/ssl/certs/"
    for program in "$@" /bin/sh; do
      # The program, its loader and its libraries, each under its own path.
      for file in "$program" $(ldd "$program" | grep -o '/[^ ]*'); do
        [ -e "$dir$file" ] || install -D "$file" "$dir$file"
      done
    done
    ;;
  run)
    # The mounts are this process's own and end with it.
    # shellcheck disable=SC2016  # the inner shell expands
    exec unshare --mount --propagation private sh -euc '
      dir=$1; shift
      mount --bind "$dir" "$dir"
      mount --bind /dev/null "$dir/dev/null"
      mount -t proc proc "$dir/proc"
      mount -o remount,bind,ro "$dir"
      exec chroot --userspec=65532:65532 --groups= "$dir" "$@"' sh "$dir" "$@"
    ;;
  *) echo "usage: $0 build DIR PROGRAM… | run DIR COMMAND…" >&2; exit 64 ;;
esac
