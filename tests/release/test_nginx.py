"""The balancer's configuration in a real nginx on this machine, before small servers that say what they were asked."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tools.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: selfhosted.prefect.nginx, tasks_from: preflight}
    - ansible.builtin.template:
        src: "{{ templates }}/{{ item }}.j2"
        dest: "{{ folder }}/{{ item }}"
        mode: "0644"
      loop: [prefect.conf, users, authorization]
      when: item != 'users' or __nginx_auth
"""
MAIN = """
daemon off; user root; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/prefect.conf;
}}
"""
OPEN = ("GET /api/health", "GET /api/ready", "GET /ui-settings", "GET /", "GET /docs")


class Server(ThreadingHTTPServer):
    """One of a release: it has the files of its version, and tells who asks for anything else what it was asked."""

    daemon_threads = True

    def __init__(self, address: str, version: str, tls: ssl.SSLContext | None = None) -> None:
        self.version = version
        self.login = ""
        self.asked: list[str] = []
        self.resumed: list[bool] = []
        self.versions: list[str] = []
        super().__init__((address, 0), Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if isinstance(self.connection, ssl.SSLSocket):
            self.server.resumed.append(bool(self.connection.session_reused))
            self.server.versions.append(str(self.connection.version()))
        status, kind, body = 200, "application/json", json.dumps({name.lower(): value for name, value in self.headers.items()})
        if self.server.login and self.headers.get("Authorization") != self.server.login and f"{self.command} {self.path}" not in OPEN:
            status, body = 401, '{"exception_message":"Unauthorized"}'
        elif self.path.startswith("/api/status/"):
            status, body = int(self.path.rpartition("/")[2]), f"of {self.path}"
        elif self.path == "/ui-settings":
            body = '{"api_url":"/api","csrf_enabled":false,"auth":"BASIC","flags":[]}'
        elif "assets/" in self.path or self.path.startswith("/api/flows"):
            status = 200 if self.server.version in self.path else 404
        elif self.path in ("/", "/v2/"):
            kind, body = "text/html; charset=utf-8", f"<html>{self.server.version}"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/api/cached":
            self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Nginx:
    port: int
    folder: Path
    servers: list[Server]
    tls: ssl.SSLContext | None = None
    asked: int = 0

    def ask(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", source: str = "127.0.0.1") -> Any:
        """An answer with its `content`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(source, 0))
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.tls)
        self.asked += 1
        connection.request(method, path, headers={**(headers or {}), "User-Agent": f"test {self.asked}"})
        answer: Any = connection.getresponse()
        answer.content = answer.read().decode()
        connection.close()
        return answer

    def forwarded(self, headers: Mapping[str, str], source: str = "127.0.0.1") -> dict[str, str]:
        """The headers with which a server is asked when a client sends some."""
        found: dict[str, str] = json.loads(self.ask("/api/hello", headers, source=source).content)
        return found

    def logged(self) -> dict[str, Any]:
        """What the log says of the last request, which it does a moment after the answer."""
        for _attempt in range(200):
            for line in reversed((self.folder / "access.log").read_text().splitlines()):
                found: dict[str, Any] = json.loads(line)
                if found["agent"] == f"test {self.asked}":
                    return found
            time.sleep(0.05)
        raise AssertionError("the last request is not in the log")


@contextmanager
def running(
    commands: Commands, folder: Path, servers: list[Server] | None = None, tls: ssl.SSLContext | None = None, **variables: Any
) -> Iterator[Nginx]:
    """An nginx with the role's configuration, by default before two servers of an older version and one of a newer one."""
    servers = servers or [Server("127.0.0.1", version) for version in ("old", "old", "new")]
    (folder / "play.yml").write_text(PLAY)
    port = free_port()
    given = {
        "tls_mode": "off",
        "nginx_listen_port": port,
        "nginx_listen_addresses": ["127.0.0.1"],
        "nginx_status_port": 0,
        "nginx_access_log": str(folder / "access.log"),
        "nginx_api_servers": [{"address": "127.0.0.1", "port": server.server_port} for server in servers],
        "templates": str(ROOT / "roles/nginx/templates"),
        "__nginx_users_file": str(folder / "users"),
        "__nginx_authorization_file": str(folder / "authorization"),
        "folder": str(folder),
        **variables,
    }
    commands.run(["ansible-playbook", folder / "play.yml", "-e", json.dumps(given)], env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")})
    config = folder / "prefect.conf"
    config.write_text(config.read_text().replace("/var/log/nginx/", f"{folder}/"))
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    process = subprocess.Popen([ROOT / "tools/nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"])
    nginx = Nginx(port, folder, servers, tls)
    try:
        for _attempt in range(100):
            try:
                assert nginx.ask("/nginx-health").status == 200
                break
            except OSError:
                assert process.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.05)
        yield nginx
    finally:
        process.terminate()
        process.wait(10)
        for server in servers:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def plain(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Without any proxy in front."""
    with running(commands, tmp_path_factory.mktemp("nginx")) as nginx:
        yield nginx


@pytest.fixture(scope="module")
def behind(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Behind two proxies, of which one is in a network."""
    given: dict[str, Any] = {
        "nginx_trusted_proxies": ["127.0.0.1", "127.1.0.0/16", "fd00::/64"],
        "prefect_settings": {"PREFECT_UI_SERVE_BASE": "/flows/"},
    }
    with running(commands, tmp_path_factory.mktemp("nginx"), **given) as nginx:
        yield nginx


STRANGER = "127.9.9.9"
FORGED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example.com",
    "X-Forwarded-Port": "8443",
    "X-Real-IP": "203.0.113.7",
    "Forwarded": "for=203.0.113.7;proto=https",
}


def test_a_probe_is_told_which_server_answered(plain: Nginx) -> None:
    told = {plain.ask("/api/hello", {"X-Prefect-Probe": "1"}).headers["X-Prefect-Server"] for _request in range(6)}
    assert told == {f"127.0.0.1:{server.server_port}" for server in plain.servers}


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/api/hello", {}), ("/api/hello", {"X-Prefect-Probe": "no"}), ("/api/flows/none", {"X-Prefect-Probe": "1"})],
    ids=["no probe", "another probe", "not logged in"],
)
def test_other_answers_name_no_server(plain: Nginx, path: str, headers: dict[str, str]) -> None:
    assert "X-Prefect-Server" not in plain.ask(path, headers).headers


@pytest.mark.parametrize("which", ["plain", "behind"])
def test_what_a_stranger_says_of_itself_is_overwritten(which: str, request: pytest.FixtureRequest) -> None:
    nginx: Nginx = request.getfixturevalue(which)
    found = nginx.forwarded({**FORGED, "Host": "prefect.example.com"}, STRANGER)
    assert found["x-forwarded-for"] == found["x-real-ip"] == STRANGER
    assert found["x-forwarded-proto"] == "http"
    assert found["host"] == found["x-forwarded-host"] == "prefect.example.com"
    assert found["x-forwarded-port"] == str(nginx.port)
    assert "forwarded" not in found
    assert nginx.logged()["client"] == STRANGER


@pytest.mark.parametrize("source", ["127.0.0.1", "127.1.2.3"])
def test_what_a_trusted_proxy_says_is_kept(behind: Nginx, source: str) -> None:
    sent = {
        "Host": "lb1.internal:4200",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "prefect.example.com",
        "Forwarded": "for=203.0.113.7",
    }
    found = behind.forwarded(sent, source)
    assert found["x-forwarded-for"] == found["x-real-ip"] == "203.0.113.7"
    assert found["x-forwarded-proto"] == "https"
    assert found["host"] == found["x-forwarded-host"] == "prefect.example.com"
    assert found["forwarded"] == "for=203.0.113.7"
    assert behind.logged()["client"] == "203.0.113.7"


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.7, 127.1.2.3", "203.0.113.7"),
        # Whatever a client has put before what the first proxy saw is not believed.
        ("198.51.100.1, 203.0.113.7, 127.1.2.3", "203.0.113.7"),
        ("2001:db8::7, fd00::5", "2001:db8::7"),
        ("203.0.113.7:5555", "203.0.113.7"),
        ("", "127.0.0.1"),
        ("nonsense", "127.0.0.1"),
    ],
)
def test_several_proxies_in_a_chain(behind: Nginx, chain: str, client: str) -> None:
    found = behind.forwarded({"X-Forwarded-For": chain, "X-Forwarded-Proto": "https"})
    assert found["x-forwarded-for"] == client
    assert behind.logged()["client"] == client


@pytest.mark.parametrize(
    ("headers", "proto"),
    [
        ({}, "http"),
        ({"X-Forwarded-Proto": "https"}, "https"),
        ({"X-Forwarded-Proto": "HTTPS"}, "https"),
        ({"X-Forwarded-Proto": "https, http"}, "https"),
        ({"X-Forwarded-Proto": "http,https"}, "http"),
        ({"X-Forwarded-Proto": "wss"}, "https"),
        ({"X-Forwarded-Proto": "gopher"}, "http"),
        ({"Forwarded": "for=203.0.113.7; proto=https; host=x"}, "https"),
        ({"Forwarded": 'proto="https"'}, "https"),
        ({"X-Forwarded-Proto": "http", "Forwarded": "proto=https"}, "http"),
    ],
)
def test_the_protocol(behind: Nginx, headers: dict[str, str], proto: str) -> None:
    assert behind.forwarded(headers)["x-forwarded-proto"] == proto


@pytest.mark.parametrize(
    ("headers", "host"),
    [
        ({"Host": "prefect.example.com"}, "prefect.example.com"),
        ({"Host": "lb", "X-Forwarded-Host": "prefect.example.com:8443"}, "prefect.example.com:8443"),
        ({"Host": "lb", "X-Forwarded-Host": "prefect.example.com, lb2"}, "prefect.example.com"),
        ({"Host": "lb", "X-Forwarded-Host": "[2001:db8::1]:8443"}, "[2001:db8::1]:8443"),
        ({"Host": "lb", "X-Forwarded-Host": "a b/c"}, "lb"),
        ({"Host": "prefect.example.com", "X-Forwarded-Port": "8443"}, "prefect.example.com:8443"),
        ({"Host": "prefect.example.com", "X-Forwarded-Port": "443"}, "prefect.example.com"),
        ({"Host": "prefect.example.com", "X-Forwarded-Port": "80"}, "prefect.example.com"),
        ({"Host": "prefect.example.com:9443", "X-Forwarded-Port": "8443"}, "prefect.example.com:9443"),
        ({"Host": "lb", "X-Forwarded-Host": "[2001:db8::1]", "X-Forwarded-Port": "8443"}, "[2001:db8::1]:8443"),
    ],
)
def test_the_outside_name(behind: Nginx, headers: dict[str, str], host: str) -> None:
    assert behind.forwarded(headers)["host"] == host


@pytest.mark.parametrize("path", ["/assets/index-{}.js", "/v2/assets/index-{}.js"])
@pytest.mark.parametrize("version", ["old", "new"])
def test_a_file_is_found_on_the_server_that_has_it(plain: Nginx, path: str, version: str) -> None:
    for _request in range(6):
        answer = plain.ask(path.format(version))
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert plain.logged()["status"] == "200"


def test_a_file_that_no_server_has(plain: Nginx) -> None:
    for server in plain.servers:
        server.asked.clear()
    answer = plain.ask("/v2/assets/nowhere.js")
    assert (answer.status, answer.headers.get("Cache-Control")) == (404, None)
    assert [server.asked for server in plain.servers] == [["GET /v2/assets/nowhere.js"]] * 3, "each is asked once"


def test_a_path_of_its_own_for_the_pages(behind: Nginx) -> None:
    for path in ("/flows/assets/index-new.js", "/flows/v2/assets/index-new.js"):
        answer = behind.ask(path)
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, max-age=31536000, immutable")


@pytest.mark.parametrize("path", ["/", "/v2/"])
def test_pages_are_not_older_than_the_servers(plain: Nginx, path: str) -> None:
    assert plain.ask(path).headers.get_all("Cache-Control") == ["no-cache"]


def test_what_prefect_says_of_caches_counts(plain: Nginx) -> None:
    assert plain.ask("/api/cached").headers.get_all("Cache-Control") == ["no-store"]
    assert plain.ask("/api/hello").headers.get_all("Cache-Control") is None


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_api_is_asked_once(plain: Nginx, method: str) -> None:
    """What is not there is an answer, and not looked for elsewhere."""
    for server in plain.servers:
        server.asked.clear()
    assert plain.ask("/api/flows/nowhere", method=method).status == 404
    assert sum(len(server.asked) for server in plain.servers) == 1


def test_a_redirect_of_nginx_itself_names_no_server(plain: Nginx) -> None:
    """It does not know by which name and port it is reached."""
    answer = plain.ask("/api/task_runs/subscriptions")
    assert (answer.status, answer.headers["Location"]) == (301, "/api/task_runs/subscriptions/")
