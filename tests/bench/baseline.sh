#!/bin/bash
# The yardstick of `make bench`: the same installs and starts as site.yml, by hand, on all hosts at once, with no checks and no second run.
#
#   baseline.sh LOCK UV_LOCK POSTGRES REDIS SERVICES NGINX API...   (addresses; the ssh command line comes in $BENCH_SSH)
set -euo pipefail

lock=$1 uv_lock=$2 postgres=$3 redis=$4 services=$5 nginx=$6
shift 6
api=("$@")
read -ra ssh <<<"$BENCH_SSH"

on() { # host; the script to run there as root comes on standard input
  "${ssh[@]}" "$1" sudo bash -seu
}

install_postgres() {
  on "$postgres" <<'SH'
apt-get install -qq -y --no-install-recommends postgresql >/dev/null
conf=$(echo /etc/postgresql/*/main)
printf "listen_addresses = '*'\nmax_connections = 100\n" >"$conf/conf.d/prefect.conf"
echo 'host prefect prefect 0.0.0.0/0 scram-sha-256' >>"$conf/pg_hba.conf"
systemctl restart postgresql
sudo -u postgres psql -qc "CREATE ROLE prefect LOGIN PASSWORD 'prefect'"
sudo -u postgres createdb -O prefect prefect
SH
}

install_redis() {
  on "$redis" <<'SH'
apt-get install -qq -y --no-install-recommends redis-server >/dev/null
printf 'bind 0.0.0.0\nrequirepass prefect\nappendonly yes\nmaxmemory 512mb\n' >>/etc/redis/redis.conf
systemctl restart redis-server
SH
}

install_nginx() {
  on "$nginx" <<SH
apt-get install -qq -y --no-install-recommends nginx >/dev/null
cat >/etc/nginx/conf.d/prefect.conf <<'CONF'
map \$http_upgrade \$upgrade { default upgrade; "" close; }
upstream prefect_api { least_conn; zone prefect_api 64k; $(printf 'server %s:4200; ' "${api[@]}") }
server {
  listen 4200;
  location / {
    proxy_pass http://prefect_api;
    proxy_http_version 1.1;
    proxy_set_header Host \$http_host;
    proxy_set_header Upgrade \$http_upgrade;
    proxy_set_header Connection \$upgrade;
  }
}
CONF
systemctl reload-or-restart nginx
SH
}

install_prefect() { # host
  {
    echo "mkdir -p /opt/prefect && cat >/opt/prefect/uv.txt <<'LOCK'"
    cat "$uv_lock"
    echo LOCK
    echo "cat >/opt/prefect/lock.txt <<'LOCK'"
    cat "$lock"
    echo LOCK
    cat <<SH
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
apt-get install -qq -y --no-install-recommends python3-venv >/dev/null
python3 -m venv /opt/prefect/uv
/opt/prefect/uv/bin/pip install -q --require-hashes -r /opt/prefect/uv.txt
/opt/prefect/uv/bin/uv venv -q /opt/prefect/current
/opt/prefect/uv/bin/uv pip install -q --python /opt/prefect/current/bin/python --require-hashes --compile-bytecode -r /opt/prefect/lock.txt
useradd --system --home-dir /var/lib/prefect --create-home prefect
mkdir -p /etc/prefect
cat >/etc/prefect/prefect.env <<'ENV'
PREFECT_HOME=/var/lib/prefect
PREFECT_SERVER_DATABASE_DRIVER=postgresql+asyncpg
PREFECT_SERVER_DATABASE_HOST=$postgres
PREFECT_SERVER_DATABASE_NAME=prefect
PREFECT_SERVER_DATABASE_USER=prefect
PREFECT_SERVER_DATABASE_PASSWORD=prefect
PREFECT_SERVER_DATABASE_MIGRATE_ON_START=false
PREFECT_SERVER_EVENTS_MESSAGING_BROKER=prefect_redis.messaging
PREFECT_SERVER_EVENTS_MESSAGING_CACHE=prefect_redis.messaging
PREFECT_SERVER_EVENTS_CAUSAL_ORDERING=prefect_redis.ordering
PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect_redis.lease_storage
PREFECT_REDIS_MESSAGING_HOST=$redis
PREFECT_REDIS_MESSAGING_PASSWORD=prefect
PREFECT_SERVER_DOCKET_URL=redis://:prefect@$redis:6379/1
PREFECT_SERVER_ANALYTICS_ENABLED=false
DO_NOT_TRACK=1
ENV
unit() { printf '[Service]\nUser=prefect\nWorkingDirectory=/var/lib/prefect\nEnvironmentFile=/etc/prefect/prefect.env\nRestart=always\nExecStart=/opt/prefect/current/bin/prefect server %s\n[Install]\nWantedBy=multi-user.target\n' "\$2" >/etc/systemd/system/\$1.service; }
unit prefect-api "start --host 0.0.0.0 --no-services"
unit prefect-services "services start"
systemctl daemon-reload
SH
  } | on "$1"
}

say() { printf '%6d ms  %s\n' "$((($(date +%s%N) - began) / 1000000))" "$1"; }
began=$(date +%s%N)

install_postgres & install_redis & install_nginx &
for host in "${api[@]}" "$services"; do install_prefect "$host" & done
for job in $(jobs -p); do wait "$job"; done
say "packages and releases"

on "${api[0]}" <<'SH'
set -a; . /etc/prefect/prefect.env; set +a
sudo -E -H -u prefect /opt/prefect/current/bin/prefect server database upgrade -y >/dev/null
SH
say "migration"

for host in "${api[@]}"; do on "$host" <<<"systemctl enable -q --now prefect-api" & done
on "$services" <<<"systemctl enable -q --now prefect-services" &
for job in $(jobs -p); do wait "$job"; done
for host in "${api[@]}" "$nginx"; do
  until curl --noproxy "*" -sfo /dev/null --max-time 2 "http://$host:4200/api/ready"; do sleep 0.2; done
done
say "healthy behind nginx"
