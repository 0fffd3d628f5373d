"""What keepalived runs on load balancers: its check, and how the address is given up. The programs that it starts are stand-ins."""

from __future__ import annotations

import http.server
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.authority import Authority

PROGRAM = Path(__file__).resolve().parents[2] / "roles" / "keepalived" / "files" / "virtual_address.sh"
ADDRESS, OWN, PEER, OTHER = "10.0.0.100", "10.0.0.1", "10.0.0.2", "fd00::3"
URL = "https://prefect.example.com:4200"
# nginx answers for an API server, nginx alone answers, nothing answers.
SERVES, ANSWERS, GONE = "200 200 ", "200 502 ", "000 "

STANDINS = {
    # Says of each nginx what the file of its address holds; the next line at the next time.
    "curl": """
for word; do
  case $word in ::*) at=${word#::} at=${at%:} ;; esac
done
echo "curl $*" >>"$CALLS"
file=$(ls "$STATE"/"$at") || exit 7
head -n1 "$file" | tr -d '\\n'
[ "$(wc -l <"$file")" -lt 2 ] || sed -i 1d "$file"
""",
    "ip": 'echo "ip $*" >>"$CALLS"; cat "$STATE"/held',
    # The connections of the moment: one line each in the first of the files, which goes when it was read.
    "ss": """
echo "ss $*" >>"$CALLS"
file=$(ls "$STATE"/connections.* 2>/dev/null | head -n1)
[ -n "$file" ] || exit 0
while read -r peer; do echo "0 0 10.0.0.100:4200 $peer"; done <"$file"
[ "$(ls "$STATE"/connections.* | wc -l)" -lt 2 ] || rm "$file"
""",
    "nft": 'echo "nft $*" >>"$CALLS"; [ "$1" != --file ] || cat >>"$CALLS"; [ "$1" != delete ] || test -e "$STATE"/table',
    "systemctl": 'echo "systemctl $*" >>"$CALLS"; test -e "$CLOSING" && echo closing >>"$CALLS"',
    "sleep": 'echo "sleep $*" >>"$CALLS"',
}


class Host:
    """A load balancer on which the program runs."""

    def __init__(self, folder: Path) -> None:
        self.state, self.calls, self.closing, self.programs, self.use = (
            folder / name for name in ("state", "calls", "closing", "bin", "use")
        )
        self.state.mkdir()
        self.programs.mkdir()
        (self.state / "held").touch()
        for name, text in STANDINS.items():
            (self.programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.programs / name).chmod(0o755)

    def nginx(self, address: str, *answers: str) -> None:
        (self.state / (f"[{address}]" if ":" in address else address)).write_text("\n".join(answers) + "\n")

    def has_the_address(self) -> None:
        (self.state / "held").write_text(f"2: eth0    inet {ADDRESS}/32 scope global eth0\n")

    def connections(self, *each: list[str]) -> None:
        for number, peers in enumerate(each):
            (self.state / f"connections.{number}").write_text("".join(f"{peer}\n" for peer in peers))

    def run(self, command: str, *peers: str, ca: str = "-", own: str = OWN, url: str = URL, real: bool = False) -> int:
        path = os.environ["PATH"] if real else f"{self.programs}:{os.environ['PATH']}"
        env = {"PATH": path, "STATE": str(self.state), "CALLS": str(self.calls), "CLOSING": str(self.closing), "USE": str(self.use)}
        words = ["/bin/sh", str(PROGRAM), command, ADDRESS, url, ca, str(self.closing), own, *peers]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert not done.stdout, done.stdout
        return done.returncode

    @property
    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("own", "others", "fit"),
    [
        pytest.param(SERVES, {PEER: SERVES}, True, id="all is well"),
        pytest.param(SERVES, {PEER: GONE, OTHER: GONE}, True, id="the others are gone"),
        pytest.param(GONE, {PEER: SERVES}, False, id="nginx is gone here"),
        pytest.param(GONE, {PEER: GONE, OTHER: SERVES}, False, id="nginx is gone here and on another host"),
        pytest.param(GONE, {PEER: ANSWERS}, False, id="nginx is gone here, and no API server answers"),
        pytest.param(GONE, {PEER: GONE}, True, id="nginx is gone everywhere"),
        pytest.param(GONE, {}, True, id="nginx is gone on the only host"),
        pytest.param(ANSWERS, {PEER: SERVES}, False, id="no API server can be reached from here"),
        pytest.param(ANSWERS, {PEER: ANSWERS, OTHER: GONE}, True, id="no API server can be reached"),
        pytest.param("200 000 ", {PEER: SERVES}, False, id="API servers are silent from here"),
        pytest.param("403 ", {PEER: SERVES}, False, id="another site answers"),
    ],
)
def test_the_check(host: Host, own: str, others: Mapping[str, str], fit: bool) -> None:
    host.nginx(OWN, own)
    for address, answers in others.items():
        host.nginx(address, answers)
    assert host.run("check", *others) == (0 if fit else 1)
    # No other host gets a request while all is well, and it has looked twice before it says otherwise.
    assert ("sleep 0.2" in host.called) is not fit
    assert host.use.read_text() == f"{ {SERVES: 2, ANSWERS: 1, '200 000 ': 1}.get(own, 0) }\n"
    if own == SERVES:
        assert len(host.called) == 1


@pytest.mark.parametrize(("first", "then", "fit"), [(GONE, SERVES, True), (ANSWERS, GONE, False)])
def test_the_check_looks_twice(host: Host, first: str, then: str, fit: bool) -> None:
    host.nginx(OWN, first, then)
    host.nginx(PEER, SERVES)
    assert host.run("check", PEER) == (0 if fit else 1)


def test_what_it_requests(host: Host) -> None:
    host.nginx(OTHER, SERVES)
    assert host.run("check", PEER, own=OTHER, ca="/etc/prefect-tls/ca.crt") == 0
    (words,) = host.called
    assert words.startswith("curl --disable ")
    for part in (f"--connect-to ::[{OTHER}]: ", "--cacert /etc/prefect-tls/ca.crt", f"{URL}/nginx-health --next", f"{URL}/api/health"):
        assert words.count(part) == (2 if part.startswith("--c") else 1), words


@pytest.mark.parametrize(("answers", "code"), [(SERVES, 0), (ANSWERS, 1), (GONE, 1)])
def test_whether_another_one_could_have_it(host: Host, answers: str, code: int) -> None:
    host.nginx(PEER, GONE)
    host.nginx(OTHER, answers)
    assert host.run("another", PEER, OTHER) == code


def test_the_address_is_given_up(host: Host) -> None:
    """The open connections that were there before are idle or websockets; the others are waited for."""
    host.has_the_address()
    host.nginx(PEER, SERVES)
    websocket, request = "10.0.0.9:5000", "10.0.0.9:5001"
    host.connections([websocket], [websocket, request, "10.0.0.8:6000"], [websocket, request], [websocket])
    assert host.run("release", PEER) == 0
    called = host.called
    assert host.closing.exists()
    assert called[0] == f"ip -oneline address show to {ADDRESS}"
    after = called[called.index("sleep 3") :]
    assert after[1:4] == ["systemctl kill --kill-whom=main --signal=HUP nginx.service", "closing", "sleep 0.5"]
    assert f"    ip daddr {ADDRESS} tcp flags & (fin | syn | rst | ack) == syn drop" in after
    listed = f"ss -H -n -t state established src {ADDRESS}"
    assert after[-6:] == [listed, "sleep 0.1", listed, "sleep 0.1", listed, listed.replace("ss ", "ss --kill ")]


def test_a_request_that_takes_long_is_not_waited_for(host: Host) -> None:
    host.has_the_address()
    host.nginx(PEER, SERVES)
    host.connections([], ["10.0.0.9:5001"])
    assert host.run("release", PEER) == 0
    assert host.called.count("sleep 0.1") == 20


@pytest.mark.parametrize("held", [True, False])
def test_nothing_is_drained_for_no_good(host: Host, held: bool) -> None:
    """A host without the address has no clients, and where no other one serves, they would wait for none."""
    if held:
        host.has_the_address()
    host.nginx(PEER, ANSWERS if held else SERVES)
    assert host.run("release", PEER) == 0
    assert not host.closing.exists()
    assert not [call for call in host.called if call.startswith(("nft", "systemctl"))]


def test_what_was_done_is_lifted(host: Host) -> None:
    host.closing.touch()
    (host.state / "table").touch()
    host.nginx(ADDRESS, GONE, GONE, SERVES)
    assert host.run("released", PEER) == 0
    assert not host.closing.exists()
    assert [call for call in host.called if not call.startswith("curl")] == [
        "nft delete table inet prefect_virtual_address",
        "sleep 0.1",
        "sleep 0.1",
    ]


def test_without_anything_done_nothing_is_waited_for(host: Host) -> None:
    """After a crash, or where another host has the address."""
    host.closing.touch()
    assert host.run("released", PEER) == 0
    assert not host.closing.exists()
    assert host.called == ["nft delete table inet prefect_virtual_address"]


def test_a_command_that_there_is_not(host: Host) -> None:
    assert host.run("nonsense", PEER) == 2


class Nginx(http.server.BaseHTTPRequestHandler):
    """nginx, as far as it is asked; for an API server it has none."""

    health = 200

    def do_GET(self) -> None:
        self.send_response(self.health if self.path == "/api/health" else 200 if self.path == "/nginx-health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def nginx(address: str, port: int, tls: ssl.SSLContext | None, health: int = 200) -> Iterator[int]:
    handler = type("Handler", (Nginx,), {"health": health})
    with http.server.ThreadingHTTPServer((address, port), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")
@pytest.mark.parametrize(
    ("certificate", "name", "health", "code"),
    [
        ("prefect.example.com", "prefect.example.com", 200, 0),
        ("127.0.0.1", "127.0.0.1", 200, 0),
        ("prefect.example.com", "prefect.example.com", 502, 1),
        ("another.example.com", "prefect.example.com", 200, 1),
        ("", "prefect.example.com", 200, 0),
    ],
)
def test_the_real_curl(
    host: Host, tmp_path_factory: pytest.TempPathFactory, *, certificate: str, name: str, health: int, code: int
) -> None:
    """Over TLS it verifies the name that clients have, whichever load balancer it asks. The other one on this machine is well."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    context: Callable[[str], ssl.SSLContext | None] = lambda of: authority.context(of) if of else None  # noqa: E731
    with nginx("127.0.0.1", 0, context(certificate), health) as port, nginx("127.0.0.2", port, context(certificate and name)):
        scheme = "https" if certificate else "http"
        peers = ["127.0.0.2"]
        given = host.run("check", *peers, own="127.0.0.1", url=f"{scheme}://{name}:{port}", ca=str(authority.file), real=True)
    assert given == code
