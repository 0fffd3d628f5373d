from __future__ import annotations

import base64
import json
import re
import socket
import time
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Request, fetch, with_token
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError

URL = "http://10.0.0.1:4200/api"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue"


class Server:
    """Gives one answer, keeps the connection open, and remembers the last request."""

    def __init__(self, serve: Any, answer: bytes) -> None:
        self.request = b""
        self._answer = answer
        self.url = f"http://127.0.0.1:{serve(self._talk)}"

    def _talk(self, peer: socket.socket) -> None:
        with peer.makefile("rb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n")) + b"\r\n"
            size = re.search(rb"Content-Length: (\d+)", head)
            self.request = head + stream.read(int(size[1]) if size else 0)
        if self._answer:
            peer.sendall(self._answer)
        peer.recv(1)


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"true"),
        (b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n", 503, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntr\r\n2\r\nue\r\n0\r\n\r\n", 200, b"true"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    ],
)
def test_answers_that_do_not_close(serve: Any, answer: bytes, status: int, body: bytes) -> None:
    assert fetch(Request(Server(serve, answer).url), 5) == Answer(status, body)


def test_an_answer_that_ends_by_closing(serve: Any) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    assert fetch(Request(f"http://127.0.0.1:{serve(talk)}"), 5).body == b"all of it"


def test_the_time_in_all_is_what_counts(serve: Any) -> None:
    """Something comes every 0.1 s, but never the whole answer."""

    def drip(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        for _drop in range(50):
            peer.sendall(b".")
            time.sleep(0.1)

    started = time.monotonic()
    with pytest.raises(NetError, match=r"did not answer within 0.3 s"):
        fetch(Request(f"http://127.0.0.1:{serve(drip)}"), 0.3)
    assert time.monotonic() - started < 2


def test_a_connection_that_is_closed(serve: Any) -> None:
    with pytest.raises(NetError, match="dropped the connection"):
        fetch(Request(f"http://127.0.0.1:{serve(lambda peer: peer.recv(65536))}"), 5)


@pytest.mark.parametrize(
    ("answer", "message"),
    [(b"+PONG\r\n", "did not answer in HTTP"), (b"", "did not answer within 0.3 s"), (b"HTTP/1.1 200 OK\r\nCont", "did not answer within")],
)
def test_no_http(serve: Any, answer: bytes, message: str) -> None:
    with pytest.raises(NetError, match=message):
        fetch(Request(Server(serve, answer).url), 0.3)


def test_what_is_sent(serve: Any) -> None:
    server = Server(serve, OK)
    answer = fetch(Request(f"{server.url}/api/x?y=1", "POST", "user:pä:ss", {"a": 1}, headers={"X-Probe": "1"}), 5)
    assert answer.headers == {"content-length": "4"}
    head, _blank, body = server.request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/x?y=1 HTTP/1.1"
    assert f"Host: {server.url[7:]}" in lines
    assert "Connection: close" in lines
    assert "X-Probe: 1" in lines
    assert "Authorization: Basic " + base64.b64encode("user:pä:ss".encode()).decode() in lines
    assert f"Content-Length: {len(body)}" in lines
    assert json.loads(body) == {"a": 1}


def test_nothing_more_than_needed_is_sent(serve: Any) -> None:
    server = Server(serve, OK)
    fetch(Request(server.url), 5)
    assert server.request.startswith(b"GET / HTTP/1.1\r\n")
    assert b"Authorization" not in server.request
    assert b"Content-" not in server.request


@pytest.mark.parametrize("url", ["", "localhost:4200", "ftp://host/", "http://"])
def test_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="is not an http:// or https:// URL"):
        fetch(Request(url), 1)


@pytest.mark.parametrize(
    ("answer", "value", "summary"),
    [
        (Answer(200, b"true"), True, "HTTP 200 true"),
        (Answer(502, b"<html>\n bad  gateway"), None, "HTTP 502 <html> bad gateway"),
        (Answer(204), None, "HTTP 204"),
        (Answer(500, b"x" * 300), None, "HTTP 500 " + "x" * 200 + "..."),
    ],
)
def test_answer(answer: Answer, value: Any, summary: str) -> None:
    assert (answer.json(), answer.summary()) == (value, summary)


class Protected:
    """Prefect's API with CSRF protection, unless it is off. A token is good for its own client alone."""

    def __init__(self, on: bool = True) -> None:
        self.on = on
        self.asked: list[Request] = []

    def __call__(self, request: Request, _timeout: float) -> Answer:
        self.asked.append(request)
        path, _mark, client = request.url.removeprefix(URL).partition("?client=")
        if path == "/csrf-token":
            return Answer(200, json.dumps({"token": f"of {client}"}).encode()) if self.on else Answer(422, b'{"detail": "off"}')
        name = request.headers.get("Prefect-Csrf-Client")
        if request.method != "GET" and (self.on or path == "/odd") and request.headers.get("Prefect-Csrf-Token") != f"of {name}":
            return Answer(403, b'{"detail": "Missing CSRF token."}')
        return Answer(201, json.dumps(dict(request.headers)).encode())


def test_a_write_gets_a_token_where_the_api_wants_one() -> None:
    api = Protected()
    request = Request(f"{URL}/x", "POST", "user:pass", {"a": 1}, {"ca_file": "/ca"}, {"X-Probe": "1"})
    answer = with_token(URL, api)(request, 1)
    assert (answer.status, answer.json()["X-Probe"]) == (201, "1")
    assert [one.method for one in api.asked] == ["POST", "GET", "POST"]
    assert {(one.auth_string, one.tls["ca_file"]) for one in api.asked if one.tls} == {("user:pass", "/ca")}
    assert with_token(URL, api)(Request(f"{URL}/x"), 1).status == 201
    assert len(api.asked) == 4


@pytest.mark.parametrize(("path", "status", "asked"), [("/x", 201, 1), ("/odd", 403, 2)])
def test_a_write_where_there_is_no_token(path: str, status: int, asked: int) -> None:
    api = Protected(on=False)
    assert with_token(URL, api)(Request(URL + path, "DELETE"), 1).status == status
    assert len(api.asked) == asked
