"""Each problem of a host, from fakes; PostgreSQL and Redis are servers on the loopback that say what they are told to."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._database import session
from ansible_collections.selfhosted.prefect.plugins.module_utils._host import preflight as _preflight
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.preflight import (
    ANY_IPV4,
    Connector,
    Space,
    disk_problems,
    downgrade_problems,
    interpreter_problems,
    listen_problems,
    python_problems,
    reach_problems,
    space_for,
    system_problems,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.sockets import Listener, Owner


@pytest.mark.parametrize(
    ("ended", "version", "said"),
    [
        (Finished(0, "3.11.2\n"), "3.11.2", ""),
        (Finished(0, "3.13.0\n"), "3.13.0", ""),
        (Finished(0, "3.12.1 ssl sqlite3\n"), "3.12.1", "/usr/bin/python3 was built without the modules ssl, sqlite3"),
        (Finished(0, "3.9.2\n"), "3.9.2", "Python 3.11 or newer is needed, but /usr/bin/python3 is 3.9.2."),
        (Finished(127, "cannot be run: No such file or directory"), "", "does not work: cannot be run: No such file or directory"),
        (Finished(0, "what?\n"), "", "does not work: what?"),
        (Finished(-9, "", timed_out=True), "", "did not answer within 20 s"),
    ],
)
def test_python(ended: Finished, version: str, said: str) -> None:
    problems, found = python_problems("/usr/bin/python3", "3.11", lambda *_, **__: ended)
    assert found == version
    assert said in "".join(problems)
    assert bool(problems) is bool(said)


def test_this_python_has_what_is_needed() -> None:
    assert python_problems(sys.executable, "3.11")[0] == []


def test_an_interpreter_in_usr_local() -> None:
    path = ["/usr/local/lib/python3.13", "/usr/local/lib/python3.13/site-packages"]
    problems = interpreter_problems("/usr/local/bin/python3.13", path)
    assert "/usr/local/bin/python3.13" in problems[0]
    assert "Set ansible_python_interpreter to /usr/bin/python3" in problems[0]
    assert interpreter_problems("/usr/bin/python3", ["/usr/lib/python3.11", "/usr/lib/python3/dist-packages"]) == []


@pytest.mark.parametrize(
    ("address", "listen", "families", "said"),
    [
        ("10.0.0.1", ANY_IPV4, {socket.AF_INET}, ""),
        ("fd00::1", "::", {socket.AF_INET6}, ""),
        ("both.example.com", "::", {socket.AF_INET, socket.AF_INET6}, ""),
        ("unknown.example.com", ANY_IPV4, set(), ""),
        ("six.example.com", "10.0.0.1", {socket.AF_INET6}, ""),
        ("six.example.com", ANY_IPV4, {socket.AF_INET6}, 'is IPv6. Set prefect_api_listen_address to "::"'),
        ("10.0.0.1", "::", {socket.AF_INET}, 'is IPv4. Set prefect_api_listen_address to "0.0.0.0"'),
    ],
)
def test_reached(address: str, listen: str, families: set[int], said: str) -> None:
    problems = reach_problems(address, listen, lambda _: families)
    assert said in "".join(problems)
    assert bool(problems) is bool(said)


@pytest.mark.parametrize(("address", "listen", "refused"), [("127.0.0.1", "::", True), ("::1", ANY_IPV4, True), ("::1", "::", False)])
def test_reached_at_an_address(address: str, listen: str, refused: bool) -> None:
    assert bool(reach_problems(address, listen)) is refused


@pytest.mark.parametrize(
    ("running", "wanted", "refused"),
    [
        pytest.param("3.8.8-0123456789ab", "3.7.8", True, id="older"),
        pytest.param("3.8.8-0123456789ab", "3.8.8", False, id="the same"),
        pytest.param("3.8.8-0123456789ab", "3.10.0", False, id="newer"),
        pytest.param("", "3.7.8", False, id="nothing there"),
    ],
)
def test_downgrade(tmp_path: Path, running: str, wanted: str, refused: bool) -> None:
    link = tmp_path / "current"
    if running:
        link.symlink_to(f"releases/{running}")
    problems = downgrade_problems(str(link), wanted)
    assert bool(problems) is refused
    assert all("playbook rollback" in problem and "3.8.8" in problem for problem in problems)


DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n# a comment\nID=debian\n'


@pytest.mark.parametrize(
    ("release", "systemd", "said"),
    [
        (DEBIAN, True, []),
        ("ID=ubuntu\nID_LIKE=debian\n", True, []),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", True, []),
        (
            'ID="rocky"\nID_LIKE="rhel centos fedora"\nPRETTY_NAME="Rocky Linux 9.4"\n',
            True,
            ["The operating system is Rocky Linux 9.4 (rocky)"],
        ),
        ("", True, ["The operating system is unknown"]),
        (DEBIAN, False, ["systemd does not run this host"]),
    ],
)
def test_system(release: str, systemd: bool, said: list[str]) -> None:
    problems, _seen = system_problems(["debian"], release, systemd)
    assert [each[: len(start)] for each, start in zip(problems, said, strict=True)] == said


def test_any_system() -> None:
    assert system_problems([], "ID=void\n", True) == ([], "void")


GB = 10**9


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"/opt/a": 1 * GB, "/var/b": 2 * GB}, []),
        ({"/opt/a": 2 * GB}, ["/opt/a needs 2.0 GB of free disk; the file system of /opt has 1.5 GB."]),
        ({"/opt/a": 1 * GB, "/opt/b": 1 * GB}, ["/opt/a and /opt/b need 2.0 GB of free disk"]),
        ({"/opt/a": 1_500_000_001, "/var/b": 3 * GB}, ["/opt/a needs 1.5 GB", "/var/b needs 3.0 GB"]),
    ],
)
def test_disk(wanted: dict[str, int], said: list[str]) -> None:
    spaces = {"/opt": Space(1, "/opt", 1_500_000_000), "/var": Space(2, "/var", 2 * GB)}
    problems = disk_problems([{"path": path, "bytes": number} for path, number in wanted.items()], lambda path: spaces[path[:4]])
    assert [each[: len(start)] for each, start in zip(problems, said, strict=True)] == said


def test_space_of_a_folder_to_come(tmp_path: Path) -> None:
    space = space_for(str(tmp_path / "not" / "yet"))
    assert space.folder == str(tmp_path)
    assert space.free > 0


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"port": 4201}, ""),
        ({"port": 4200, "units": ["prefect-api@*.service"]}, "Port 4200 is taken: python3 (process 7) listens on 0.0.0.0:4200."),
        ({"port": 80, "units": ["nginx.service"]}, ""),
        (
            {"port": 80, "what": "the API server", "setting": "prefect_api_port"},
            "Port 80 for the API server (prefect_api_port) is taken: nginx",
        ),
    ],
)
def test_listen(wanted: Any, said: str) -> None:
    taken = [Listener(ipaddress.IPv4Address(0), 4200, "", 1), Listener(ipaddress.ip_address("::"), 80, "", 2)]
    owners = {1: Owner("", "python3 (process 7)"), 2: Owner("nginx.service", "nginx (process 8, unit nginx.service)")}
    problems = listen_problems([wanted], taken, lambda listener: owners[listener.pid])
    assert "".join(problems).startswith(said)
    assert bool(problems) is bool(said)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


READY = message(b"Z", b"I")
FINE = (100, 3, -1, -1, False, True)
LOGIN = message(b"R", b"\0\0\0\0")


class Postgres:
    """A server of some version that accepts every login, unless a case refuses it."""

    def __init__(self, version: str = "15.18 (Debian)", answers: tuple[Any, ...] = (), refuses: tuple[str, str] = ("", "")) -> None:
        self._login = LOGIN + message(b"S", f"server_version\0{version}\0".encode()) + READY
        usual = (100, 3, -1, -1, False, True, "UTF8", "off", False, True, True)
        self.row = answers + usual[len(answers) :]
        code, text = refuses
        if code:
            self._login = message(b"E", f"SFATAL\0C{code}\0M{text}\0\0".encode())

    def talk(self, peer: socket.socket) -> None:
        if peer.recv(65536)[4:] == b"\x04\xd2\x16\x2f":  # the question for TLS
            peer.sendall(b"N")
            return
        peer.sendall(self._login)
        peer.recv(65536)


@pytest.fixture
def question(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Has a session's question answered with the row of a server: how asyncpg asks it is not what is tested here."""

    def answer(server: Any) -> None:
        monkeypatch.setattr(session.Postgres, "query", lambda *_: [server.row])

    return answer


def asked(serve: Any, server: Any, **wanted: Any) -> tuple[list[str], Connector]:
    base = {"kind": "postgresql", "host": "127.0.0.1", "port": serve(server.talk), "user": "prefect", "dbname": "prefect", "timeout": 2}
    connector = Connector()
    return connector.problems({**base, "password": "geheim", **wanted}), connector


@pytest.mark.parametrize(
    ("server", "wanted", "said"),
    [
        (Postgres(), {"min_version": "14.9", "min_connections": 97}, ""),
        (Postgres("14.9"), {"min_version": "14.9"}, ""),
        (Postgres("14.8"), {"min_version": "14.9"}, "is version 14.8; Prefect needs 14.9 or newer."),
        (Postgres("9.6.24"), {"min_version": "14.9"}, "is version 9.6.24"),
        (Postgres(), {"min_connections": 98}, "offers 97 connections (max_connections 100 less 3 reserved for superusers), but"),
        (Postgres(answers=(100, 3, 20, -1, False, True)), {"min_connections": 50}, "(the connection limit of role prefect)"),
        (Postgres(answers=(100, 3, -1, 20, False, True)), {"min_connections": 50}, "(the connection limit of database prefect)"),
        (Postgres(answers=(100, 3, -1, -1, True, False)), {}, "is a standby"),
        (Postgres(answers=(100, 3, -1, -1, False, False)), {}, "does not let user prefect create tables"),
        (Postgres(answers=(*FINE, "SQL_ASCII")), {}, "has database prefect in the encoding SQL_ASCII"),
        (Postgres(answers=(*FINE, "UTF8", "on")), {}, "gives user prefect read-only transactions in database prefect"),
        (Postgres(answers=(*FINE, "UTF8", "off", True, False, False)), {}, ""),
        (Postgres(answers=(*FINE, "UTF8", "off", False, False, False)), {}, "does not have the extension pg_trgm; install the package"),
        (
            Postgres(answers=(*FINE, "UTF8", "off", False, True, False)),
            {},
            "does not let user prefect create the extension pg_trgm",
        ),
        (
            Postgres(refuses=("28P01", "password authentication failed")),
            {},
            "refuses the password of user prefect. Check prefect_database_user and",
        ),
        (Postgres(refuses=("28000", "no pg_hba.conf entry")), {}, "does not let user prefect into database prefect from this host"),
        (Postgres(refuses=("3D000", "does not exist")), {}, "has no database prefect."),
        (Postgres(refuses=("53300", "too many clients already")), {}, "has no connection left; raise its max_connections."),
        (Postgres(refuses=("57P03", "the database system is starting up")), {}, "is not ready for connections"),
    ],
)
def test_postgres(serve: Any, question: Any, server: Postgres, wanted: Any, said: str) -> None:
    question(server)
    problems, connector = asked(serve, server, **wanted)
    assert said in "".join(problems)
    assert bool(problems) is bool(said)
    for problem in problems:
        assert problem.startswith("PostgreSQL at 127.0.0.1:")
        assert "geheim" not in problem
    if not problems:
        assert next(iter(connector.found.values())).startswith(("15.18", "14.9"))


class Redis:
    """A server with answers by command."""

    def __init__(self, info: str = "redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\n", **answers: bytes) -> None:
        usual = {"PING": b"+PONG\r\n", "INFO": f"${len(info)}\r\n{info}\r\n".encode(), "AUTH": b"+OK\r\n", "SELECT": b"+OK\r\n"}
        self._answers = {**usual, "MULTI": b"+OK\r\n", "DISCARD": b"+OK\r\n", **answers}

    def talk(self, peer: socket.socket) -> None:
        while True:
            words = peer.recv(65536).split(b"\r\n")
            if len(words) < 3:
                return
            peer.sendall(self._answers.get(words[2].decode(), b"+QUEUED\r\n"))


@pytest.mark.parametrize(
    ("server", "wanted", "said"),
    [
        (Redis(), {"min_version": "6.2"}, ""),
        (Redis(INFO=b"-NOPERM no\r\n"), {}, ""),
        (Redis("redis_version:6.0.9\r\n"), {"min_version": "6.2"}, "is version 6.0.9; 6.2 or newer is needed."),
        (Redis("redis_mode:cluster\r\n"), {}, "runs in cluster mode"),
        (Redis("role:slave\r\n"), {}, "is a replica"),
        (Redis(), {"databases": [0, 1]}, ""),
        (Redis(SELECT=b"-ERR DB index is out of range\r\n"), {"databases": [1]}, "has no database 1, and Prefect uses two"),
        (
            Redis(XADD=b"-NOPERM this user\r\n", EVAL=b"-NOPERM no\r\n"),
            {"databases": [0]},
            "user prefect do what Prefect needs: XADD, EVAL",
        ),
        (
            Redis("maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n"),
            {},
            "deletes keys when its memory is full (maxmemory-policy allkeys-lru)",
        ),
        (Redis("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"), {}, ""),
        (Redis(AUTH=b"-WRONGPASS invalid\r\n"), {}, "refuses the password of user prefect, or the user. Check prefect_redis_username"),
        (Redis(PING=b"-NOAUTH Authentication required.\r\n"), {"password": ""}, "asks for a password, and none is set."),
        (Redis(PING=b"-NOPERM this user has no permissions\r\n"), {}, "does not let user prefect do what is needed (NOPERM"),
        (Redis(PING=b"-LOADING Redis is loading the dataset\r\n"), {}, "answers: LOADING"),
    ],
)
def test_redis(serve: Any, server: Redis, wanted: Any, said: str) -> None:
    problems, _seen = asked(serve, server, kind="redis", username="prefect", **wanted)
    assert said in "".join(problems)
    assert bool(problems) is bool(said)
    for problem in problems:
        assert problem.startswith("Redis at 127.0.0.1:")
        assert "geheim" not in problem


class Silent:
    def talk(self, peer: socket.socket) -> None:
        peer.recv(65536)
        peer.recv(65536)
        time.sleep(1)


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
def test_a_server_that_says_nothing_is_not_waited_for(serve: Any, kind: str) -> None:
    started = time.monotonic()
    problems, _seen = asked(serve, Silent(), kind=kind, timeout=0.3)
    assert time.monotonic() - started < 3
    assert "did not answer within 0.3 s. Check its address" in problems[0]


def test_a_plain_port(serve: Any) -> None:
    assert asked(serve, Silent(), kind="tcp")[0] == []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    problems, _seen = asked(serve, Silent(), kind="tcp", port=port, what="The balancer")
    assert problems[0].startswith(f"The balancer at 127.0.0.1:{port} refused the connection")


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
def test_on_a_bare_host_only_whether_it_accepts(serve: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(_preflight, "lacking", lambda *libraries: list(libraries))
    problems, connector = asked(serve, Silent(), kind=kind)
    assert (problems, list(connector.found.values())) == ([], ["open"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    problems, connector = asked(serve, Silent(), kind=kind, port=port)
    assert "refused the connection" in problems[0] and "Check its address" in problems[0]
    assert connector.found == {}


class Encrypted:
    """A server that takes encrypted connections only, as PostgreSQL (hostssl) or Redis (port 0) is then."""

    def __init__(self, server: Any, context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context

    def talk(self, peer: socket.socket) -> None:
        first = peer.recv(8, socket.MSG_PEEK)
        if first[4:] == SSL_REQUEST:
            peer.recv(8)
            peer.sendall(b"S")
        elif isinstance(self._server, Postgres):
            peer.recv(65536)
            peer.sendall(message(b"E", b"SFATAL\0C28000\0Mno pg_hba.conf entry, no encryption\0\0"))
            return
        with self._context.wrap_socket(peer, server_side=True) as connection:
            self._server.talk(connection)


SSL_REQUEST = b"\x04\xd2\x16\x2f"
HERE = "IP:127.0.0.1"


@pytest.mark.parametrize(
    ("kind", "server", "variable"),
    [("postgresql", Postgres(), "prefect_database_tls"), ("redis", Redis(), "prefect_redis_tls")],
)
@pytest.mark.parametrize(
    ("names", "trusted", "tls", "said"),
    [
        (HERE, 0, {}, ""),
        ("IP:10.9.9.9", 0, {"check_hostname": False}, ""),
        (HERE, None, {}, "takes encrypted connections only"),
        (HERE, None, {"enabled": False}, "takes encrypted connections only"),
        (HERE, 1, {}, "has a certificate that is not trusted here"),
        (HERE, None, {"enabled": True}, "The authorities that are trusted are those of the system ("),
        ("IP:10.9.9.9", 0, {}, "has a certificate for other names: IP address mismatch"),
    ],
)
def test_a_server_that_takes_tls_only(
    serve: Any,
    question: Any,
    authorities: Any,
    server_tls: Any,
    *,
    kind: str,
    server: Any,
    variable: str,
    names: str,
    trusted: int | None,
    tls: Any,
    said: str,
) -> None:
    question(Postgres())
    given = {**tls, **({} if trusted is None else {"ca_file": authorities[trusted].certificate})}
    problems, _seen = asked(serve, Encrypted(server, server_tls(names)), kind=kind, username="prefect", tls=given)
    assert (said in "".join(problems), bool(problems)) == (True, bool(said))
    assert not problems or variable in problems[0]


@pytest.mark.parametrize(("kind", "server"), [("postgresql", Postgres()), ("redis", Redis(PING=b"-NOAUTH no\r\n"))])
def test_a_server_without_tls(serve: Any, kind: str, server: Any) -> None:
    problems, _seen = asked(serve, PlainOnly(server), kind=kind, username="prefect", tls={"enabled": True})
    variable = {"postgresql": "prefect_database_tls", "redis": "prefect_redis_tls"}[kind]
    assert f"does not offer TLS. Turn it on there, or set {variable}: {{enabled: false}} to ask for plain text." in problems[0]


class PlainOnly:
    """Hangs up on what it does not understand, as Redis does."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def talk(self, peer: socket.socket) -> None:
        if peer.recv(1, socket.MSG_PEEK) != b"\x16":
            self._server.talk(peer)


def test_no_password_goes_over_an_unverified_connection(serve: Any) -> None:
    heard: list[bytes] = []

    class Listening(PlainOnly):
        def talk(self, peer: socket.socket) -> None:
            heard.append(peer.recv(65536, socket.MSG_PEEK))
            super().talk(peer)

    asked(serve, Listening(Redis()), kind="redis", username="prefect", tls={"enabled": True})
    assert len(heard) > 1
    assert not any(b"geheim" in each for each in heard)


def test_the_file_that_is_missing_is_named(serve: Any) -> None:
    problems, _seen = asked(serve, Postgres(), tls={"ca_file": "/nowhere"})
    assert "because of the files /nowhere: " in problems[0]
    assert problems[0].endswith(" The files of prefect_database_tls have to be on this host, and readable.")
