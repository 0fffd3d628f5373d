"""A server on the loopback with one certificate after another; the client is a fake."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import (
    Client,
    RedisRefusalError,
    Server,
    Users,
    make_secret,
    read_secret,
)

LINES = """# comment
user prefect on #aa #bb resetkeys ~a:* -@all +get
user reader on >"pass word" +ping
user off

"""


@pytest.fixture
def presents(serve: Any) -> Any:
    """Starts a server with that certificate and key, and returns its port."""

    def start(certificate: str, key: str) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        def talk(peer: socket.socket) -> None:
            with context.wrap_socket(peer, server_side=True) as connection:
                connection.recv(1)

        return int(serve(talk))

    return start


def test_the_certificate_that_is_on_disk(presents: Any, authorities: Any) -> None:
    ours, _theirs = authorities
    # Whatever its names are: it has to be this one.
    first, second = ours.issue("first", "DNS:elsewhere"), ours.issue("second", "IP:127.0.0.1")
    port = presents(*first)
    assert Server("127.0.0.1", port, first[0]).problem() == ""
    assert Server("127.0.0.1", port, second[0]).problem() != ""


def test_another_one_of_the_authority_that_comes_with_it(presents: Any, authorities: Any, tmp_path: Path) -> None:
    ours, _theirs = authorities
    first, second = ours.issue("third", "IP:127.0.0.1"), ours.issue("fourth", "IP:127.0.0.1")
    chain = tmp_path / "chain.crt"
    chain.write_text(f"a comment\n{Path(second[0]).read_text()}{Path(ours.certificate).read_text()}")
    assert Server("127.0.0.1", presents(*first), str(chain)).problem() == "it presents another certificate"
    assert Server("127.0.0.1", presents(str(chain), second[1]), str(chain)).problem() == ""


def test_a_server_that_is_not_there_or_speaks_plain_text(serve: Any, authorities: Any) -> None:
    certificate, _key = authorities[0].issue("fifth", "IP:127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "nothing listens there" in Server("127.0.0.1", port, certificate).problem()
    plain = serve(lambda peer: peer.sendall(b"-ERR Protocol error\r\n"))
    assert "does not speak TLS" in Server("127.0.0.1", plain, certificate).problem()


def test_without_a_certificate_there_is_nothing_to_compare() -> None:
    assert Server("127.0.0.1", 1).problem() == ""


class Told:
    """What a client was started with, and what it answers, one after the other."""

    def __init__(self, *outputs: str) -> None:
        self._outputs = list(outputs)
        self.seen: list[tuple[list[str], float, str]] = []

    def __call__(self, argv: Any, timeout: float, *, stdin: str) -> Finished:
        self.seen.append((list(argv), timeout, stdin))
        return Finished(1, self._outputs.pop(0))

    def client(self) -> Client:
        return Client("cli", "me", 's"ecret', "/ca.crt", self)


@pytest.fixture
def users(tmp_path: Path) -> Users:
    lines, configuration = tmp_path / "users.conf", tmp_path / "prefect.conf"
    lines.write_text(LINES)
    (tmp_path / "distribution.conf").write_text("port 6379\nUser elsewhere on\n")
    configuration.write_text(f'include "{tmp_path}/distribution.conf"\nuser default off\ninclude {lines}\n')
    return Users(str(lines), str(configuration))


def test_replace() -> None:
    told = Told("OK\nOK\n")
    told.client().replace(Server("::1", 6380, "/my certs/redis.crt"), "/redis.key")
    ((argv, timeout, stdin),) = told.seen
    assert (argv, timeout) == (["cli", "-h", "::1", "-p", "6380", "--tls", "--cacert", "/ca.crt"], 5.0)
    assert stdin == '"AUTH" "me" "s\\"ecret"\n"CONFIG" "SET" "tls-cert-file" "/my certs/redis.crt" "tls-key-file" "/redis.key"\n'


@pytest.mark.parametrize(
    ("output", "said"),
    [("OK\n\nERR Unable to update\n", "OK\n\nERR Unable to update"), ("WRONGPASS no\n\nOK\n", "WRONGPASS"), ("", "cli ended with 1")],
)
def test_a_refusal(output: str, said: str) -> None:
    with pytest.raises(RedisRefusalError, match=said):
        Told(output).client().replace(Server("::1", 6380, "/redis.crt"), "/redis.key")


def test_each_user_is_reset_in_one_command(users: Users) -> None:
    told = Told("OK\nOK\nOK\nOK\ndefault\nelsewhere\noff\nprefect\nreader\n")
    told.client().apply_users(Server("127.0.0.1", 6379), users)
    ((argv, _timeout, stdin),) = told.seen
    assert argv == ["cli", "-h", "127.0.0.1", "-p", "6379"]
    assert stdin.splitlines()[1:] == [
        "ACL SETUSER prefect reset on #aa #bb resetkeys ~a:* -@all +get",
        'ACL SETUSER reader reset on >"pass word" +ping',
        "ACL SETUSER off reset",
        "ACL USERS",
    ]


def test_users_that_no_file_has_are_taken_away(users: Users) -> None:
    told = Told("OK\nOK\nOK\nOK\ndefault\nelsewhere\nold one\noff\nprefect\nreader\n", "OK\n1\n")
    told.client().apply_users(Server("127.0.0.1", 6379), users)
    assert told.seen[1][2].splitlines()[1:] == ['"ACL" "DELUSER" "old one"']


def test_a_server_that_does_not_say_who_its_users_are(users: Users) -> None:
    told = Told("OK\nOK\nOK\nOK\nNOPERM no\n\n")
    with pytest.raises(RedisRefusalError, match="NOPERM no"):
        told.client().apply_users(Server("127.0.0.1", 6379), users)
    assert len(told.seen) == 1


def test_when_the_users_are_pending(users: Users, tmp_path: Path) -> None:
    os.utime(users.file, (100, 100))
    assert (users.pending(99), users.pending(101)) == (True, False)
    users.record()
    assert not users.pending(99)
    # Written once more, and not told.
    later = Path(f"{users.file}.applied").stat().st_mtime + 1
    os.utime(users.file, (later, later))
    assert users.pending(99)
    users.record()
    os.utime(f"{users.file}.applied", (later + 1, later + 1))
    assert not users.pending(99)
    assert not Users(str(tmp_path / "none"), users.configuration).pending(0)


def test_the_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    assert read_secret(str(file)) == ""
    file.touch(mode=0o644)
    secret = make_secret(str(file))
    assert len(secret) > 40 and read_secret(str(file)) == secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        ("OK\nrole:master\noffset:1\n", ["role:master", "offset:1"]),
        ("OK\nname\n\nport\n1\n", ["name", "", "port", "1"]),
        ("OK\nOK 3 usable Sentinels\n", ["OK 3 usable Sentinels"]),
        ("OK\n\n", [""]),
    ],
)
def test_ask(output: str, lines: list[str]) -> None:
    told = Told(output)
    assert told.client().ask(Server("10.0.0.2", 26379, timeout=2, encrypted=True), "SENTINEL", "MASTER", "a b") == lines
    ((argv, timeout, stdin),) = told.seen
    assert (argv, timeout) == (["cli", "-h", "10.0.0.2", "-p", "26379", "--tls", "--cacert", "/ca.crt"], 2)
    assert stdin.splitlines()[1] == '"SENTINEL" "MASTER" "a b"'


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("OK\nERR No such master\n\n", "ERR No such master"),
        ("OK\n\nNOPERM no\n", "NOPERM no"),
        ("WRONGPASS no\n\nNOAUTH x\n", "WRONGPASS no"),
        ("Could not connect to Redis at x: Connection refused\n", "Connection refused"),
    ],
)
def test_what_is_not_answered(output: str, said: str) -> None:
    with pytest.raises(RedisRefusalError, match=said):
        Told(output).client().ask(Server("::1", 6379), "INFO")


def test_a_server_that_says_nothing() -> None:
    def run(*_: Any, **__: Any) -> Finished:
        return Finished(-9, "", timed_out=True)

    with pytest.raises(RedisRefusalError, match="no answer within 2 s"):
        Client("cli", "me", "secret", "", run).ask(Server("::1", 6379, timeout=2), "INFO")


def test_settings_are_set_and_written_down() -> None:
    told = Told("OK\nmin-replicas-to-write\n0\n", "OK\nOK\nOK\n")
    client = told.client()
    assert client.settings(Server("::1", 6379), ["min-replicas-to-write"]) == {"min-replicas-to-write": "0"}
    client.change(Server("::1", 6379), {"min-replicas-to-write": "1"})
    assert told.seen[1][2].splitlines()[1:] == ['"CONFIG" "SET" "min-replicas-to-write" "1"', '"CONFIG" "REWRITE"']


@pytest.mark.parametrize(
    ("output", "said"),
    [("OK\nOK\nERR The server is running without a config file\n\n", "without a config"), ("OK\nOK\n", "1 of 2 orders were answered")],
)
def test_an_order_that_is_refused(output: str, said: str) -> None:
    with pytest.raises(RedisRefusalError, match=said):
        Told(output).client().order(Server("::1", 6379), ["CLIENT", "KILL"], ["CONFIG", "REWRITE"])
    Told("OK\n3\nOK\n").client().order(Server("::1", 6379), ["CLIENT", "KILL"], ["CONFIG", "REWRITE"])
