from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils import _health
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Request
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import MissingLibraryError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._health import (
    Condition,
    Outcome,
    PermanentError,
    RetryPolicy,
    Scheduler,
    Server,
    Units,
    UnmetError,
    api_base,
    failure_message,
    probe_name,
    wait_until,
)


class Time:
    """A clock that only sleeping, and a cost for each look at it, moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def condition(name: str, *answers: Any) -> Condition:
    """A condition with these answers, one after the other, the last one for ever; an exception is raised."""
    left = list(answers)

    def check(_timeout: float) -> str:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    return Condition(name, check)


BAD = UnmetError("no")


@pytest.mark.parametrize(
    ("answers", "policy", "outcome"),
    [
        (["ok"], RetryPolicy(2, 60, 1), (True, 2, 1.0, "", "")),
        (["ok"], RetryPolicy(1, 60, 1), (True, 1, 0.0, "", "")),
        ([BAD, BAD, "ok"], RetryPolicy(2, 60, 1), (True, 4, 3.0, "", "")),
        (["ok", BAD, "ok"], RetryPolicy(2, 60, 1), (True, 4, 3.0, "", "")),
        ([NetError("refused"), "ok"], RetryPolicy(1, 60, 1), (True, 2, 1.0, "", "")),
        ([BAD], RetryPolicy(2, 3, 1), (False, 4, 3.0, "it", "no")),
        # Once is not often enough, and the message must not call that a failed condition.
        ([BAD, "ok"], RetryPolicy(3, 2, 1), (False, 3, 2.0, "successes", "good 2 times in a row, not 3")),
        (["ok"], RetryPolicy(1, 0, 0), (True, 1, 0.0, "", "")),
        ([BAD], RetryPolicy(1, 0, 0), (False, 1, 0.0, "it", "no")),
        ([PermanentError("gone")], RetryPolicy(2, 60, 1), (False, 1, 0.0, "it", "gone")),
    ],
)
def test_wait_until(answers: list[Any], policy: RetryPolicy, outcome: Any) -> None:
    time = Time()
    ended = wait_until([condition("it", *answers)], policy, time.clock, time.sleep)
    assert (ended.healthy, ended.attempts, ended.elapsed, ended.failed, ended.answer) == outcome


def test_conditions_after_a_failed_one_are_not_tried() -> None:
    time = Time()
    conditions = [condition("one", "fine"), condition("two", BAD), condition("three", AssertionError("asked"))]
    ended = wait_until(conditions, RetryPolicy(1, 1, 1), time.clock, time.sleep)
    assert ended.answers == {"one": "fine", "two": "no"}


def test_a_check_that_held_is_not_made_again_at_once() -> None:
    """As one that starts a process each time would take the processor from the server that it waits for."""
    time, made = Time(), []

    def check(_timeout: float) -> str:
        made.append(time.now)
        if len(made) == 1:
            raise BAD
        return "runs"

    conditions = [Condition("unit", check, every=1.0), condition("server", *[BAD] * 12, "fine")]
    ended = wait_until(conditions, RetryPolicy(1, 60, 0.25), time.clock, time.sleep)
    assert ended.answers == {"unit": "runs", "server": "fine"}
    # A failure is seen at once, and after a success it is made again when its time is over.
    assert made == [0.0, 0.25, 1.25, 2.25, 3.25]


def test_no_request_outlasts_the_whole_by_more_than_a_second() -> None:
    time = Time()
    allowed: list[float] = []

    def check(timeout: float) -> str:
        allowed.append(timeout)
        time.now += timeout
        raise BAD

    ended = wait_until([Condition("it", check)], RetryPolicy(2, 12, 1, 5), time.clock, time.sleep)
    assert allowed == [5, 5, 1]
    assert ended.elapsed == pytest.approx(13)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:4200", "http://h:4200/api"),
        ("http://h:4200/", "http://h:4200/api"),
        ("http://h:4200/api", "http://h:4200/api"),
        ("https://h/prefect/api/", "https://h/prefect/api"),
        ("http://[::1]:4200", "http://[::1]:4200/api"),
    ],
)
def test_api_base(url: str, base: str) -> None:
    assert api_base(url) == base


@pytest.mark.parametrize("url", ["", "h:4200", "ftp://h", "http://", "http://user:secret@h/api"])
def test_api_base_refuses(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url must"):
        api_base(url)


class Api:
    """Answers by method and path, and remembers what it was asked."""

    def __init__(self, **answers: Answer) -> None:
        self.asked: list[Request] = []
        self._answers = {"health": Answer(200, b"true"), "ready": Answer(200, b"{}"), "version": Answer(200, b'"3.8.8"'), **answers}

    def __call__(self, request: Request, _timeout: float) -> Answer:
        self.asked.append(request)
        return self._answers[request.url.rpartition("/")[2] if request.method == "GET" else request.method.lower()]


def server(api: Api, **options: Any) -> Server:
    return Server("http://h/api", fetch=api, **options)


@pytest.mark.parametrize(
    ("options", "names"),
    [({}, ["live", "ready"]), ({"version": "3.8.8"}, ["live", "ready", "version"]), ({"auth_string": "a:b"}, ["live", "ready", "version"])],
)
def test_server_conditions(options: Any, names: list[str]) -> None:
    api = Api()
    conditions = server(api, **options).conditions()
    assert [each.name for each in conditions] == names
    for each in conditions:
        each.check(5)
    assert {request.auth_string for request in api.asked} == {options.get("auth_string", "")}


@pytest.mark.parametrize(
    ("answers", "method", "message"),
    [
        ({"health": Answer(200, b'{"status":"healthy"}')}, "live", "expected HTTP 200 true"),
        ({"health": Answer(502, b"<html>")}, "live", "HTTP 502 <html>; expected"),
        ({"ready": Answer(503, b'{"message":"no"}')}, "ready", "503 means it does not reach its database"),
        ({"version": Answer(401)}, "who", "runs with another prefect_auth_string"),
        ({"version": Answer(200, b'"3.7.0"')}, "who", r"it runs version 3\.7\.0, not 3\.8\.8"),
        ({"version": Answer(200, b"{}")}, "who", "expected HTTP 200 and a version"),
    ],
)
def test_server_unmet(answers: Any, method: str, message: str) -> None:
    with pytest.raises(UnmetError, match=message):
        getattr(server(Api(**answers), version="3.8.8"), method)(5)


def test_write_leaves_nothing() -> None:
    api = Api(post=Answer(201, b"{}"), delete=Answer(204))
    assert server(api).write("prefect_health_a", 5) == "HTTP 201"
    assert [(each.method, each.url) for each in api.asked] == [
        ("POST", "http://h/api/variables/"),
        ("DELETE", "http://h/api/variables/name/prefect_health_a"),
    ]
    assert api.asked[0].body["name"] == "prefect_health_a"


@pytest.mark.parametrize(
    ("answers", "message", "deletes"),
    [
        ({"post": Answer(500)}, "creating a variable: HTTP 500", False),
        ({"post": Answer(409), "delete": Answer(204)}, "was left from an earlier check", True),
        ({"post": Answer(201), "delete": Answer(500)}, "deleting the variable x again: HTTP 500", True),
    ],
)
def test_write_unmet(answers: Any, message: str, deletes: bool) -> None:
    api = Api(**answers)
    with pytest.raises(UnmetError, match=message):
        server(api).write("x", 5)
    assert ("DELETE" in [each.method for each in api.asked]) is deletes


@pytest.mark.parametrize(("host", "name"), [("api-1.example.com", "prefect_health_api_1_example_com"), ("API", "prefect_health_api")])
def test_probe_name(host: str, name: str) -> None:
    assert probe_name(host) == name


def replies(serve: Any, reply: bytes) -> Scheduler:
    def talk(peer: Any) -> None:
        while b"CLIENT" in peer.recv(65536):  # redis-py introduces itself
            peer.sendall(b"+OK\r\n")
        peer.sendall(reply)
        peer.recv(1)

    return Scheduler({"host": "127.0.0.1", "port": serve(talk)}, 30, now=lambda: 1000.0)


def test_a_host_without_the_library_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise MissingLibraryError("redis")

    monkeypatch.setattr(_health, "connect_redis", refuse)
    scheduler = Scheduler({"host": "127.0.0.1"})
    with pytest.raises(PermanentError, match=r"Redis at 127.0.0.1:6379 cannot be queried: .* has no library redis"):
        scheduler.ping(5)


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


@pytest.mark.parametrize(
    ("when", "since", "answer"),
    [("1004.5", 0, "next tick in 4.5 s"), ("970.0", 0, "tick due 30.0 s ago"), ("999.0", 990.0, "tick due 1.0 s ago")],
)
def test_scheduler(serve: Any, when: str, since: float, answer: str) -> None:
    assert replies(serve, bulk(when)).ticked(2, since) == answer


@pytest.mark.parametrize(
    ("reply", "since", "message"),
    [
        (b"$-1\r\n", 0, "never ticked"),
        (bulk("soon"), 0, "not a time: 'soon'"),
        (bulk("969.0"), 0, "due 31 s ago, more than 30 s"),
        (bulk("999.0"), 999.5, "has not ticked since the services started"),
        (b"-NOPERM no\r\n", 0, r"Redis at 127\.0\.0\.1:\d+ answered NOPERM no"),
        (b"", 0, r"Redis at 127\.0\.0\.1:\d+ did not answer within 0\.3 s"),
    ],
)
def test_scheduler_unmet(serve: Any, reply: bytes, since: float, message: str) -> None:
    with pytest.raises(UnmetError, match=message):
        replies(serve, reply).ticked(0.3, since)


def beats(**of: str) -> bytes:
    """A sorted set with its scores, as Redis tells it."""
    words = [word for name, beat in of.items() for word in (name.replace("_", "#"), beat)]
    return f"*{len(words)}\r\n".encode() + b"".join(map(bulk, words))


def test_services_that_have_shown_themselves(serve: Any) -> None:
    assert replies(serve, beats(here_7="998.5", there_8="400")).works(2, "here", 990.0) == "seen 1.5 s ago"


@pytest.mark.parametrize(
    ("reply", "since", "message"),
    [
        (b"*0\r\n", 0, "have not shown themselves in Redis since they started"),
        (beats(there_8="999", hereafter_7="999"), 0, "since they started"),
        (beats(here_7="998"), 999.0, "since they started"),
        (beats(here_7="900"), 0, "for 100 s, more than 30 s"),
    ],
)
def test_services_that_have_not(serve: Any, reply: bytes, since: float, message: str) -> None:
    with pytest.raises(UnmetError, match=message):
        replies(serve, reply).works(2, "here", since)


def shown(state: str, sub: str, load: str = "loaded", start: str = "Mon 2026-11-23 15:10:59.123456 UTC") -> str:
    return f"Id=a.service\nLoadState={load}\nActiveState={state}\nSubState={sub}\nExecMainStartTimestamp={start}\n"


def test_units() -> None:
    units = Units(["a.service"], lambda _argv: shown("active", "running"))
    assert units.active(5) == "a.service is active (running)"
    assert units.started() == pytest.approx(1795446659.123456)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (shown("activating", "auto-restart"), UnmetError, r"a\.service is activating \(auto-restart\)"),
        (shown("failed", "failed"), PermanentError, "systemd has given up on it"),
        (shown("inactive", "dead", "not-found"), PermanentError, "does not exist on this host"),
        (shown("inactive", "dead"), UnmetError, r"inactive \(dead\)"),
    ],
)
def test_units_unmet(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Units(["a.service"], lambda _argv: text).active(5)
    assert isinstance(caught.value, PermanentError) is (error is PermanentError)


def test_failure_message() -> None:
    outcome = Outcome(False, 12, 60.4, "ready", "HTTP 503.", {"live": "HTTP 200 true", "ready": "HTTP 503."})
    said = "Failed: ready. Last answer: HTTP 503.\nHeld: live."
    begin = "http://h/api is not healthy after 60 s and 12 attempts"
    assert failure_message("http://h/api", outcome, "its cause.") == f"{begin}: its cause.\n{said}"
    assert failure_message("http://h/api", outcome) == f"{begin}: HTTP 503.\n{said}"
