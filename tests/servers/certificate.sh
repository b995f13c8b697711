#!/usr/bin/env bash
# Makes a certificate authority and a certificate of it for 127.0.0.1, which a server on loopback can show.
#   certificate.sh DIR    DIR/ca.pem, DIR/server.pem and its key DIR/server.key
set -euo pipefail
dir=${1:?a directory}
echo 'subjectAltName=IP:127.0.0.1' >"$dir/extensions"
{
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=test CA' -keyout "$dir/ca.key" -out "$dir/ca.pem"
  openssl req -newkey rsa:2048 -nodes -subj '/CN=127.0.0.1' -keyout "$dir/server.key" -out "$dir/server.csr"
  openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
    -extfile "$dir/extensions" -out "$dir/server.pem"
  chmod 600 "$dir/server.key"
} >"$dir/openssl.out" 2>&1 || { cat "$dir/openssl.out" >&2; exit 1; }
