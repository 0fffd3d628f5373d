from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import (
    Client,
    ToolError,
    Tools,
    find_tools,
    fitting_tools,
    libpq_environment,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished

PARTS = {"host": "db", "port": 5433, "user": "prefect", "password": "s3cret'", "dbname": "prefect"}
LIST = """;
; Archive created at 2026-11-24 08:50:00 UTC
215; 1259 16389 TABLE public alembic_version prefect
3474; 0 16389 TABLE DATA public alembic_version prefect
3475; 0 16412 TABLE DATA public flow_run prefect
"""
REVISION = """--
COPY public.alembic_version (version_num) FROM stdin;
d4a7e1c93f52
\\.

"""


class Commands:
    """What was run; each ends as told."""

    def __init__(self, ended: Finished) -> None:
        self.ended = ended
        self.seen: list[tuple[list[str], Any]] = []

    def __call__(self, argv: Any, timeout: float, **options: Any) -> Finished:  # noqa: ARG002
        self.seen.append((list(argv), options["env"]))
        return self.ended


def client(ended: Finished) -> tuple[Client, Commands]:
    commands = Commands(ended)
    return Client(Tools(15, "/pg/15/bin"), PARTS, commands, Deadline(60)), commands


def test_installed_tools(tmp_path: Path) -> None:
    for name in ("9", "15", "17", "common"):
        (tmp_path / name / "bin").mkdir(parents=True)
    for name in ("9", "17", "common"):
        (tmp_path / name / "bin" / "pg_dump").touch()
    assert [tools.major for tools in find_tools(str(tmp_path))] == [9, 17]


@pytest.mark.parametrize(("server", "major"), [(14, 15), (15, 15), (16, 17), (17, 17)])
def test_the_tools_nearest_to_the_server_fit(server: int, major: int) -> None:
    assert fitting_tools([Tools(13, "a"), Tools(15, "b"), Tools(17, "c")], server).major == major


@pytest.mark.parametrize(
    ("installed", "have"), [([Tools(13, "a"), Tools(15, "b")], "the newest on this host is 15"), ([], "there are none")]
)
def test_tools_that_are_too_old(installed: list[Tools], have: str) -> None:
    with pytest.raises(ToolError, match=f"PostgreSQL 17.*{have}.*postgresql-client-17"):
        fitting_tools(installed, 17)


@pytest.mark.parametrize(
    ("tls", "mode", "authorities"),
    [
        (None, "disable", None),
        ({}, "disable", None),
        ({"enabled": False, "ca_file": "/ca"}, "disable", None),
        ({"enabled": False}, "disable", None),
        ({"enabled": True}, "verify-full", "/etc/ssl/certs/ca-certificates.crt"),
        ({"ca_file": "/ca"}, "verify-full", "/ca"),
        ({"ca_file": "/ca", "check_hostname": False}, "verify-ca", "/ca"),
    ],
)
def test_tls_as_our_own_client_has_it(tls: Any, mode: str, authorities: str | None) -> None:
    environment = libpq_environment({**PARTS, "tls": tls})
    assert (environment["PGSSLMODE"], environment.get("PGSSLROOTCERT")) == (mode, authorities)
    assert (environment["PGHOST"], environment["PGPORT"], environment["PGPASSWORD"]) == ("db", "5433", "s3cret'")


def test_the_password_is_in_no_argument() -> None:
    tools, commands = client(Finished(0, ""))
    tools.dump("/x.dump.partial", "0000-1")
    tools.read("/x.dump")
    tools.restore("/x.dump", "it's", 2)
    (dump, environment), (read, _of_read), (restore, _of_restore) = commands.seen
    assert dump[:5] == ["/pg/15/bin/pg_dump", "--format=custom", "--compress=1", "--file=/x.dump.partial", "--snapshot=0000-1"]
    assert read == ["/pg/15/bin/pg_restore", "--file=/dev/null", "/x.dump"]
    # A name may not turn into a connection string.
    assert "--dbname=dbname='it\\'s'" in restore and {"--no-owner", "--exit-on-error", "--jobs=2"} < set(restore)
    assert environment["PGPASSWORD"] == "s3cret'"
    assert not any("s3cret" in word for argv, _environment in commands.seen for word in argv)


@pytest.mark.parametrize(("major", "compression"), [(14, "1"), (15, "1"), (16, "zstd:1"), (17, "zstd:1")])
def test_a_dump_is_compressed_the_quickest_way_that_its_tools_have(major: int, compression: str) -> None:
    commands = Commands(Finished(0, ""))
    Client(Tools(major, f"/pg/{major}/bin"), PARTS, commands, Deadline(60)).dump("/x.dump.partial", "0000-1")
    assert f"--compress={compression}" in commands.seen[0][0]


def test_what_is_in_a_dump() -> None:
    assert client(Finished(0, LIST))[0].tables("/x") == {"public.alembic_version", "public.flow_run"}
    assert client(Finished(0, REVISION))[0].revision("/x") == "d4a7e1c93f52"
    assert client(Finished(0, "--\n"))[0].revision("/x") == ""


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        (Finished(1, "could not read from input file: end of file"), "reading /x as a whole failed .*exit code 1.*end of file"),
        (Finished(127, ""), "it said nothing"),
        (Finished(-9, "", timed_out=True), "had not ended within 60 s"),
    ],
)
def test_failures(ended: Finished, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        client(ended)[0].read("/x")
