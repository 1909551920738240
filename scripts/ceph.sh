#!/bin/bash
# A small Ceph with an S3 server on 127.0.0.1, for tests: one monitor, one OSD, one radosgw, no systemd.
#
#   scripts/ceph.sh start DIR          makes it in DIR, which must be empty, and prints the S3 endpoint
#   scripts/ceph.sh stop-s3 DIR        stops radosgw alone
#   scripts/ceph.sh start-s3 DIR       starts it again, on the same port
#   scripts/ceph.sh stop-osd DIR       stops the OSD alone
#   scripts/ceph.sh start-osd DIR      starts it again
#   scripts/ceph.sh stop DIR           stops all of it; DIR may be removed then
#
# Needs the Debian packages ceph-mon, ceph-osd and radosgw. The user's keys are "kelpie" and "kelpie-secret".
set -euo pipefail

command=${1:?start, stop, stop-s3, start-s3, stop-osd or start-osd}
dir=$(realpath "${2:?a directory}")
conf=$dir/ceph.conf

free_port() {
  local port
  for ((port = 20000 + RANDOM % 20000; ; port++)); do
    is_open ":$port" || { echo "$port" && return; }
  done
}

write_conf() {
  local fsid=$1 mon_port=$2 s3_port=$3
  cat >"$conf" <<END
[global]
fsid = $fsid
mon_host = v1:127.0.0.1:$mon_port/0
public_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = $dir
admin_socket = $dir/\$name.asok
log_file = $dir/\$name.log
pid_file = $dir/\$name.pid
crash_dir = $dir/crash
ms_bind_msgr2 = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data = $dir/mon
mon_data_avail_crit = 1
mon_osd_full_ratio = 0.99
osd_data = $dir/osd
osd_objectstore = bluestore
bluestore_block_size = 8589934592
bluestore_block_db_create = false
bluestore_block_wal_create = false
osd_memory_target = 939524096
osd_class_update_on_start = false
osd_crush_update_on_start = false

[client.rgw]
rgw_data = $dir/rgw
rgw_frontends = beast endpoint=127.0.0.1:$s3_port
rgw_enable_usage_log = false
rgw_enable_gc_threads = true
END
}

# Waits for a command to succeed, for so many seconds.
await() {
  local seconds=$1 end
  end=$((SECONDS + seconds))
  shift
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then
      echo "ceph.sh: $* did not succeed within $seconds s; see $dir/*.log" >&2
      return 1
    fi
    sleep 0.2
  done
}

end_process() {
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for ((tries = 0; tries < 100; tries++)); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

start_osd() {
  ceph-osd -c "$conf" -i 0
  await 60 bash -c "ceph -c '$conf' osd stat | grep -q '1 up'"
}

start_s3() {
  radosgw -c "$conf" -n client.rgw
  await 120 is_open "$(endpoint)"
}

is_open() {
  local port=${1##*:}
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

endpoint() {
  sed -n 's/^rgw_frontends = beast endpoint=/http:\/\//p' "$conf"
}

start() {
  local fsid mon_port osd
  fsid=$(cat /proc/sys/kernel/random/uuid)
  mon_port=$(free_port)
  mkdir -p "$dir"/{mon,osd,rgw,crash}
  write_conf "$fsid" "$mon_port" "$(free_port)"
  monmaptool --create --clobber --fsid "$fsid" --addv a "[v1:127.0.0.1:$mon_port]" \
    "$dir/monmap" >/dev/null
  ceph-mon -c "$conf" -i a --mkfs --monmap "$dir/monmap"
  ceph-mon -c "$conf" -i a
  await 60 ceph -c "$conf" --connect-timeout 5 mon stat
  osd=$(cat /proc/sys/kernel/random/uuid)
  ceph -c "$conf" osd create "$osd" >/dev/null
  ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$osd" 2>/dev/null
  ceph -c "$conf" osd crush add osd.0 1.0 root=default host=here 2>/dev/null
  start_osd
  radosgw-admin -c "$conf" user create --uid kelpie --display-name kelpie \
    --access-key kelpie --secret-key kelpie-secret >/dev/null 2>&1
  start_s3
  endpoint
}

case $command in
start) start ;;
stop-s3) end_process client.rgw ;;
start-s3) start_s3 ;;
stop-osd) end_process osd.0 ;;
start-osd) start_osd ;;
stop)
  end_process client.rgw
  end_process osd.0
  end_process mon.a
  ;;
*)
  sed -n '2,11p' "$0" >&2
  exit 64
  ;;
esac
