"""What can be learned from outside a process: whether an API server answers, whether its stream of events lives, what is drained."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import uuid
from base64 import b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from enum import Enum
from http import HTTPStatus
from ssl import SSLContext
from typing import Any

from selfhosted_prefect.connections import Channel, Redis, Request, http_requests, open_websocket
from selfhosted_prefect.settings import EVENTS, Settings

EVENT = "selfhosted-prefect.watchdog.probe"
NEWEST = 1000
"""Entries of the stream of events that are searched for an event of some seconds ago."""


class Verdict(Enum):
    """What a probe of a server's stream of events showed."""

    WELL = "well"
    DEAD = "dead"
    UNKNOWN = "unknown"


class ApiServer:
    """An API server, queried as its clients query it."""

    def __init__(
        self,
        address: str,
        port: int,
        settings: Settings,
        timeout: float,
        *,
        published: Callable[[str], bool],
        tls: SSLContext | None = None,
        requests: Callable[..., Request] = http_requests,
        channel: Callable[..., AbstractContextManager[Channel]] = open_websocket,
    ) -> None:
        host = f"[{address}]" if ":" in address else address
        self._tls = tls
        base = f"{'s' if tls else ''}://{host}:{port}{settings.api_base_path}"
        self._events = f"ws{base}/events/out"
        self._request = requests(f"http{base}", timeout, tls, csrf=settings.csrf_protection)
        self._auth = settings.api_auth
        self._resource = f"selfhosted-prefect.watchdog.{socket.gethostname()}.{port}"
        self._timeout = timeout
        self._published = published
        self._channel = channel

    def fault(self) -> str:
        """Why it does not count as answering; empty when it answers."""
        try:
            status = self._request("GET", "/health")
        except OSError as error:
            return f"does not answer ({error})"
        return "" if status == HTTPStatus.OK else f"answers HTTP {status}"

    def probe(self) -> tuple[Verdict, str]:
        """Subscribes to an event, sends it, and waits for it."""
        try:
            with self._channel(self._events, self._timeout, self._tls) as channel:
                channel.send(json.dumps({"type": "auth", "token": self._auth}))
                if json.loads(channel.recv(self._timeout)).get("type") != "auth_success":
                    return Verdict.UNKNOWN, "the login was refused"
                channel.send(json.dumps({"type": "filter", "filter": self._filter(), "backfill": False}))
                sent = str(uuid.uuid4())
                refused = self._send(sent)
                if refused:
                    return Verdict.UNKNOWN, refused
                return self._await(channel, sent)
        except (OSError, ValueError) as error:
            return Verdict.UNKNOWN, f"no subscription: {str(error) or type(error).__name__}"

    def _await(self, channel: Channel, identity: str) -> tuple[Verdict, str]:
        end = time.monotonic() + self._timeout
        try:
            while (left := end - time.monotonic()) > 0:
                if json.loads(channel.recv(left)).get("event", {}).get("id") == identity:
                    return Verdict.WELL, ""
        except TimeoutError:
            pass
        # The second sign: published where every server reads, and not read by this one.
        if self._published(identity):
            return Verdict.DEAD, f"an event that is in Redis did not come back within {self._timeout:g} s"
        return Verdict.UNKNOWN, f"an event did not come back within {self._timeout:g} s, and it is not in the Redis that the watchdog asks"

    def _filter(self) -> dict[str, Any]:
        now = datetime.now(UTC)
        span = {"since": (now - timedelta(minutes=5)).isoformat(), "until": (now + timedelta(days=1)).isoformat()}
        return {"occurred": span, "event": {"name": [EVENT]}, "resource": {"id": [self._resource]}}

    def _send(self, identity: str) -> str:
        event = {
            "id": identity,
            "occurred": datetime.now(UTC).isoformat(),
            "event": EVENT,
            "resource": {"prefect.resource.id": self._resource},
        }
        login = {"Authorization": f"Basic {b64encode(self._auth.encode()).decode()}"} if self._auth else {}
        try:
            status = self._request("POST", "/events", json=[event], headers=login)
        except OSError as error:
            return f"the event was not taken: {error}"
        return "" if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES else f"the event was refused with HTTP {status}"


def published(redis: Redis, identity: str) -> bool:
    """Whether an event is where every server reads events."""
    newest = redis.execute_command("XREVRANGE", EVENTS, "+", "-", "COUNT", NEWEST)
    return any(identity in str(value) for _entry, fields in newest for value in fields)


def drained_ports() -> set[int]:
    """The ports of this host that the kernel refuses new connections to (see the module prefect_drain)."""
    command = ["nft", "--json", "list", "set", "inet", "prefect_drain", "ports"]
    try:
        shown = subprocess.run(command, capture_output=True, timeout=5, check=False)
    except FileNotFoundError:
        return set()  # without nft nothing was ever drained
    if shown.returncode:
        if b"No such file" in shown.stderr:
            return set()
        raise OSError(shown.stderr.decode(errors="replace").strip() or "nft failed")
    sets = [entry["set"] for entry in json.loads(shown.stdout)["nftables"] if "set" in entry]
    return {port for each in sets for port in each.get("elem", []) if isinstance(port, int)}
