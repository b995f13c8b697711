#!/usr/bin/env bash
# Prints the first port of a hundred consecutive ones of which the ports the servers here are given are free. They lie below
# the range from which the kernel hands out ports to clients (32768 and up), so that no connection can be on them already.
set -euo pipefail
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
taken() { local offset; for offset in 0 1 20 21 30 31 {90..98}; do ! listens $(($1 + offset)) || return 0; done; return 1; }
start=$((RANDOM % 120))
for try in $(seq 0 119); do
  port=$((20000 + (start + try) % 120 * 100))
  taken "$port" || { echo "$port"; exit; }
done
echo "no hundred free ports between 20000 and 32000: end what listens there" >&2
exit 75
