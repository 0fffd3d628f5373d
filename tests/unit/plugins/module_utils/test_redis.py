from __future__ import annotations

import socket
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base import redis as _redis
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import RedisError, connect_redis


class Server:
    """Answers commands from a table, and remembers them."""

    def __init__(self, serve: Any, answers: dict[str, bytes]) -> None:
        self.commands: list[list[str]] = []
        self._answers = answers
        self.parts = {"host": "127.0.0.1", "port": serve(self._talk)}

    def _talk(self, peer: socket.socket) -> None:
        with peer.makefile("rb") as lines:
            for line in lines:
                words = []
                for _word in range(int(line[1:])):
                    size = int(lines.readline()[1:])
                    words.append(lines.read(size + 2)[:-2].decode())
                if words[0] != "CLIENT":  # redis-py introduces itself
                    self.commands.append(words)
                peer.sendall(self._answers.get(words[0], b"+OK\r\n"))


@pytest.mark.parametrize(
    ("parts", "commands"),
    [
        ({}, []),
        ({"password": "p ä"}, [["AUTH", "p ä"]]),
        ({"username": "prefect", "password": "p:w", "db": "1"}, [["AUTH", "prefect", "p:w"], ["SELECT", "1"]]),
        ({"username": "prefect", "db": 0, "tls": {}}, []),
    ],
)
def test_login(serve: Any, parts: Any, commands: list[list[str]]) -> None:
    server = Server(serve, {"PING": b"+PONG\r\n"})
    with connect_redis({**server.parts, **parts}, 5) as redis:
        assert redis.call("PING") == "PONG"
    assert server.commands == [*commands, ["PING"]]


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (b":42\r\n", 42),
        (b"$6\r\na\r\nb\xc3\xa9\r\n", "a\r\nb\xe9"),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*2\r\n$1\r\na\r\n:1\r\n", ["a", 1]),
    ],
)
def test_replies(serve: Any, answer: bytes, value: Any) -> None:
    with connect_redis(Server(serve, {"GET": answer}).parts, 5) as redis:
        assert redis.call("GET", "key") == value


def test_info(serve: Any) -> None:
    answer = b"# Server\r\nredis_version:7.0.15\r\nos:Linux: x\r\n"
    with connect_redis(Server(serve, {"INFO": b"$%d\r\n%s\r\n" % (len(answer), answer)}).parts, 5) as redis:
        assert redis.info("server") == {"redis_version": "7.0.15", "os": "Linux: x"}


@pytest.mark.parametrize(
    ("command", "answer", "error", "message"),
    [
        ("AUTH", b"-WRONGPASS invalid username-password pair\r\n", RedisError, "WRONGPASS"),
        ("SELECT", b"-ERR DB index is out of range\r\n", RedisError, "out of range"),
        ("AUTH", b"HTTP/1.1 400 Bad Request\r\n", NetError, "did not answer as Redis does"),
        ("AUTH", b"$x\r\n", NetError, "did not answer as Redis does"),
        ("AUTH", b"", NetError, "did not answer within 0.3 s"),
        ("AUTH", b"-LOADING Redis is loading the dataset in memory\r\n", RedisError, "^LOADING Redis is loading"),
        ("AUTH", b"-MISCONF unknown to redis-py\r\n", RedisError, "^MISCONF unknown"),
        ("SELECT", b"-NOPERM this user\r\n", RedisError, "^NOPERM this user"),
    ],
)
def test_refusals(serve: Any, command: str, answer: bytes, error: type[Exception], message: str) -> None:
    server = Server(serve, {command: answer})
    with pytest.raises(error, match=message):
        connect_redis({**server.parts, "password": "x", "db": 1}, 0.3)


def test_a_port_without_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetError, match="nothing listens there"):
        connect_redis({"host": "127.0.0.1", "port": port}, 1)


def test_a_server_that_hangs_up(serve: Any) -> None:
    with pytest.raises(NetError, match=r"closed the connection before it had answered|dropped the connection"):
        connect_redis({"host": "127.0.0.1", "port": serve(lambda peer: peer.recv(1)), "password": "x"}, 1)


@pytest.mark.parametrize("answer", [b"-ERR no TLS here\r\n", b""])
def test_a_server_without_tls(serve: Any, answer: bytes) -> None:
    def talk(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(answer)

    with pytest.raises(NetError, match=r"does not speak TLS as expected|dropped the connection"):
        connect_redis({"host": "127.0.0.1", "port": serve(talk), "tls": {"enabled": True}}, 1)


def test_a_missing_file_is_named(serve: Any) -> None:
    with pytest.raises(NetError, match="because of the files /nowhere"):
        connect_redis({**Server(serve, {}).parts, "tls": {"ca_file": "/nowhere"}}, 1)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis, "redis", None)
    with pytest.raises(NetError, match=r"cannot be queried: .* has no library redis"):
        connect_redis({"host": "127.0.0.1"}, 1)
