# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What of its users and its certificate a running Redis has not read yet, and how it gets that with no connection lost."""

from __future__ import annotations

import glob
import json
import os
import re
import secrets
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, describe
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
# An error in what redis-cli prints: its code, in capitals, and a text. Of the answers that are read here none begins like that.
_ERROR = re.compile(r"(?!OK )[A-Z]{2,} |Could not connect ")


class RedisRefusalError(Exception):
    """What the server, or its client, says instead of doing what it was told."""


@dataclass(frozen=True)
class Server:
    """A Redis, and for one of this host the file of the certificate that it has to present. Without TLS it has none."""

    host: str
    port: int
    certificate: str = ""
    timeout: float = 5.0
    encrypted: bool = False
    """Whether it speaks TLS although no certificate is given, as for one of another host."""

    @property
    def tls(self) -> bool:
        return self.encrypted or bool(self.certificate)

    def problem(self) -> str:
        """Why it does not present that certificate; empty when it does. Raises OSError if the file cannot be read."""
        if not self.certificate:
            return ""
        wanted = _first(Path(self.certificate).read_text(encoding="utf-8"))
        try:
            return "" if self._presented() == wanted else "it presents another certificate"
        except OSError as error:
            return f"it {describe(error, Deadline(self.timeout))}"

    def _presented(self) -> bytes | None:
        # What is trusted is this certificate and no authority, so that its names do not matter.
        context = ssl.create_default_context(cafile=self.certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.check_hostname = False
        with socket.create_connection((self.host, self.port), self.timeout) as plain, context.wrap_socket(plain) as connection:
            return connection.getpeercert(binary_form=True)


@dataclass(frozen=True)
class Told:
    """A file that a server reads when it starts or is told to, and one that is touched when it was told."""

    file: str
    marker: str

    def pending(self, started: float) -> bool:
        """Whether a server that was started then has not been told of the file as it is."""
        return _modified(self.file) > max(started, _modified(self.marker))

    def record(self) -> None:
        """The server has been told."""
        Path(self.marker).touch(mode=0o600)
        os.utime(self.marker)


@dataclass(frozen=True)
class Users:
    """The file with the lines of the users, and the configuration that includes it."""

    file: str
    configuration: str

    def pending(self, started: float) -> bool:
        """Whether a server that was started then has not been told of the file as it is."""
        return Told(self.file, f"{self.file}.applied").pending(started)

    def record(self) -> None:
        """The server has been told."""
        Told(self.file, f"{self.file}.applied").record()

    def commands(self) -> list[str]:
        """One for each user: with `reset`, it has what its line says and nothing else, at once and with its connections kept."""
        lines = [line.split(None, 2) for line in Path(self.file).read_text(encoding="utf-8").splitlines() if line.startswith("user ")]
        # The command line client takes words apart as the configuration file does.
        return [" ".join(["ACL SETUSER", name, "reset", *rules]) for _user, name, *rules in lines]

    def superfluous(self, names: Sequence[str]) -> list[str]:
        """Which of the server's users no file has."""
        return sorted({*names} - {"default", *_users(self.configuration)})


@dataclass(frozen=True)
class Client:
    """redis-cli, logged in as the role's administrator. ``authorities`` is the file that the certificate so far is verified with."""

    program: str
    username: str
    password: str
    authorities: str = ""
    run: Run = run

    def replace(self, server: Server, key: str) -> None:
        """Has the server read the certificate and its key anew."""
        self._tell(server, [_line(["CONFIG", "SET", "tls-cert-file", server.certificate, "tls-key-file", key])])

    def apply_users(self, server: Server, users: Users) -> None:
        """Gives the server the users of the file, and takes those away that no file has."""
        names = self._tell(server, users.commands(), ["ACL USERS"])
        if "default" not in names:  # which every server has
            raise RedisRefusalError(" ".join(names))
        gone = users.superfluous(names)
        if gone:
            self._tell(server, [], [_line(["ACL", "DELUSER", *gone])])

    def settings(self, server: Server, names: Sequence[str]) -> dict[str, str]:
        """What settings the server has now."""
        lines = self.ask(server, "CONFIG", "GET", *names)
        return dict(zip(lines[::2], lines[1::2]))

    def change(self, server: Server, values: Mapping[str, str]) -> None:
        """Sets these, and has the server write them into the file that is its own."""
        words = [word for pair in values.items() for word in pair]
        self.order(server, ["CONFIG", "SET", *words], ["CONFIG", "REWRITE"])

    def ask(self, server: Server, *words: str) -> list[str]:
        """The lines of the reply to one command. Raises RedisRefusalError if there is none, or it is an error."""
        return self._answers(server, [_line(words)])

    def order(self, server: Server, *orders: Sequence[str]) -> None:
        """Gives orders, one after the other over one connection. Raises RedisRefusalError unless each is answered with OK or a number."""
        answers = [answer for answer in self._answers(server, [_line(order) for order in orders]) if answer]
        refused = [answer for answer in answers if answer != "OK" and not answer.isdigit()]
        if refused or len(answers) != len(orders):
            raise RedisRefusalError("; ".join(refused) or f"{len(answers)} of {len(orders)} orders were answered")

    def _answers(self, server: Server, lines: Sequence[str]) -> list[str]:
        # Not as arguments, which other users of the host would see.
        stdin = "".join(f"{line}\n" for line in [_line(["AUTH", self.username, self.password]), *lines])
        ended = self.run(self._argv(server), server.timeout, stdin=stdin)
        if ended.timed_out:
            raise RedisRefusalError(f"no answer within {server.timeout:g} s")
        first, *answers = ended.output.split("\n")
        told = next((answer for answer in answers if answer), "")
        if first != "OK" or (len(lines) == 1 and _ERROR.match(told)):
            raise RedisRefusalError((told if first == "OK" else ended.output.strip()) or f"{self.program} ended with {ended.rc}")
        return answers[:-1] if answers and not answers[-1] else answers

    def _tell(self, server: Server, orders: Sequence[str], questions: Sequence[str] = ()) -> list[str]:
        """The answers to the questions. Raises RedisRefusalError unless the login and every order is answered with OK."""
        # Not as arguments, which other users of the host would see.
        lines = [_line(["AUTH", self.username, self.password]), *orders, *questions]
        ended = self.run(self._argv(server), server.timeout, stdin="".join(f"{line}\n" for line in lines))
        answers, count = ended.output.split("\n"), 1 + len(orders)
        if answers[:count] != ["OK"] * count:
            raise RedisRefusalError(ended.output.strip() or f"{self.program} ended with {ended.rc}")
        return [answer for answer in answers[count:] if answer]

    def _argv(self, server: Server) -> Sequence[str]:
        trusted = ["--cacert", self.authorities] if self.authorities else []
        return [self.program, "-h", server.host, "-p", str(server.port), *(["--tls", *trusted] if server.tls else [])]


def _modified(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _users(configuration: str) -> Iterator[str]:
    """The names of the users in a configuration, and in what that includes."""
    for line in Path(configuration).read_text(encoding="utf-8", errors="replace").splitlines():
        word, _space, rest = line.strip().partition(" ")
        value = rest.strip().strip("\"'")
        if word.lower() == "user":
            yield value.split(None, 1)[0].strip("\"'")
        elif word.lower() == "include":
            for path in sorted(glob.glob(value)):  # noqa: PTH207  as Redis takes it
                yield from _users(path)


def _first(certificates: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(_BEGIN + certificates.partition(_BEGIN)[2].partition(_END)[0] + _END)


def _line(words: Sequence[str]) -> str:
    return " ".join(json.dumps(word, ensure_ascii=False) for word in words)


def read_secret(path: str) -> str:
    """The secret in that file; empty when there is none."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def make_secret(path: str) -> str:
    """A new secret, in a file that its owner alone can read."""
    secret = secrets.token_urlsafe(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(f"{secret}\n")
    return secret
