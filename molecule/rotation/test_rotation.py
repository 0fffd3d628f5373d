"""Every secret is changed while people use the service."""

from __future__ import annotations

import base64
import ssl
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request

import pytest
from lab import HOSTS_AUTHORITY, ROOT, SUFFIX, Lab, opener, summary

LAB = Lab("rotation", 4330)
FILES = ROOT / "build/lab/rotation"
SECRETS = ("database", "redis", "auth")
# Prefect's user logs in with the password in the environment variable SECRET, and says who it is.
DATABASE = "PGPASSWORD=$SECRET psql -h 172.28.13.11 -U prefect -d prefect -qAtc 'SELECT current_user' 2>&1 || true"
# One connection to Redis, used until the file is there: by how many numbers the server knew it, and for how many seconds.
STOP = "/tmp/rotation-stop"
KEPT = f"""
import os, time, redis
client = redis.Redis.from_url(os.environ["PREFECT_SERVER_DOCKET_URL"], single_connection_client=True)
numbers, began = set(), time.monotonic()
while not os.path.exists("{STOP}"):
    numbers.add(client.client_id())
    time.sleep(0.5)
print(len(numbers), int(time.monotonic() - began))
"""
STATE_UNITS = ("redis-server", "postgresql@15-main")
# Each server of the first host, and how openssl gets to its certificate.
SERVERS = ("172.28.13.11:4200", "172.28.13.11:6379", "172.28.13.11:5432 -starttls postgres", "172.28.13.21:4200")
REDIS = 'printf \'AUTH prefect "%s"\\nPING\\n\' "$ESCAPED" | redis-cli -h 127.0.0.1 --tls --cacert /etc/prefect-tls/ca.crt 2>&1 || true'


def password(secret: str) -> str:
    return (FILES / secret).read_text().strip() + SUFFIX


def change(secret: str, value: str) -> str:
    """Write another password where the inventory has it, and return the one before."""
    before = password(secret)
    (FILES / secret).write_text(value)
    return before


def requested(auth_string: str, authority: Path | None = None) -> int:
    """The status of a request through the balancer, by one that trusts the lab's authority or another."""
    credentials = base64.b64encode(auth_string.encode()).decode()
    request = Request(f"{LAB.url}/admin/version", headers={"Authorization": f"Basic {credentials}"})  # noqa: S310  the lab's own
    try:
        with opener(authority or LAB.authority)(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def logged_in(script: str, secret: str) -> str:
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    quoted = ["'" + each.replace("'", "'\\''") + "'" for each in (secret, escaped)]
    return LAB.on("state1", f"export SECRET={quoted[0]} ESCAPED={quoted[1]}; {script}")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Neither PostgreSQL nor Redis is restarted meanwhile, and a connection to Redis that was there before is there afterwards."""
    before = [LAB.started(["state1"], unit) for unit in STATE_UNITS]
    LAB.on("state1", f"rm -f {STOP}")
    kept = subprocess.Popen(LAB.as_prefect("state1", KEPT), stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        LAB.on("state1", f"touch {STOP}")
        numbers, seconds = (kept.communicate(timeout=60)[0] or "0 0").split()
    assert [LAB.started(["state1"], unit) for unit in STATE_UNITS] == before
    assert (int(numbers), int(seconds) >= 30) == (1, True), (numbers, seconds)


def verified(server: str, authority: Path) -> bool:
    """Whether one that trusts the authority connects to a server, as an address and options of openssl."""
    return LAB.verified("state1", server, authority.read_text())


def test_a_secret_on_the_command_line_is_refused() -> None:
    played = LAB.play("rotate", expect=2, prefect_redis_password="another one")
    assert played.says("A secret is given with --extra-vars", "Nothing was changed")
    assert played.changed == 0


def test_no_request_fails_and_the_old_secrets_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    auth_string = LAB.auth_string
    with undisturbed(), LAB.load(tmp_path) as load:
        former = {secret: change(secret, f"{secret}-of-{time.time_ns()}") for secret in SECRETS}
        # Clients are told of the new one later.
        (FILES / "auth.former").write_text(former["auth"].removesuffix(SUFFIX))
        played = LAB.play("rotate")
    with capsys.disabled():
        print(summary("rotate", load.report), f"{played.seconds:.0f} s")
    assert (load.report["failed"], load.report["lost"]) == (0, 0), load.report
    assert played.says("Rotates the password of the database, the password of Redis, the auth string"), played.output[:5000]
    assert not [secret for secret in (*former.values(), *map(password, SECRETS)) if secret in played.output]
    assert "prefect" in logged_in(DATABASE, password("database"))
    assert "password authentication failed" in logged_in(DATABASE, former["database"])
    assert "PONG" in logged_in(REDIS, password("redis"))
    assert "WRONGPASS" in logged_in(REDIS, former["redis"])
    assert LAB.on("state1", "sudo -u postgres psql -qAtc \"SELECT rolname FROM pg_roles WHERE rolname LIKE '%_rotation'\"") == ""
    assert requested(LAB.auth_string) == requested(auth_string) == 200


def test_the_former_auth_string_ends_when_the_inventory_does_not_accept_it() -> None:
    former = f"admin:{(FILES / 'auth.former').read_text()}{SUFFIX}"
    (FILES / "auth.former").unlink()
    LAB.play("site")
    assert (requested(LAB.auth_string), requested(former)) == (200, 401)


def test_there_is_nothing_left_to_rotate() -> None:
    played = LAB.play("rotate")
    assert played.says("Every secret of the inventory is in use already")
    assert played.changed == 0, played.output


def test_every_host_trusts_the_authority_to_come(tmp_path: Path) -> None:
    with LAB.load(tmp_path) as load:
        played = LAB.play("rotate", prefect_rotate_ca="trust")
    assert (load.report["failed"], load.report["lost"]) == (0, 0), load.report
    assert played.says("Every host trusts the authority to come beside the one that signs.", HOSTS_AUTHORITY)
    assert [LAB.on(host, f"grep -c BEGIN {HOSTS_AUTHORITY}").strip() for host in ("state1", "api1", "api2")] == ["2", "2", "2"]
    assert [(FILES / "tls" / f"ca-next.{suffix}").exists() for suffix in ("crt", "key")] == [True, True]


def test_the_authority_is_replaced_with_no_failed_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, former, both = FILES / "tls", tmp_path / "former.crt", tmp_path / "both.crt"
    former.write_text((folder / "ca.crt").read_text())
    both.write_text(former.read_text() + (folder / "ca-next.crt").read_text())
    key = (folder / "ca.key").read_text()
    assert [verified(server, former) for server in SERVERS] == [True] * len(SERVERS)
    with undisturbed(), LAB.load(tmp_path, authority=both) as load:
        played = LAB.play("rotate", prefect_rotate_ca="true")
    with capsys.disabled():
        print(summary("rotate the authority", load.report), f"{played.seconds:.0f} s")
    assert (load.report["failed"], load.report["lost"]) == (0, 0), load.report
    assert played.says("Rotates the private authority")
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "ca.crt", "ca.key"]
    assert (folder / "ca.key").read_text() != key
    assert LAB.on("api1", f"cat {HOSTS_AUTHORITY}").strip() == (folder / "ca.crt").read_text().strip()
    assert [(verified(server, folder / "ca.crt"), verified(server, former)) for server in SERVERS] == [(True, False)] * len(SERVERS)
    assert requested(LAB.auth_string) == 200
    with pytest.raises(urllib.error.URLError) as refused:
        requested(LAB.auth_string, former)
    assert isinstance(refused.value.reason, ssl.SSLCertVerificationError)


def test_a_deployment_after_that_changes_nothing() -> None:
    assert LAB.play("site").changed == 0
