from __future__ import annotations

import socket

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Request
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain import confirm as module
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.confirm import ask, confirm, is_here

HERE, ELSEWHERE = "10.0.0.21:4200", "10.0.0.22:4200"


class Balancer:
    """Balancers that send a request here once they have had so many; -1: never, None: unknown."""

    def __init__(self, **leads_here_after: int | None) -> None:
        self.left = leads_here_after
        self.asked: list[str] = []
        self.timeouts: list[float] = []
        self.now = 0.0
        self.takes = 0.0

    def ask(self, url: str, timeout: float) -> Answer:
        self.asked.append(url)
        self.timeouts.append(timeout)
        self.now += min(self.takes, timeout)
        left = self.left[url]
        if left is None:
            return Answer(200, b"here")
        self.left[url] = left - 1
        return Answer(200, b"here", {"x-prefect-server": ELSEWHERE if left else HERE})

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


def confirmed(balancer: Balancer, timeout: float = 5.0) -> module.Confirmed:
    return confirm(
        list(balancer.left),
        balancer.ask,
        lambda server: server == HERE,
        timeout,
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
def test_confirm(leads_here_after: dict[str, int | None], requests: int, elapsed: float, missing: list[str]) -> None:
    balancer = Balancer(**leads_here_after)
    found = confirmed(balancer)
    assert found.elapsed == pytest.approx(elapsed)
    assert found.missing == dict.fromkeys(missing, f"HTTP 200 here from {ELSEWHERE}")
    assert found.unnamed == set()
    assert abs(found.requests - requests) <= bool(missing)
    assert len(balancer.asked) == found.requests


@pytest.mark.parametrize("others", [{}, {"b": 2}])
def test_a_balancer_that_names_no_server_is_given_its_time(others: dict[str, int | None]) -> None:
    balancer = Balancer(a=None, **others)
    found = confirmed(balancer)
    assert found.missing == {"a": "HTTP 200 here, which names no server"}
    assert found.unnamed == {"a"}
    assert found.elapsed == pytest.approx(5.0)
    assert balancer.asked.count("a") == 1


def test_time_is_bounded_without_an_answer() -> None:
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


def test_no_answer_is_told_in_words() -> None:
    def refuse(_url: str, _timeout: float) -> Answer:
        raise NetError("refused the connection")

    found = confirm(["a"], refuse, lambda _server: True, 0)
    assert (found.missing, found.unnamed) == ({"a": "refused the connection"}, set())


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Request, float]] = []

    def fetch(request: Request, timeout: float) -> Answer:
        sent.append((request, timeout))
        return Answer(200, b'"3.8.8"')

    monkeypatch.setattr(module, "fetch", fetch)
    assert ask("http://balancer:4200/api", "admin:x", {"ca_file": None}, 2).summary() == 'HTTP 200 "3.8.8"'
    (request, timeout) = sent[0]
    assert request.url == "http://balancer:4200/api/admin/version"
    assert (request.method, request.auth_string, request.headers, timeout) == ("GET", "admin:x", {"X-Prefect-Probe": "1"}, 2)


@pytest.mark.parametrize(
    ("server", "here"),
    [
        ("127.0.0.1:4200", True),
        ("127.0.0.1:4201", False),
        ("192.0.2.1:4200", False),
        ("[2001:db8::1]:4200", False),
        ("nginx", False),
        ("api1:4200", False),
        ("", False),
    ],
)
def test_is_here(server: str, here: bool) -> None:
    assert is_here(server, 4200) is here


def test_is_here_at_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no ::1")
    assert is_here("[::1]:4200", 4200)
