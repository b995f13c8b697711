#!/usr/bin/env bash
# A throw-away S3 server with Object Lock on loopback: a Ceph monitor, an OSD in memory, a RADOS gateway.
#   ceph.sh up DIR PORT    starts it (ports PORT, PORT+1 and PORT+20 to PORT+80) with the users owner, writer, reader and watcher,
#                          whose access keys are OWNER, WRITER, READER and WATCHER and whose secrets are ownersecret, writersecret, readersecret, watchersecret
#                          PORT+1 speaks TLS; DIR/ca.pem signed its certificate
#                          CEPH_RGW_EXTRA: a line more for the gateway's configuration
#   ceph.sh down DIR       ends it by its recorded process ids and removes DIR
set -euo pipefail
command=${1:?up or down} dir=$(realpath -m "${2:?a directory}")

if [ "$command" = down ]; then
  for pid in $(cat "$dir"/run/*.pid 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
  sleep 0.3
  rm -rf "$dir"
  exit
fi
[ "$command" = up ] || { echo "usage: $0 up DIR PORT | down DIR" >&2; exit 64; }

port=${3:?a port} monitor=$((${3} + 20)) keyring=$dir/keyring
mkdir -p "$dir"/{mon,osd0,run,log,rgw}
fsid=$(uuidgen)
cat > "$dir/ceph.conf" <<C
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$monitor/0,v1:127.0.0.1:$((monitor + 1))/0]
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = $keyring
ms bind ipv4 = true
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind port min = $((monitor + 10))
ms bind port max = $((monitor + 60))
run dir = $dir/run
log file = $dir/log/\$name.log
admin socket = $dir/run/\$name.\$pid.asok
pid file = $dir/run/\$name.pid
log to stderr = false
err to stderr = true
# One copy, few placement groups, nothing that needs ceph-mgr.
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon pg warn min per osd = 0
mon max pg per osd = 5000
mon warn on pool no redundancy = false
# Map changes are committed at once.
paxos propose interval = 0.01
paxos min wait = 0.01
mon tick interval = 1
mon data avail crit = 1
mon data avail warn = 1
[mon]
mon data = $dir/mon
mon cluster log file = $dir/log/cluster.log
mon osd min in ratio = 0
mon election timeout = 1
[osd]
osd data = $dir/osd0
osd objectstore = memstore
memstore device bytes = 8589934592
memstore page set = true
osd max object size = 1073741824
osd class load list = *
osd class default list = *
osd scrub min interval = 1e9
osd scrub max interval = 1e9
osd deep scrub interval = 1e9
osd memory target = 1073741824
osd fast shutdown = true
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$port ssl_endpoint=127.0.0.1:$((port + 1)) ssl_certificate=$dir/server.pem ssl_private_key=$dir/server.key
rgw data = $dir/rgw
rgw crypt require ssl = false
rgw enable usage log = false
rgw enable ops log = false
rgw dns name = localhost
rgw rados pool pg num min = 1
rgw bucket default quota max objects = -1
rgw override bucket index max shards = 1
rgw gc obj min wait = 60
rgw thread pool size = 64
${CEPH_RGW_EXTRA:-}
C
export CEPH_CONF=$dir/ceph.conf
{
  "$(dirname "$0")/certificate.sh" "$dir"
  ceph-authtool -C "$keyring" -g -n mon. --cap mon 'allow *'
  ceph-authtool "$keyring" -g -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
  ceph-authtool "$keyring" -g -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' --cap mgr 'allow profile osd'
  ceph-authtool "$keyring" -g -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
  monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$monitor,v1:127.0.0.1:$((monitor + 1))]" "$dir/monmap"
  ceph-mon --mkfs -i a --monmap "$dir/monmap" --keyring "$keyring"
  ceph-mon -i a
  osd=$(uuidgen)
  ceph -n client.admin osd new "$osd" 0
  ceph-osd -i 0 --mkfs --osd-uuid "$osd"
  ceph-osd -i 0
  radosgw -n client.rgw
  for _ in $(seq 300); do curl -sf "http://127.0.0.1:$port/" && break; sleep 0.1; done
  for user in owner writer reader watcher; do
    radosgw-admin -n client.rgw user create --uid=$user --display-name=$user --access-key="${user^^}" --secret-key="${user}secret"
  done
} >"$dir/log/start.out" 2>&1 || { tail -5 "$dir/log/start.out" >&2; exit 1; }
