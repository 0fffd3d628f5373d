from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils import _arrivals
from ansible_collections.selfhosted.prefect.plugins.module_utils._arrivals import Arrivals, ask, confirm, packet_filter
from ansible_collections.selfhosted.prefect.plugins.module_utils._http import Answer, Request
from ansible_collections.selfhosted.prefect.plugins.module_utils._net import NetError


class Balancer:
    """Balancers that send a request here once they have had so many; -1: never."""

    def __init__(self, **leads_here_after: int) -> None:
        self.left = leads_here_after
        self.asked: list[str] = []
        self.timeouts: list[float] = []
        self.marks: set[str] = set()
        self.now = 0.0
        self.takes = 0.0

    def ask(self, url: str, mark: str, timeout: float) -> str:
        self.asked.append(url)
        self.timeouts.append(timeout)
        self.now += min(self.takes, timeout)
        if self.left[url] == 0:
            self.marks.add(mark)
        self.left[url] -= 1
        return f"HTTP 200 through {url}"

    def arrived(self) -> set[str]:
        found, self.marks = self.marks, {"somebody else's"}
        return found

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


def confirmed(balancer: Balancer, timeout: float = 5.0) -> _arrivals.Confirmed:
    numbers = itertools.count()
    return confirm(
        list(balancer.left),
        balancer.ask,
        balancer.arrived,
        timeout,
        mark=lambda: f"mark{next(numbers)}",
        clock=lambda: balancer.now,
        sleep=balancer.sleep,
        interval=0.1,
    )


@pytest.mark.parametrize(
    ("leads_here_after", "requests", "elapsed", "missing"),
    [
        ({"a": 0}, 1, 0.0, []),
        ({"a": 3}, 4, 0.3, []),
        # Those that have led here are not asked again.
        ({"a": 0, "b": 2, "c": 0}, 5, 0.2, []),
        ({"a": 0, "b": -1}, 1 + 50, 5.0, ["b"]),
    ],
)
def test_confirm(leads_here_after: dict[str, int], requests: int, elapsed: float, missing: list[str]) -> None:
    balancer = Balancer(**leads_here_after)
    found = confirmed(balancer)
    assert found.elapsed == pytest.approx(elapsed)
    assert found.missing == {url: f"HTTP 200 through {url}" for url in missing}
    assert abs(found.requests - requests) <= bool(missing)
    assert len(balancer.asked) == found.requests


def test_time_is_bounded_when_nobody_answers() -> None:
    balancer = Balancer(a=-1, b=-1)
    balancer.takes = 60.0
    found = confirmed(balancer, timeout=5)
    assert sorted(found.missing) == ["a", "b"]
    assert all(found.missing.values())
    assert found.elapsed <= 6
    assert max(balancer.timeouts) <= 3


def test_each_is_asked_once_even_without_time() -> None:
    balancer = Balancer(a=0, b=0)
    assert confirmed(balancer, timeout=0).missing == {}
    assert balancer.asked == ["a", "b"]


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Request, float]] = []

    def fetch(request: Request, timeout: float) -> Answer:
        sent.append((request, timeout))
        return Answer(200, b'"3.8.8"')

    monkeypatch.setattr(_arrivals, "fetch", fetch)
    assert ask("http://balancer:4200/api", "admin:x", {"ca_file": None}, "0123456789abcdef", 2) == 'HTTP 200 "3.8.8"'
    (request, timeout) = sent[0]
    assert request.url == "http://balancer:4200/api/admin/version?prefect-drain=0123456789abcdef"
    assert (request.method, request.auth_string, timeout) == ("GET", "admin:x", 2)


def test_no_answer_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_request: Request, _timeout: float) -> Answer:
        raise NetError("refused the connection")

    monkeypatch.setattr(_arrivals, "fetch", fetch)
    assert ask("http://balancer:4200/api", "", {}, "0123456789abcdef", 2) == "refused the connection"


def run_filter(program: bytes, packet: bytes) -> int:
    """As much of the kernel's machine as the filter uses. Returns how many bytes of the packet are kept."""
    steps = list(struct.iter_unpack("=HBBI", program))
    at = value = index = 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        match code:
            case 0x30:
                value = packet[operand]
            case 0x28:
                value = int.from_bytes(packet[operand : operand + 2], "big")
            case 0x48:
                value = int.from_bytes(packet[index + operand : index + operand + 2], "big")
            case 0xB1:
                index = 4 * (packet[operand] & 15)
            case 0x54:
                value &= operand
            case 0x15:
                at += yes if value == operand else no
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(code)


def packet(version: int, protocol: int, port: int, options: int = 0) -> bytes:
    ports = (50000).to_bytes(2, "big") + port.to_bytes(2, "big")
    if version == 4:
        return bytes([0x45 + options]) + bytes(8) + bytes([protocol]) + bytes(10 + 4 * options) + ports + bytes(16)
    return bytes([version << 4]) + bytes(5) + bytes([protocol]) + bytes(33) + ports + bytes(16)


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (packet(4, socket.IPPROTO_TCP, 4200), True),
        (packet(4, socket.IPPROTO_TCP, 4200, options=3), True),
        (packet(6, socket.IPPROTO_TCP, 4200), True),
        (packet(4, socket.IPPROTO_TCP, 4201), False),
        (packet(6, socket.IPPROTO_TCP, 4201), False),
        (packet(4, socket.IPPROTO_UDP, 4200), False),
        (packet(6, socket.IPPROTO_UDP, 4200), False),
        (packet(5, socket.IPPROTO_TCP, 4200), False),
    ],
)
def test_the_filter(content: bytes, kept: bool) -> None:
    assert bool(run_filter(packet_filter(4200), content)) is kept


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    address = request.param
    try:
        server = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with server:
        yield server


def send(listener: socket.socket, data: bytes) -> None:
    with socket.create_connection(listener.getsockname()[:2]) as client:
        client.sendall(data)
        server, _peer = listener.accept()
        with server:
            assert server.recv(1000)


def test_on_the_wire(listener: socket.socket) -> None:
    try:
        arrivals = Arrivals(listener.getsockname()[1])
    except PermissionError:
        pytest.skip("it takes root to look at packets")
    with arrivals:
        send(listener, b"GET /api/admin/version?prefect-drain=0123456789abcdef HTTP/1.1\r\n\r\n")
        assert arrivals.marks() == {"0123456789abcdef"}
        assert arrivals.marks() == set()
        send(listener, b"GET /api/admin/version HTTP/1.1\r\nX-Other: ?prefect-drain=0123456789abcdef\r\n\r\n")
        assert arrivals.marks() == set()


class Kernel:
    """A packet socket that has been sent these packets."""

    def __init__(self, *packets: tuple[bytes, int]) -> None:
        self.packets = list(packets)
        self.closed = False

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[Any, ...]]:
        if not self.packets:
            raise BlockingIOError
        content, kind = self.packets.pop(0)
        return content, ("eth0", 8, kind, 1, b"")

    def setsockopt(self, *_: Any) -> None:
        pass

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def close(self) -> None:
        self.closed = True


def test_requests_of_this_host_to_a_balancer_on_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    request = b"GET /api/admin/version?prefect-drain=%s HTTP/1.1\r\n"
    kernel = Kernel((request % (b"a" * 16), 4), (request % (b"b" * 16), 0))
    make: Callable[..., Kernel] = lambda *_: kernel  # noqa: E731
    monkeypatch.setattr(socket, "socket", make)
    with Arrivals(4200) as arrivals:
        assert arrivals.marks() == {"b" * 16}
    assert kernel.closed
