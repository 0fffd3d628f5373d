"""The exporter and TLS: what it serves, and what it makes of the certificates that others serve."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selfhosted_prefect.exporter import certificates, serving
from selfhosted_prefect.exporter.certificates import ServedCertificates, Target, finders
from selfhosted_prefect.settings import Settings

from tests.authority import Authority, Issued

NAME = certificates.NAME


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# --- what it serves ---


def application(_environ: object, start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"figures"]


@contextmanager
def serving_on_a_port(tls: ssl.SSLContext | None) -> Iterator[int]:
    with serving.Server("127.0.0.1", 0, application, tls) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def ask(port: int, trusted: Authority, host: str = "127.0.0.1", **options: Any) -> bytes:
    context = ssl.create_default_context(cafile=trusted.file)
    for option, value in options.items():
        setattr(context, option, value)
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: secured.recv(4096), b""))


def ask_plainly(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    return connection.getresponse().read()


def test_it_serves_tls_and_nothing_else(authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issued = authority.issue("127.0.0.1")
    with serving_on_a_port(serving.certified(str(issued.certificate), str(issued.key))) as port:
        assert ask(port, authority).endswith(b"\r\n\r\nfigures")
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol version"):
            ask(port, authority, maximum_version=ssl.TLSVersion.TLSv1_2)
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            ask(port, authority, "localhost")
        with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|signature"):
            ask(port, Authority(tmp_path))
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask_plainly(port)
    # A port that is scanned writes no journal.
    assert capsys.readouterr().err == ""


def test_without_a_certificate_it_serves_plainly() -> None:
    with serving_on_a_port(None) as port:
        assert ask_plainly(port) == b"figures"


@pytest.mark.parametrize("tls", [True, False])
def test_silent_clients_keep_no_other_waiting(authority: Authority, monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    monkeypatch.setattr(serving, "TIMEOUT", 1.0)
    issued = authority.issue("127.0.0.1")
    with serving_on_a_port(serving.certified(str(issued.certificate), str(issued.key)) if tls else None) as port:
        silent = [socket.create_connection(("127.0.0.1", port), 5) for _client in range(20)]
        silent[0].sendall(b"\x16\x03" if tls else b"GET")
        begun = time.monotonic()
        assert (ask(port, authority) if tls else ask_plainly(port)).endswith(b"figures")
        assert time.monotonic() - begun < 1
        # Each of them is given up.
        for client in silent:
            assert client.recv(100) == b""
            client.close()


# --- what others serve ---


@contextmanager
def listening(issued: Issued, greeting: bytes | None = None) -> Iterator[int]:
    """A server that shows a certificate, after PostgreSQL's question for TLS if there is a greeting."""

    def serve() -> None:
        while True:
            try:
                client, _address = server.accept()
            except OSError:
                return
            with client:
                if greeting is not None:
                    assert client.recv(8) == certificates.SSL_REQUEST
                    client.sendall(greeting)
                try:
                    with issued.context.wrap_socket(client, server_side=True) as secured:
                        secured.recv(1)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def environment(authority: Authority, **ports: int) -> dict[str, str]:
    database = "PREFECT_SERVER_DATABASE_"
    tls = f"{database}SQLALCHEMY_CONNECT_ARGS_TLS_"
    return {
        "PREFECT_API_URL": f"https://127.0.0.1:{ports['balancer']}/api",
        "PREFECT_API_SSL_CERT_FILE": str(authority.file),
        f"{database}HOST": "127.0.0.1",
        f"{database}PORT": str(ports["database"]),
        f"{tls}ENABLED": "True",
        f"{tls}CA_FILE": str(authority.file),
        "PREFECT_SERVER_DOCKET_URL": f"rediss://prefect:r%40s@localhost:{ports['redis']}/1?ssl_ca_certs={authority.file}",
    }


def samples(served: ServedCertificates) -> dict[str, float]:
    found = asyncio.run(served.samples())
    assert {sample.name for sample in found} <= {NAME}
    return {sample.labels[0]: sample.value for sample in found}


def test_what_is_really_shown(authority: Authority) -> None:
    shown = {
        each: authority.issue("127.0.0.1", "localhost", file=each, days=days)
        for days, each in enumerate(("balancer", "database", "redis"), 2)
    }
    with (
        listening(shown["balancer"]) as balancer,
        listening(shown["database"], b"S") as database,
        listening(shown["redis"]) as redis,
    ):
        settings = Settings(environment(authority, balancer=balancer, database=database, redis=redis))
        assert samples(ServedCertificates(finders(settings))) == {each: issued.ends for each, issued in shown.items()}


def test_where_there_is_no_tls_nothing_is_asked() -> None:
    settings = Settings({"PREFECT_API_URL": "http://lb/api", "PREFECT_SERVER_DOCKET_URL": "redis://cache/1"})
    assert samples(ServedCertificates(finders(settings))) == {}


@pytest.mark.parametrize(
    ("name", "greeting", "said"),
    [
        pytest.param("localhost", b"S", "mismatch", id="name"),
        pytest.param("127.0.0.1", b"N", "it speaks no TLS", id="plain"),
    ],
)
def test_what_is_not_seen_is_left_out(
    authority: Authority, capsys: pytest.CaptureFixture[str], name: str, greeting: bytes, said: str
) -> None:
    with listening(authority.issue(name, file="database"), greeting) as port:
        settings = Settings(environment(authority, balancer=1, database=port, redis=1))
        found = ServedCertificates({"database": finders(settings)["database"]}, settings.explain)
        assert samples(found) == {}
    told = capsys.readouterr().err
    assert told.startswith("the certificate of database is not seen: ")
    assert said in told


def test_one_that_has_ended_is_told(authority: Authority) -> None:
    """A handshake that verifies shows nothing of it; the figure is in the past all the same."""
    with listening(authority.issue("localhost", file="redis", days=-1)) as port:
        settings = Settings(environment(authority, balancer=1, database=1, redis=port))
        found = samples(ServedCertificates({"redis": finders(settings)["redis"]}))
    assert found["redis"] == pytest.approx(time.time(), abs=10)


def test_a_file_that_is_missing_is_named(authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(environment(authority, balancer=1, database=1, redis=1) | {"PREFECT_API_SSL_CERT_FILE": "/no/such/ca.crt"})
    assert samples(ServedCertificates({"balancer": finders(settings)["balancer"]})) == {}
    assert "/no/such/ca.crt cannot be loaded: " in capsys.readouterr().err


class Expired(ssl.SSLCertVerificationError):
    verify_code = certificates.EXPIRED


def test_answers_are_kept_for_an_hour_and_failures_for_minutes() -> None:
    clock, asked = [1000.0], []
    answers: list[Any] = [5000.0, OSError("refused"), 9000.0, Expired(), Expired(), 99000.0]

    async def handshake(_target: Target) -> float:
        asked.append(clock[0])
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return float(answer)

    context = ssl.create_default_context()
    served = ServedCertificates({"redis": lambda: Target("cache", 6379, context)}, str, handshake, lambda: clock[0])
    found = []
    for clock[0] in (1000, 4599, 4600, 4899, 4900, 8500, 8799, 8800, 9100):
        found.append(samples(served).get("redis"))
    assert asked == [1000, 4600, 4900, 8500, 8800, 9100]
    # What ended is told as what was known of it, or else by when it was seen.
    assert found == [5000, 5000, None, None, 9000, 8500, 8500, 8500, 99000]


def test_a_server_that_is_silent_is_given_up(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LIMIT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings(environment(authority, balancer=1, database=silent.getsockname()[1], redis=silent.getsockname()[1]))
        begun = time.monotonic()
        found = finders(settings)
        assert samples(ServedCertificates({name: found[name] for name in ("database", "redis")})) == {}
        assert time.monotonic() - begun < 2
