"""Every secret of the clusters, and their authority, is changed while the service is used."""

from __future__ import annotations

import time
from pathlib import Path

import clusters
import faults
import pytest
from lab import ROOT, SUFFIX, Lab, summary

LAB = Lab("restore_ha", 4390)
FILES = ROOT / "build/lab/restore_ha"
STATE = {f"state{number}": f"172.28.31.1{number}" for number in (1, 2, 3)}
CLUSTER = clusters.Redis(LAB, STATE)
SECRETS = ("database", "redis", "redis_replication", "redis_sentinel", "redis_haproxy", "patroni_replication")
SENTINEL_SUFFIX = "@:/%?$"
PSQL = "PGPASSWORD=$SECRET psql -h 127.0.0.1 -p 5000 -U prefect -d prefect -qAtc 'SELECT current_user' 2>&1 || true"
# Etcd and Patroni ask for a certificate of the client.
CLIENT = "-cert /etc/prefect-tls/etcd.crt -key /etc/prefect-tls/etcd.key"
SERVERS = {
    "etcd": f"2379 {CLIENT}",
    "Patroni": f"8008 {CLIENT}",
    "PostgreSQL": "5432 -starttls postgres",
    "Redis": "6379",
    "Sentinel": "26379",
}
REDIS = "redis-cli -h 127.0.0.1 -p {port} --tls --cacert /etc/prefect-tls/ca.crt"


def answer(host: str, port: int, user: str, password: str) -> str:
    """What Redis, or Sentinel, says to a login."""
    escaped = password.replace("\\", "\\\\").replace('"', '\\"')
    return LAB.on(host, f"{REDIS.format(port=port)} <<'END' 2>&1 || true\nAUTH {user} \"{escaped}\"\nEND").strip()


def verified(host: str, authority: str) -> set[str]:
    """The servers of a host that one who trusts the authority connects to."""
    return {name for name, server in SERVERS.items() if LAB.verified(host, f"{STATE[host]}:{server}", authority)}


def change(secret: str) -> str:
    """Writes another password where the inventory has it; the one before, as it is used."""
    before = (FILES / secret).read_text().strip()
    (FILES / secret).write_text(f"{secret}-of-{time.time_ns()}")
    return before + (SENTINEL_SUFFIX if secret == "redis_sentinel" else SUFFIX)


def test_a_cluster_that_has_lost_redundancy_is_refused() -> None:
    LAB.on("state3", "systemctl stop redis-sentinel")
    played = LAB.play("rotate", expect=2)
    assert played.says("Nothing was changed. Fix this first", "Sentinel on state3 does not answer"), played.output[-3000:]
    assert played.changed == 0
    LAB.on("state3", "systemctl start redis-sentinel")
    faults.wait("Redis is whole", 60, CLUSTER.whole)


@pytest.mark.parametrize("authority", [pytest.param(False, id="secrets"), pytest.param(True, id="authority")])
def test_rotation(*, authority: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults.wait("Redis is whole", 60, CLUSTER.whole)
    former_ca = (FILES / "tls/ca.crt").read_text()
    trusted = tmp_path / "both.crt"
    if authority:
        LAB.play("rotate", prefect_rotate_ca="trust")
        trusted.write_text(former_ca + (FILES / "tls/ca-next.crt").read_text())
    before = {} if authority else {secret: change(secret) for secret in SECRETS}
    started = int(time.time())
    with LAB.load(tmp_path, rate=20, authority=trusted if authority else None) as load:
        played = LAB.play("rotate", seconds=2400, **({"prefect_rotate_ca": "true"} if authority else {}))
    with capsys.disabled():
        print(summary(f"rotation in {played.seconds:.0f} s", load.report))
    assert (load.report["failed"], load.report["lost"]) == (0, 0), load.report["failures"][:5]
    for host in STATE:
        # A client trusts its certificate at every time: Patroni has the new one before the former authority goes.
        assert "UNKNOWN_CA" not in LAB.on(host, f"journalctl --unit=patroni --since=@{started} --no-pager"), host
        for secret, user, port in (
            ("redis_replication", "replication", 6379),
            ("redis_sentinel", "sentinel", 26379),
            ("redis_haproxy", "haproxy", 26379),
        ):
            if not authority:
                assert "WRONGPASS" in answer(host, port, user, before[secret]), (host, secret)
        if authority:
            # Neither the hosts nor the members trust the former one.
            assert former_ca.strip() not in LAB.on(host, "cat /etc/prefect-tls/ca.crt")
            assert (verified(host, (FILES / "tls/ca.crt").read_text()), verified(host, former_ca)) == (set(SERVERS), set())
    if not authority:
        assert "password authentication failed" in LAB.on(
            "state1", f"export SECRET='{before['database'].replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'; {PSQL}"
        )
    assert LAB.play("site").changed == 0
