#!/bin/sh
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
#
# Has another member lead etcd where this host leads it and has PostgreSQL's primary.
#
# A new leader of etcd gives every lease its whole time again (etcd 3.5, server/lease/lessor.go, Promote). Where both are lost with one host, Patroni
# waits for as long as the election takes and `patroni_ttl` after it, instead of what was left of it.
#
# From the environment: MEMBER, this host's name in Patroni, KEY, the key in etcd that holds the primary's name, and etcdctl's ETCDCTL_*.
set -eu

# endpoint, ID, version, size, leads, learner, term, index, applied index, errors
[ "$(etcdctl endpoint status | awk -F ', ' '{ print $5 }')" = true ] || exit 0
[ "$(etcdctl get --print-value-only "$KEY")" = "$MEMBER" ] || exit 0
# Of those that answer, the one that has applied most.
next=$({ etcdctl endpoint status --cluster 2>/dev/null || true; } | awk -F ', ' '$5 == "false" && $6 == "false" { print $9, $2 }' | sort -n | tail -n 1)
if [ -z "$next" ]; then
  echo "<5>etcd is led from here, where PostgreSQL's primary is, and no other member answers"
  exit 0
fi
echo "<5>PostgreSQL's primary is here, so another member is to lead etcd: $(etcdctl move-leader "${next#* }")"
