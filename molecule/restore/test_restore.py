"""Data that is written, dumped, lost and restored, in this order: each test goes on from the one before."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import opener

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOST = "prefect-restore-prefect1"
FOLDER = "/var/backups/prefect"
UNITS = "prefect-api@4200 prefect-services postgresql@15-main redis-server nginx"


def playbook(name: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    command = ["ansible-playbook", "-i", str(HERE / "inventory"), f"playbooks/{name}.yml", "-e", json.dumps(variables), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)


def play(name: str, *arguments: str, **variables: Any) -> str:
    """Runs a playbook that has to succeed; its output on one line."""
    result = playbook(name, *arguments, **variables)
    assert result.returncode == 0, result.stdout + result.stderr
    return " ".join((result.stdout + result.stderr).split())


def refused(name: str, **variables: Any) -> str:
    """Runs a playbook that has to fail before it has changed anything; its output on one line."""
    before = started()
    result = playbook(name, **variables)
    output = " ".join((result.stdout + result.stderr).split())
    assert result.returncode != 0, output
    assert "changed=0" in output, output
    assert started() == before
    return output


def on_host(script: str, user: str = "root") -> str:
    command = ["docker", "exec", "--user", user, HOST, "bash", "-euc", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def databases() -> list[str]:
    return on_host("psql -Atc 'SELECT datname FROM pg_database ORDER BY 1'", "postgres").split()


def started() -> str:
    """When each service was started: what changes when one is touched."""
    return on_host(f"systemctl show --property=ExecMainStartTimestampMonotonic --value {UNITS}")


def dumps() -> list[str]:
    """The names of the complete dumps, newest first."""
    names = on_host(f"ls {FOLDER}").split()
    return sorted((name for name in names if name.endswith(".dump") and f"{name}.json" in names), reverse=True)


def ask(path: str, body: dict[str, Any]) -> Any:
    url = f"{os.environ['RESTORE_URL']}{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310  the scenario's own
    login = base64.b64encode(os.environ["RESTORE_AUTH_STRING"].encode()).decode()
    request.add_header("Authorization", f"Basic {login}")
    with opener(Path(os.environ["RESTORE_AUTHORITY"]))(request, timeout=30) as answer:
        return json.load(answer)


def write(flow: str) -> None:
    ask("/flows/", {"name": flow})


def flows() -> set[str]:
    return {flow["name"] for flow in ask("/flows/filter", {})}


def test_backup() -> None:
    # So that it can be run again on the same host.
    on_host("psql --quiet -c 'TRUNCATE flow CASCADE' prefect", "postgres")
    write("early")
    output = play("backup")
    assert f"Took {FOLDER}/{dumps()[0]}" in output
    assert on_host(f"stat -c %a {FOLDER} {FOLDER}/*.dump {FOLDER}/*.json").split() == ["700", "600", "600"]
    manifest = json.loads(on_host(f"cat {FOLDER}/{dumps()[0]}.json"))
    assert manifest["tables"]["public.flow"] == len(flows())
    assert manifest["prefect_version"] and manifest["revision"]
    assert manifest["sha256"] == on_host(f"sha256sum {FOLDER}/{dumps()[0]}").split()[0]


def test_a_dump_that_is_new_enough_will_do(tmp_path: Path) -> None:
    before = dumps()
    output = play("backup", prefect_backup_max_age=3600)
    assert f"Kept {FOLDER}/{before[0]}" in output and "changed=0" in output
    assert dumps() == before
    # The copy of it changes only the machine that runs Ansible, and only once.
    assert "Copied to" in play("backup", prefect_backup_max_age=3600, prefect_backup_copy_to=str(tmp_path))
    copy = tmp_path / before[0]
    assert (
        subprocess.run(["sha256sum", copy], capture_output=True, text=True, check=True).stdout.split()[0]
        == on_host(f"sha256sum {FOLDER}/{before[0]}").split()[0]
    )
    assert (tmp_path / f"{before[0]}.json").exists()
    assert "prefect-backup-" not in on_host("ls /var/tmp")
    assert "changed=0" in play("backup", prefect_backup_max_age=3600, prefect_backup_copy_to=str(tmp_path))


def test_a_dry_run_takes_none() -> None:
    before = dumps()
    assert "Would take a dump" in play("backup", "--check")
    assert dumps() == before


def test_a_damaged_dump_will_not_do() -> None:
    newest = dumps()[0]
    on_host(f"cp -a {FOLDER}/{newest} /srv/kept; printf X | dd of={FOLDER}/{newest} bs=1 seek=20000 conv=notrunc status=none")
    output = play("backup", prefect_backup_max_age=3600)
    assert "A dump is damaged and was passed over" in output and "Took" in output
    on_host(f"mv /srv/kept {FOLDER}/{newest}")
    assert len(dumps()) == 2


def test_rehearsal_leaves_nothing_behind() -> None:
    write("late")
    before = databases()
    running = started()
    # What a rehearsal leaves that was killed; and one that is none of ours.
    on_host("createdb prefect_rehearsal_20200101T000000Z; createdb prefect_rehearsal_mine", "postgres")
    output = play("restore", prefect_restore_rehearsal=True)
    assert "No service was touched" in output and "changed=0" in output
    on_host("dropdb prefect_rehearsal_mine", "postgres")
    assert databases() == before
    assert started() == running


@dataclass(frozen=True)
class Bad:
    """What makes /srv/bad.dump, and what the refusal must say."""

    script: str
    says: tuple[str, ...]


WITH_MANIFEST = """
import hashlib, json, os, sys
data = open("/srv/bad.dump", "rb").read()
manifest = json.load(open("/srv/good.dump.json"))
manifest.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), **json.loads(sys.argv[1]))
json.dump(manifest, open("/srv/bad.dump.json", "w"))
"""
OTHER = """
cp /srv/good.dump.json /srv/bad.dump.json
su postgres -c "dropdb --if-exists other; createdb other"
su postgres -c "psql --quiet other" <<< "{sql}"
su postgres -c "pg_dump --format=custom other" > /srv/bad.dump
su postgres -c "dropdb other"
python3 /srv/with_manifest.py '{manifest}'
"""
BAD = {
    "truncated": Bad(
        "head -c 30000 /srv/good.dump > /srv/bad.dump; cp /srv/good.dump.json /srv/bad.dump.json", ("30000 bytes", "truncated")
    ),
    "truncated, with a manifest to match": Bad(
        "head -c 30000 /srv/good.dump > /srv/bad.dump; python3 /srv/with_manifest.py '{}'", ("as a whole failed", "pg_restore")
    ),
    "one byte flipped": Bad(
        "cp /srv/good.dump /srv/bad.dump; cp /srv/good.dump.json /srv/bad.dump.json; "
        'python3 -c \'f = open("/srv/bad.dump", "r+b"); f.seek(20000); b = f.read(1); f.seek(20000); f.write(bytes([b[0] ^ 1]))\'',
        ("SHA-256", "changed or is damaged"),
    ),
    "no manifest": Bad("cp /srv/good.dump /srv/bad.dump", ("no manifest",)),
    "another application's": Bad(
        OTHER.format(sql="CREATE TABLE invoices (id int)", manifest="{}"), ("no dump of a Prefect database", "flow_run")
    ),
    "of a newer Prefect": Bad(
        OTHER.format(
            sql="CREATE TABLE flow_run (id int); CREATE TABLE alembic_version (v text); INSERT INTO alembic_version VALUES (123456789012)",
            manifest='{"revision": "123456789012"}',
        ),
        ("123456789012", "newer Prefect"),
    ),
    "not there": Bad("true", ("there is no file /srv/bad.dump",)),
}


# The others are found by the same code, of which there are unit tests, and each takes a run.
IN_SHORT = ("truncated, with a manifest to match", "of a newer Prefect")


@pytest.mark.parametrize("name", BAD if os.environ.get("PREFECT_TEST_FULL") else IN_SHORT)
def test_bad_dumps_are_refused_before_anything_stops(name: str) -> None:
    good = f"{FOLDER}/{dumps()[0]}"
    on_host(f"rm -f /srv/bad.dump*; cp {good} /srv/good.dump; cp {good}.json /srv/good.dump.json")
    on_host(f"cat > /srv/with_manifest.py <<'END'\n{WITH_MANIFEST}\nEND")
    on_host(BAD[name].script)
    before = databases()
    output = refused("restore", prefect_restore_file="/srv/bad.dump", prefect_restore_confirm=True)
    assert [words for words in BAD[name].says if words not in output] == [], output
    assert databases() == before


def test_a_restore_has_to_be_confirmed_and_named() -> None:
    assert "prefect_restore_confirm=yes" in refused("restore", prefect_restore_file="newest")
    assert "prefect_restore_file is missing" in refused("restore", prefect_restore_confirm=True)


def test_a_restore_that_fails_half_way_gives_the_service_back() -> None:
    before = databases()
    # No API server is healthy after a second, and by then the databases have been swapped.
    result = playbook("restore", prefect_restore_file="newest", prefect_restore_confirm=True, prefect_api_start_timeout=1)
    output = " ".join((result.stdout + result.stderr).split())
    assert result.returncode != 0, output
    assert "The live database is the one from before" in output and "Prefect was started again and serves" in output, output
    assert "did not become healthy" in output or "Wait until they are healthy" in output, output
    assert databases() == before
    assert flows() == {"early", "late"}
    assert on_host(f"systemctl is-active {UNITS}").split() == ["active"] * 5
    # And nothing else was started.
    listed = on_host("systemctl list-units --all --plain --no-legend 'prefect-*' | cut -d' ' -f1").split()
    # The timer's service is loaded or not, as it happens.
    assert [unit for unit in listed if unit != "prefect-retention.service"] == [
        "prefect-api@4200.service",
        "prefect-health-check.service",
        "prefect-services.service",
        "prefect-watchdog.service",
        "prefect-retention.timer",
    ]


def test_restore() -> None:
    before = databases()
    write("last")
    output = play("restore", prefect_restore_file=dumps()[-1], prefect_restore_confirm=True)
    assert "is healthy" in output
    assert flows() == {"early"}
    write("new")
    assert flows() == {"early", "new"}
    (previous,) = set(databases()) - set(before)
    assert previous.startswith("prefect_before_") and previous in output
    names = "psql -Atc 'SELECT name FROM flow ORDER BY 1'"
    assert on_host(f"{names} {previous}", "postgres").split() == ["early", "last", "late"]
    on_host(f"dropdb {previous}", "postgres")
    assert on_host(f"systemctl is-active {UNITS}").split() == ["active"] * 5


def test_only_the_newest_are_kept() -> None:
    before = dumps()
    # What a backup leaves that was killed.
    on_host(f"touch {FOLDER}/prefect-20200101T000000Z.dump.partial")
    output = play("backup")
    assert f"Removed {before[-1]}" in output
    assert len(dumps()) == 2 and dumps()[1] == before[0]
    assert "partial" not in on_host(f"ls {FOLDER}")
