"""Who may come through the balancer, and where to, in a real nginx on this machine."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.release.test_nginx import Nginx, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Commands

# In base64 with all three of its special characters.
STRING = "admin:>>>???~~"
FORMER = "admin:former"
PAGE = {"Accept": "text/html,application/xhtml+xml"}


def basic(login: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


RIGHT, WRONG = basic(STRING), basic("admin:wrong")
CASED = {"Authorization": RIGHT["Authorization"].swapcase().replace("bASIC", "Basic")}


@contextmanager
def guarded(commands: Commands, folder: Path, **variables: Any) -> Iterator[Nginx]:
    """An nginx before servers that want Prefect's credentials."""
    with running(commands, folder, prefect_auth_string=STRING, prefect_accepted_auth_strings=[FORMER], **variables) as nginx:
        for server in nginx.servers:
            server.login = RIGHT["Authorization"]
        yield nginx


Start = Callable[..., Nginx]


@pytest.fixture(scope="module")
def start(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts an nginx with these variables, or finds the one that has them."""
    known: dict[str, tuple[Any, Nginx]] = {}

    def started(**variables: Any) -> Nginx:
        key = json.dumps(variables, sort_keys=True)
        if key not in known:
            manager = guarded(commands, tmp_path_factory.mktemp("nginx"), **variables)
            known[key] = (manager, manager.__enter__())
        return known[key][1]

    yield started
    for manager, _nginx in known.values():
        manager.__exit__(None, None, None)


def statuses(nginx: Nginx, times: int, headers: dict[str, str], path: str = "/api/hello", source: str = "127.0.0.1") -> list[int]:
    return [nginx.ask(path, headers, source=source).status for _time in range(times)]


# Few sets, as each takes seconds to start.
LIMIT = {"nginx_login_rate": "1r/m", "nginx_login_burst": 4}
OPENED = {"nginx_login_rate": "0", "nginx_admin_settings": True}
PEOPLE = {**LIMIT, "nginx_basic_auth_users": {"reader": "lesen"}}
PROXY = "127.5.0.1"
NARROW = {
    **LIMIT,
    "nginx_trusted_proxies": [PROXY],
    "nginx_allowed_addresses": ["127.0.0.64/26", "203.0.113.0/29", "2001:db8::/64"],
    "nginx_documentation": False,
    "nginx_closed_paths": ["/api/admin/storage", "/api/collections/"],
}


def test_failed_logins_are_limited_and_nothing_else_is(start: Start) -> None:
    nginx = start(**LIMIT)
    assert statuses(nginx, 8, WRONG) == [401] * 5 + [429] * 3
    assert statuses(nginx, 40, RIGHT) == [200] * 40, "from the same address"
    assert statuses(nginx, 5, {}) == [401] * 5, "nothing was guessed"
    assert statuses(nginx, 3, WRONG, source="127.0.0.7") == [401] * 3, "another address"
    refused = nginx.ask("/api/hello", WRONG)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "10")
    assert json.loads(refused.content) == {"exception_message": "Too many failed logins"}
    assert nginx.logged()["status"] == "429"


def test_the_limit_is_over_when_its_time_is(commands: Commands, tmp_path: Path) -> None:
    with guarded(commands, tmp_path, nginx_login_rate="2r/s", nginx_login_burst=1) as nginx:
        assert statuses(nginx, 4, WRONG) == [401, 401, 429, 429]
        time.sleep(1.2)
        assert statuses(nginx, 1, WRONG) == [401]


@pytest.mark.parametrize(
    "path",
    ["/api/hello", "/api/task_runs/", "/api/task_runs/subscriptions/x", "/api/events/in", "/api/work_pools/a/workers/connect"],
)
def test_every_path_counts(start: Start, path: str) -> None:
    source = f"127.0.1.{len(path)}"
    assert statuses(start(**LIMIT), 7, WRONG, path, source) == [401] * 5 + [429] * 2


def test_every_method_counts(start: Start) -> None:
    nginx = start(**LIMIT)
    asked = [nginx.ask("/api/health", WRONG, method="POST", source="127.0.2.1").status for _time in range(7)]
    assert asked == [401] * 5 + [429] * 2


def test_no_limit(start: Start) -> None:
    assert statuses(start(**OPENED), 40, WRONG) == [401] * 40


@pytest.mark.parametrize("variables", [LIMIT, OPENED], ids=["limited", "unlimited"])
@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 429, 500, 503])
def test_other_answers_stay_what_prefect_says(start: Start, variables: dict[str, Any], status: int) -> None:
    answer = start(**variables).ask(f"/api/status/{status}", RIGHT)
    assert (answer.status, answer.content) == (status, f"of /api/status/{status}")


def test_an_answer_to_a_failed_login_is_that_of_prefect(start: Start) -> None:
    answer = start(**LIMIT).ask("/api/hello", WRONG, source="127.0.3.1")
    assert (answer.status, answer.headers["Content-Type"]) == (401, "application/json")
    assert json.loads(answer.content) == {"exception_message": "Unauthorized"}


def test_trusted_proxies_are_no_clients(start: Start) -> None:
    """The limit is the client's that a trusted proxy names, and not that of a name that a stranger made up."""
    nginx = start(**NARROW)
    for client in ("203.0.113.1", "203.0.113.2"):
        assert statuses(nginx, 6, {**WRONG, "X-Forwarded-For": client}, source=PROXY) == [401] * 5 + [429]
    assert [statuses(nginx, 1, {**WRONG, "X-Forwarded-For": f"203.0.113.{number}"}, source="127.0.0.8") for number in range(6)] == [
        *[[401]] * 5,
        [429],
    ]


def test_logins_of_nginx_itself(start: Start) -> None:
    nginx = start(**PEOPLE)
    answer = nginx.ask("/", {})
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="Prefect"')
    assert statuses(nginx, 7, basic("reader:falsch"), "/") == [401] * 5 + [429] * 2
    assert statuses(nginx, 10, basic("reader:lesen")) == [200] * 10
    assert statuses(nginx, 10, RIGHT) == [200] * 10
    assert nginx.ask("/api/admin/settings", {}).status == 401


def test_while_secrets_are_rotated_prefect_says_which_are_valid(start: Start, signed: Nginx) -> None:
    for nginx in (start(**PEOPLE), signed):
        assert nginx.ask("/", basic(FORMER)).status == 200
        assert nginx.ask("/api/hello", basic(FORMER), source="127.0.6.1").status == 401
        assert nginx.ask("/api/hello", RIGHT).status == 200


def test_prefects_credentials_go_only_to_where_a_login_was_asked_for(start: Start) -> None:
    nginx = start(**PEOPLE)
    for server in nginx.servers:
        server.login = ""
    try:
        assert json.loads(nginx.ask("/api/hello", basic("reader:lesen")).content)["authorization"] == RIGHT["Authorization"]
        assert "authorization" not in json.loads(nginx.ask("/api/health").content)
        assert "authorization" not in json.loads(nginx.ask("/api/events/in").content)
    finally:
        for server in nginx.servers:
            server.login = RIGHT["Authorization"]


@pytest.mark.parametrize(
    ("source", "forwarded", "status"),
    [
        (PROXY, "203.0.113.7", 200),
        (PROXY, "2001:db8::5", 200),
        (PROXY, "203.0.113.8", 403),
        (PROXY, "2001:db8:1::5", 403),
        # Of others it is not believed.
        ("127.0.0.1", "203.0.113.8", 200),
    ],
)
def test_allowed_addresses(start: Start, source: str, forwarded: str, status: int) -> None:
    nginx = start(**NARROW)
    headers = {"X-Forwarded-For": forwarded}
    assert nginx.ask("/api/hello", {**RIGHT, **headers}, source=source).status == status
    assert nginx.ask("/", headers, source=source).status == status
    assert nginx.ask("/api/events/in", headers, source=source).status == (401 if status == 200 else 403)
    for path in ("/api/health", "/api/ready", "/nginx-health"):
        assert nginx.ask(path, headers, source=source).status == 200


def test_no_path_leads_around_allowed_addresses(start: Start) -> None:
    nginx = start(**NARROW)
    for path in (
        "/api/health/../flows",
        "/api/healthy",
        "/api/health/",
        "/API/health",
        "/api/hello?/api/health",
        "/api/health%2f..%2fhello",
    ):
        answer = raw(nginx, f"GET {path}", {**RIGHT, "X-Forwarded-For": "203.0.113.8"}, PROXY)
        assert answer == 403, path


def raw(nginx: Nginx, request: str, headers: dict[str, str], source: str = "127.0.0.1") -> int:
    """The status of a request whose path no library has put in order."""
    with socket.create_connection(("127.0.0.1", nginx.port), 10, (source, 0)) as connection:
        lines = [f"{request} HTTP/1.1", "Host: x", "Connection: close", *(f"{name}: {value}" for name, value in headers.items())]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    "path",
    [
        *("/docs", "/docs/", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/api/docs", "/api/redoc", "/api/openapi.json"),
        *("/api/admin/storage", "/api/admin/storage/", "/api/admin/storage?x=1", "/api/collections/views"),
        *("//docs", "/./docs", "/x/../docs", "/%64ocs", "/%2fdocs", "/api//admin/storage", "/api/admin/%73torage", "/api/%61dmin/storage"),
        *("/docs%0a", "/api/admin/storage%0A", "/api/admin/storage#x", "http://x/docs", "/api/flows/%2e%2e/admin/storage"),
    ],
)
def test_closed_paths(start: Start, path: str) -> None:
    nginx = start(**NARROW)
    for server in nginx.servers:
        server.asked.clear()
    assert raw(nginx, f"GET {path}", RIGHT) == 403
    assert [server.asked for server in nginx.servers] == [[]] * 3


@pytest.mark.parametrize("path", ["/docs", "/api/admin/version", "/api/admin/storage", "/documents", "/api/docs"])
def test_open_paths(start: Start, path: str) -> None:
    assert start(**LIMIT).ask(path, RIGHT).status == 200


def test_paths_beside_closed_ones(start: Start) -> None:
    for path in ("/documents", "/api/admin/version", "/api/admin/storages", "/api/admin"):
        assert start(**NARROW).ask(path, RIGHT).status == 200


@pytest.mark.parametrize("path", ["/api/admin/settings", "/api/admin/settings/", "/api/admin/settings%0a", "//api/admin//settings"])
def test_settings_are_not_shown(start: Start, path: str) -> None:
    nginx = start(**LIMIT)
    for server in nginx.servers:
        server.asked.clear()
    answer = nginx.ask(path, RIGHT)
    assert json.loads(answer.content)["server"]["analytics_enabled"] is False
    assert [server.asked for server in nginx.servers] == [[]] * 3
    assert "authorization" in json.loads(start(**OPENED).ask("/api/admin/settings", RIGHT).content)


class SingleSignOn(BaseHTTPRequestHandler):
    """Knows one session, and shows what it was asked."""

    server: Sessions

    def do_GET(self) -> None:
        if self.server.broken:
            return
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        allowed = "session=good" in self.headers.get("Cookie", "")
        self.send_response((202 if allowed else 401) if self.path.startswith("/oauth2/auth") else 200)
        if allowed:
            self.send_header("X-Auth-Request-User", "erika")
            self.send_header("Set-Cookie", "session=renewed")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"login")

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Sessions(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.broken = False
        super().__init__(("127.0.0.1", 0), SingleSignOn)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture(scope="module")
def sessions() -> Iterator[Sessions]:
    server = Sessions()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def signed(start: Start, sessions: Sessions) -> Nginx:
    """Behind a single sign-on."""
    nginx = start(**LIMIT, nginx_auth_request_url=f"http://127.0.0.1:{sessions.server_port}/oauth2/auth")
    for server in nginx.servers:
        server.asked.clear()
    sessions.asked.clear()
    return nginx


SESSION = {"Cookie": "session=good"}


def asked(nginx: Nginx) -> list[str]:
    return [each for server in nginx.servers for each in server.asked]


def test_people_log_in_there(signed: Nginx, sessions: Sessions) -> None:
    answer = signed.ask("/v2/runs?state=failed&limit=5", {**PAGE, "Host": "prefect.example.com"})
    assert (answer.status, answer.headers["Location"]) == (302, "/oauth2/start?rd=/v2/runs?state=failed")
    assert asked(signed) == []
    path, headers = sessions.asked[0]
    assert path == "/oauth2/auth"
    assert {name: headers.get(name) for name in ("x-forwarded-host", "x-forwarded-uri", "x-forwarded-method", "content-length")} == {
        "x-forwarded-host": "prefect.example.com",
        "x-forwarded-uri": "/v2/runs?state=failed&limit=5",
        "x-forwarded-method": "GET",
        "content-length": None,
    }


@pytest.mark.parametrize("path", ["//evil.example.com/", "/%5cevil.example.com", "/\\evil.example.com", "/x&rd=https://evil.example.com"])
def test_no_browser_is_sent_elsewhere(signed: Nginx, path: str) -> None:
    location = signed.ask(path, PAGE).headers["Location"]
    returned = location.partition("rd=")[2]
    assert returned.startswith("/")
    assert not returned.startswith(("//", "/\\"))
    assert "&" not in returned


def test_who_has_logged_in_needs_no_credentials(signed: Nginx) -> None:
    answer = signed.ask("/api/hello", SESSION)
    assert (answer.status, answer.headers["Set-Cookie"]) == (200, "session=renewed")
    assert json.loads(answer.content)["authorization"] == RIGHT["Authorization"]
    assert signed.logged()["user"] == "erika"
    # Left in the browser from an earlier login.
    assert signed.ask("/api/hello", {**SESSION, **WRONG}).status == 200
    assert json.loads(signed.ask("/ui-settings", SESSION).content)["auth"] is None


@pytest.mark.parametrize("headers", [{}, PAGE, WRONG, CASED, {"Cookie": "session=bad"}, {"Authorization": f"{RIGHT['Authorization']}="}])
@pytest.mark.parametrize("path", ["/api/hello", "/api/task_runs/", "/api/admin/settings", "/api/admin/version"])
def test_the_api_is_closed_to_strangers(signed: Nginx, headers: dict[str, str], path: str) -> None:
    assert signed.ask(path, headers).status in (401, 429)
    assert asked(signed) == []


@pytest.mark.parametrize("path", ["/", "/docs", "/ui-settings", "/v2/", "/assets/index-old.js"])
def test_pages_are_closed_to_strangers(signed: Nginx, path: str) -> None:
    assert signed.ask(path).status == 401
    assert signed.ask(path, PAGE).status == 302
    assert asked(signed) == []


def test_machines_go_past_it(signed: Nginx, sessions: Sessions) -> None:
    assert statuses(signed, 20, RIGHT) == [200] * 20
    assert signed.ask("/api/task_runs/", RIGHT, method="POST").status == 200
    assert sessions.asked == []


def test_health_is_open(signed: Nginx, sessions: Sessions) -> None:
    for path in ("/api/health", "/api/ready", "/nginx-health"):
        assert signed.ask(path).status == 200
    assert sessions.asked == []


@pytest.mark.parametrize(
    "path", ["events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled", "work_pools/a/workers/connect"]
)
def test_websockets_are_left_to_prefect(signed: Nginx, sessions: Sessions, path: str) -> None:
    for server in signed.servers:
        server.login = ""
    try:
        answer = signed.ask(f"/api/{path}", {**SESSION, "Upgrade": "websocket", "Connection": "upgrade"})
    finally:
        for server in signed.servers:
            server.login = RIGHT["Authorization"]
    assert answer.status == 200
    assert "authorization" not in json.loads(answer.content), "a session is not enough: Prefect asks inside the connection"
    assert sessions.asked == []


def test_pages_of_the_login(signed: Nginx, sessions: Sessions) -> None:
    answer = signed.ask("/oauth2/start?rd=/v2/", {**RIGHT, "Host": "prefect.example.com"})
    assert (answer.status, answer.content) == (200, "login")
    path, headers = sessions.asked[0]
    assert (path, headers["host"], headers.get("authorization")) == ("/oauth2/start?rd=/v2/", "prefect.example.com", None)


@pytest.mark.parametrize(("site", "status"), [("same-origin", 200), ("none", 200), ("", 200), ("same-site", 403), ("cross-site", 403)])
def test_pages_of_others_change_nothing(signed: Nginx, site: str, status: int) -> None:
    headers = {**SESSION, **({"Sec-Fetch-Site": site} if site else {})}
    assert signed.ask("/api/hello", headers, method="POST").status == status
    assert signed.ask("/api/hello", headers).status == 200


def test_wrong_credentials_count_there_too(signed: Nginx) -> None:
    assert statuses(signed, 7, WRONG, source="127.0.4.1") == [401] * 5 + [429] * 2
    assert statuses(signed, 7, {}, source="127.0.4.1") == [401] * 7


def test_the_check_cannot_be_asked_from_outside(signed: Nginx) -> None:
    assert signed.ask("/nginx-login-check", RIGHT).status == 404


def test_a_single_sign_on_that_is_down_keeps_people_out_and_machines_in(signed: Nginx, sessions: Sessions) -> None:
    sessions.broken = True
    try:
        assert signed.ask("/", {**PAGE, **SESSION}).status == 500
        assert signed.ask("/api/hello", RIGHT).status == 200
    finally:
        sessions.broken = False


def test_a_sign_in_page_elsewhere(start: Start, sessions: Sessions) -> None:
    nginx = start(
        nginx_auth_request_url=f"http://127.0.0.1:{sessions.server_port}/oauth2/auth",
        nginx_auth_request_signin_url="https://sso.example.com/start?app=prefect",
    )
    answer = nginx.ask("/v2/", {**PAGE, "Host": "prefect.example.com"})
    assert answer.headers["Location"] == "https://sso.example.com/start?app=prefect&rd=http://prefect.example.com/v2/"
    assert nginx.ask("/oauth2/start", PAGE).status == 302, "its pages are not served here"


def test_large_bodies_pass(signed: Nginx) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", signed.port, 10)
    connection.request("POST", "/api/hello", b"x" * 4_000_000, SESSION)
    assert connection.getresponse().status == 200
    connection.close()
