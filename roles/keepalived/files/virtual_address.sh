#!/bin/sh
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
#
# Whether this load balancer should have the virtual address, and how it gives it up without a failed request.
#
#   virtual_address.sh COMMAND ADDRESS URL CA CLOSING OWN [PEER...]
#
# ADDRESS is the virtual one, URL how clients reach nginx, CA the authorities that its certificate is from (-: those of the system), CLOSING the
# file while which is there nginx ends each connection with its answer, OWN and PEER the addresses of the load balancers.
#
#   check     0 unless another load balancer is of more use; keepalived runs it every second. USE has then how much use this one is
#   another   0 if another load balancer reaches an API server
#   release   before keepalived stops: on the host that has the address, nginx is drained
#   released  after keepalived has stopped: waits until another one answers, and lifts what release has done
set -u

command=$1 address=$2 url=$3 ca=$4 closing=$5 own=$6
shift 6

table=prefect_virtual_address
USE=${USE:-/run/prefect-virtual-address/use}

# How much use the nginx at an address is: 2 it reaches an API server, 1 it answers, 0 it does not.
use() {
  case $1 in
    *:*) set -- "[$1]" ;;
  esac
  set -- --silent --fail --user-agent keepalived --connect-to "::$1:" --output /dev/null --write-out '%{http_code} '
  [ "$ca" = - ] || set -- "$@" --cacert "$ca"
  case $(curl --disable --fail-early --noproxy '*' "$@" --max-time 1 "$url/nginx-health" --next --noproxy '*' "$@" --max-time 3 "$url/api/health") in
    '200 200 ') echo 2 ;;
    '200 '*) echo 1 ;;
    *) echo 0 ;;
  esac
}

# Whether one of the others is of more use than that.
better() {
  least=$1
  shift
  for peer; do
    [ "$(use "$peer")" -le "$least" ] || return 0
  done
  return 1
}

fit() {
  mine=$(use "$own")
  echo "$mine" >"$USE"
  [ "$mine" = 2 ] || ! better "$mine" "$@"
}

# The clients with a connection to the address, by their ports.
clients() {
  ss -H -n -t state established src "$address" | while read -r _ _ _ peer _; do
    echo "$peer"
  done | sort
}

# Seconds until an idle connection counts as idle, and tenths of one until a request counts as one that may take any time.
idle=3 longest=20

release() {
  [ -n "$(ip -oneline address show to "$address")" ] && better 1 "$@" || return 0
  # From now on each answer ends its connection. Those that are left then are idle, which a reload ends, or websockets.
  before=$(mktemp)
  clients >"$before"
  touch "$closing"
  sleep "$idle"
  systemctl kill --kill-whom=main --signal=HUP nginx.service
  sleep 0.5
  # A client that connects is not answered, and tries again a second later, by when the address is elsewhere.
  family=ip
  case $address in
    *:*) family=ip6 ;;
  esac
  nft --file - <<END
table inet $table {
  chain arriving {
    type filter hook input priority -20; policy accept;
    $family daddr $address tcp flags & (fin | syn | rst | ack) == syn drop
  }
}
END
  while [ "$longest" -gt 0 ] && [ -n "$(clients | comm -13 "$before" -)" ]; do
    sleep 0.1
    longest=$((longest - 1))
  done
  rm "$before"
  # Websockets end here, and their clients come back; they would not notice otherwise until they send something.
  ss --kill -H -n -t state established src "$address" >/dev/null
}

released() {
  rm -f "$closing"
  nft delete table inet $table 2>/dev/null || return 0
  tries=20
  while [ "$tries" -gt 0 ] && [ "$(use "$address")" = 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
}

case $command in
  check) fit "$@" || {
    sleep 0.2
    fit "$@"
  } ;;
  another) better 1 "$@" ;;
  release) release "$@" ;;
  released) released ;;
  *) exit 2 ;;
esac
