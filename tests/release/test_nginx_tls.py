"""TLS before and behind the balancer, in a real nginx on this machine."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.authority import Authority
from tests.release.test_nginx import Handler, Nginx, Server, running
from tools.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Commands

NAME = "prefect-api"


class Silent(Handler):
    """Takes a request, and ends the connection without an answer."""

    def do_POST(self) -> None:  # noqa: N802  the name that http.server calls
        self.server.asked.append(f"{self.command} {self.path}")
        self.close_connection = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nginx")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """That of the deployment, with nginx's certificate where the role has it."""
    authority = Authority(folder, "ca")
    authority.issue("127.0.0.1", "localhost", file="nginx")
    return authority


@contextmanager
def balancing(commands: Commands, authority: Authority, servers: Sequence[Server], **variables: Any) -> Iterator[Nginx]:
    given = {"tls_mode": "private_ca", "tls_directory": str(authority.folder), "nginx_status_port": free_port(), **variables}
    with running(commands, authority.folder, list(servers), ssl.create_default_context(cafile=authority.file), **given) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def redirect_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def secured(commands: Commands, authority: Authority, redirect_port: int) -> Iterator[Nginx]:
    """As by default, and with a port that only redirects."""
    servers = [Server("127.0.0.1", version, authority.context(NAME, file=version)) for version in ("old", "new")]
    with balancing(commands, authority, servers, nginx_redirect_port=redirect_port) as nginx:
        yield nginx


def plainly(port: int, path: str, method: str = "GET", **headers: str) -> Any:
    """The answer to a request without TLS."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    answer: Any = connection.getresponse()
    answer.content = answer.read().decode()
    connection.close()
    return answer


def handshake(port: int, version: ssl.TLSVersion, ciphers: str = "DEFAULT") -> str:
    """The version that nginx agrees to, offered one, by a client that itself takes anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        return str(encrypted.version())


def test_requests_pass(secured: Nginx) -> None:
    found = secured.forwarded({"Host": "prefect.example.com"})
    assert (found["x-forwarded-proto"], found["host"]) == ("https", "prefect.example.com")


def test_servers_are_asked_with_what_resumes_cheaply(secured: Nginx) -> None:
    assert secured.ask("/api/hello").status == 200
    assert {version for server in secured.servers for version in server.versions} == {"TLSv1.2"}


def test_connections_to_servers_resume_their_session(secured: Nginx) -> None:
    for _request in range(20):
        assert secured.ask("/api/hello").status == 200
    for server in secured.servers:
        assert sum(server.resumed) > len(server.resumed) / 2, server.resumed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_modern_clients(secured: Nginx, version: ssl.TLSVersion) -> None:
    assert handshake(secured.port, version) == version.name.replace("_", ".")


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1, "ALL"),
        (ssl.TLSVersion.TLSv1_1, "ALL"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256"),
    ],
    ids=["TLS 1.0", "TLS 1.1", "CBC", "no forward secrecy"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_what_is_out_of_date_is_refused(secured: Nginx, version: ssl.TLSVersion, ciphers: str) -> None:
    with pytest.raises(ssl.SSLError, match="ALERT"):
        handshake(secured.port, version, ciphers)


def test_another_authority_does_not_trust_it(secured: Nginx, tmp_path: Path) -> None:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", secured.port, timeout=10, context=ssl.create_default_context(cafile=Authority(tmp_path).file)
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_plain_http_is_redirected(secured: Nginx, redirect_port: int, method: str) -> None:
    host = f"prefect.example.com:{secured.port}"
    answer = plainly(secured.port, "/api/flows/new?x=1", method, Host=host)
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{host}/api/flows/new?x=1")
    answer = plainly(redirect_port, "/api/flows/new?x=1", method, Host="prefect.example.com")
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{host}/api/flows/new?x=1")


@pytest.mark.parametrize("path", ["/", "/api/hello", "/api/flows/nowhere"])
def test_browsers_are_told_to_insist(secured: Nginx, path: str) -> None:
    assert secured.ask(path).headers.get_all("Strict-Transport-Security") == ["max-age=15768000"]


def test_the_configuration_is_told_without_tls(secured: Nginx) -> None:
    """The role's own question, which no certificate has to answer."""
    port = int((secured.folder / "prefect.conf").read_text().rpartition("listen 127.0.0.1:")[2].partition(";")[0])
    assert plainly(port, "/nginx-health").content == secured.ask("/nginx-health").content


def test_servers_that_cannot_be_trusted_are_left_out(commands: Commands, authority: Authority, tmp_path: Path) -> None:
    good = Server("127.0.0.1", "new", authority.context(NAME, file="good"))
    bad = [
        Server("127.0.0.1", "new", Authority(tmp_path).context(NAME)),
        Server("127.0.0.1", "new", authority.context("127.0.0.1", "localhost", file="another")),
        Server("127.0.0.1", "new", authority.context(NAME, file="expired", days=-1)),
        Server("127.0.0.1", "new"),
    ]
    with balancing(commands, authority, [*bad, good], nginx_tls_hsts_max_age=0) as nginx:
        for _request in range(10):
            answer = nginx.ask("/api/hello", method="POST")
            assert answer.status == 200
            assert "Strict-Transport-Security" not in answer.headers
        good.shutdown()
        good.server_close()
        assert nginx.ask("/api/hello").status == 502
    assert [server.asked for server in bad] == [[]] * len(bad)


def test_servers_that_turn_to_tls_one_after_the_other(commands: Commands, authority: Authority) -> None:
    """Each request arrives, once, wherever the next server is."""
    servers = [Server("127.0.0.1", "old"), Server("127.0.0.1", "new", authority.context(NAME)), Server("127.0.0.1", "old")]
    paths = [("POST", "/api/flows/new"), ("GET", "/api/health"), ("POST", "/api/task_runs/"), ("GET", "/assets/old.js")]
    with balancing(commands, authority, servers, __nginx_changing_schemes=["https", "http"]) as nginx:
        for method, path in paths * 5:
            assert nginx.ask(path, method=method).status == 200, path
        asked = [request for server in servers for request in server.asked]
        assert all(asked.count(f"{method} {path}") == 5 for method, path in paths if method == "POST")
        servers[1].shutdown()
        servers[1].server_close()
        for _request in range(5):
            assert nginx.ask("/api/hello", method="POST").status == 200
        assert sum(server.asked.count("POST /api/hello") for server in servers) == 5


def test_a_request_that_may_have_arrived_is_not_sent_without_tls(commands: Commands, authority: Authority) -> None:
    silent, plain = Server("127.0.0.1", "new", authority.context(NAME)), Server("127.0.0.1", "new")
    silent.RequestHandlerClass = Silent
    with balancing(commands, authority, [silent, plain], __nginx_changing_schemes=["https", "http"]) as nginx:
        assert nginx.ask("/api/hello", method="POST").status == 502
    assert silent.asked == ["POST /api/hello"]
    assert plain.asked == []
