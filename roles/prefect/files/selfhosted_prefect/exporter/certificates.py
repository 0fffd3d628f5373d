"""When the certificates end that are really served: those of a managed service or of the user's own, too, which no file on a host shows.

It completes a handshake as the clients of the deployment do, verified, and asks nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from selfhosted_prefect.connections import redis_tls_context, tls_context, trusting
from selfhosted_prefect.exporter.metrics import Sample
from selfhosted_prefect.settings import Settings

NAME = "prefect_served_certificate_expiry_timestamp_seconds"
KEPT = 3600.0  # seconds for which an answer is kept
AGAIN = 300.0  # and for which a failure is
LIMIT = 3.0  # seconds for each server
EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED
# PostgreSQL's request for TLS, which its protocol has before the handshake.
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class Target(NamedTuple):
    """A server that speaks TLS."""

    host: str
    port: int
    context: ssl.SSLContext
    postgres: bool = False


Find = Callable[[], "Target | None"]
"""Where a server is; None when it has no TLS."""
Handshake = Callable[[Target], Awaitable[float]]
"""When the certificate of a server ends. Raises OSError when it does not verify, or there is no answer."""


def finders(settings: Settings) -> dict[str, Find]:
    """The servers by the names that they have in the metric."""

    def balancer() -> Target | None:
        url = urlsplit(settings.api_url)
        return Target(url.hostname or "", url.port or 443, trusting(settings.api_ca_file)) if url.scheme == "https" else None

    def database() -> Target | None:
        context = tls_context(settings)
        return Target(settings.database("HOST"), settings.database_port, context, postgres=True) if context else None

    def redis() -> Target | None:
        url, context = urlsplit(settings.docket_url), redis_tls_context(settings.docket_url)
        return Target(url.hostname or "", url.port or 6379, context) if context else None

    return {"balancer": balancer, "database": database, "redis": redis}


async def shake_hands(target: Target) -> float:
    """When the certificate ends that a server shows."""
    name = None if target.postgres else target.host
    reader, writer = await asyncio.open_connection(
        target.host, target.port, ssl=None if target.postgres else target.context, server_hostname=name
    )
    try:
        if target.postgres:
            writer.write(SSL_REQUEST)
            if await reader.read(1) != b"S":
                raise OSError("it speaks no TLS")
            await writer.start_tls(target.context, server_hostname=target.host)
        ends = float(ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"]))
        # In due form, or servers note an error.
        writer.close()
        await writer.wait_closed()
        return ends
    finally:
        writer.transport.abort()


@dataclass
class ServedCertificates:
    """What is known of each of them, and asked anew when that is old."""

    find: Mapping[str, Find]
    explain: Callable[[BaseException], str] = str
    handshake: Handshake = shake_hands
    clock: Callable[[], float] = time.time
    _ends: dict[str, float] = field(default_factory=dict)
    _until: dict[str, float] = field(default_factory=dict)

    async def samples(self) -> list[Sample]:
        due = [name for name in self.find if self.clock() >= self._until.get(name, 0.0)]
        await asyncio.gather(*map(self._ask, due))
        return [Sample(NAME, self._ends[name], (name,)) for name in self.find if name in self._ends]

    async def _ask(self, name: str) -> None:
        kept, before = KEPT, self._ends.pop(name, None)
        try:
            if target := self.find[name]():
                async with asyncio.timeout(LIMIT):
                    self._ends[name] = await self.handshake(target)
        except Exception as error:
            kept = AGAIN
            if getattr(error, "verify_code", 0) == EXPIRED:
                # It is not shown, being refused; that it has ended is all that counts.
                self._ends[name] = min(self.clock(), before or self.clock())
            print(f"the certificate of {name} is not seen: {self.explain(error)}", file=sys.stderr, flush=True)
        self._until[name] = self.clock() + kept
