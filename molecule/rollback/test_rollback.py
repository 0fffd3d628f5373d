"""The other ways in which a cluster is changed while people use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import NEW, PREVIOUS, Lab, summary

LAB = Lab("rollback", 4300)
APIS = ("api1", "api2", "api3")


@contextmanager
def noon(folder: Path, what: str, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """People use the service, and none of them notices."""
    with LAB.load(folder) as load:
        yield
    with capsys.disabled():
        print(summary(what, load.report))
    assert (load.report["failed"], load.report["lost"]) == (0, 0), load.report


def revision() -> str:
    return str(LAB.on("state1", "sudo -u postgres psql -qAtd prefect -c 'SELECT version_num FROM alembic_version'")).strip()


def test_there_is_nothing_to_go_back_to_yet() -> None:
    played = LAB.play("rollback", expect=2)
    assert played.says("No host has a release before the one it runs", "Nothing was changed")


def test_back_and_forth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = revision()
    LAB.play("site", prefect_version=NEW)
    newer = revision()
    assert LAB.versions(APIS) == [NEW] * 3
    with noon(tmp_path, "rollback", capsys):
        LAB.play("rollback", prefect_version=NEW)
    assert LAB.versions([*APIS, "state1"]) == [PREVIOUS] * 4
    assert revision() == newer
    LAB.play("rollback", prefect_version=NEW)
    assert LAB.versions(APIS) == [NEW] * 3
    LAB.play("rollback", prefect_rollback_schema=True, prefect_version=NEW)
    assert LAB.versions(APIS) == [PREVIOUS] * 3
    assert revision() == older
    assert LAB.on("state1", "ls /var/backups/prefect/*.dump").split()


def test_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = LAB.started(APIS)
    with noon(tmp_path, "restart", capsys):
        LAB.play("restart", prefect_version=PREVIOUS)
    assert not set(LAB.started(APIS)) & set(before)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({}, "prefect_remove_host is not set", id="no host"),
        pytest.param({"prefect_remove_host": "state1"}, "state1, which is not in the group prefect_api", id="no API host"),
    ],
)
def test_removal_refused(variables: dict[str, Any], says: str) -> None:
    played = LAB.play("remove_api", expect=2, prefect_version=PREVIOUS, **variables)
    assert played.says(says, "Nothing was changed")
    assert played.changed == 0


def test_one_less_and_one_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = "172.28.10.23:4200"
    with noon(tmp_path, "one host less", capsys):
        LAB.play("remove_api", prefect_version=PREVIOUS, prefect_remove_host="api3")
    assert address not in LAB.on("state1", "cat /etc/nginx/conf.d/prefect.conf")
    assert not LAB.on("api3", "ls -d /opt/prefect /etc/prefect /etc/systemd/system/prefect-* 2>/dev/null", check=False)
    with noon(tmp_path, "one host more", capsys):
        LAB.play("site", prefect_version=PREVIOUS)
    assert address in LAB.on("state1", "cat /etc/nginx/conf.d/prefect.conf")
    assert LAB.versions(APIS) == [PREVIOUS] * 3
