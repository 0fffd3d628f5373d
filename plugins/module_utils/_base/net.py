# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What all connections have in common: a deadline, names, TLS settings, and what went wrong in the words of an operator."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

NO_FILES = "cannot be reached over TLS, because of the files"
_OTHER_NAMES = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""

Clock = Callable[[], float]
Result = TypeVar("Result")


class NetError(Exception):
    """No usable answer. The message says why, in words that complete "HOST:PORT ..."."""


class Deadline:
    """A moment after which nothing may still be waited for."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - self._clock())

    def passed(self) -> bool:
        return self.left() <= 0


def within(deadline: Deadline, work: Callable[[], Result], late: str = "") -> Result:
    """What ``work`` returns. It is not waited for beyond the deadline, whatever it does: most libraries bound single steps only.

    Raises NetError if the time is over; ``late`` says so in other words than :func:`no_answer`.
    """
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(deadline.left())
    if failed:
        raise failed[0]
    if not done:
        raise NetError(late or no_answer(deadline))
    return done[0]


def resolve(host: str, deadline: Deadline) -> None:
    """Sees that a name resolves. What connects after that gets the answer at once.

    Raises NetError if it does not within the deadline.
    """
    if host.startswith("/"):  # the folder of a Unix socket
        return
    late = f"cannot be reached: its name was not resolved within {deadline.seconds:g} s"
    try:
        within(deadline, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), late)
    except OSError as error:
        raise NetError(f"cannot be reached: its name does not resolve ({error.strerror or error})") from error


def reach(host: str, port: int, deadline: Deadline) -> None:
    """Sees that something accepts connections there. Raises NetError if nothing does within the deadline."""
    resolve(host, deadline)
    try:
        within(deadline, lambda: socket.create_connection((host, port), deadline.left() or 0.001)).close()
    except OSError as error:
        raise NetError(describe(error, deadline)) from error


def wants_tls(options: Mapping[str, Any]) -> bool:
    """Whether TLS is asked for: by anything that is set, unless ``enabled`` is false."""
    return bool(options) and bool(options.get("enabled", True))


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """What ``options`` ask for: None without TLS. The chain is always verified.

    Keys: ``enabled`` (true unless the mapping is empty), ``ca_file`` (the system's authorities without it), ``cert_file`` and
    ``key_file`` (a client certificate), ``check_hostname`` (true).

    Raises NetError if a file is missing or unreadable.
    """
    if not wants_tls(options):
        return None
    try:
        context = ssl.create_default_context(cafile=text(options.get("ca_file")) or None)
        if options.get("cert_file"):
            context.load_cert_chain(text(options["cert_file"]), text(options.get("key_file")) or None)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(text(options[key]) for key in ("ca_file", "cert_file", "key_file") if options.get(key))
        raise NetError(f"{NO_FILES} {files}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = bool(options.get("check_hostname", True))
    return context


def no_answer(deadline: Deadline) -> str:
    return f"did not answer within {deadline.seconds:g} s"


def describe(error: BaseException, deadline: Deadline) -> str:
    """A socket's error, or that of a library because of one, in words that complete "HOST:PORT ..."."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        what = "a certificate for other names" if cause.verify_code in _OTHER_NAMES else "a certificate that is not trusted here"
        return f"has {what}: {cause.verify_message}"
    if isinstance(cause, (socket.timeout, TimeoutError)):
        return no_answer(deadline)
    if isinstance(cause, ConnectionRefusedError):
        return "refused the connection: nothing listens there, or a firewall refuses it"
    if isinstance(cause, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLEOFError)):
        return "dropped the connection"
    if isinstance(cause, ssl.SSLError):
        return f"does not speak TLS as expected: {getattr(cause, 'reason', None) or cause}"
    return f"cannot be reached: {os.strerror(cause.errno) if cause.errno else cause}"


def _cause(error: BaseException) -> OSError:
    """The socket's error at the bottom. Of several, one for each address of a name, the last."""
    found = OSError(str(error))
    seen: BaseException | None = error
    while seen is not None:
        found = seen if isinstance(seen, OSError) else found
        group = getattr(seen, "exceptions", None)
        seen = group[-1] if group else seen.__cause__ or seen.__context__
    # asyncio puts them all into the text of one.
    numbers = [] if found.errno else re.findall(r"Errno (\d+)", str(found))
    return OSError(int(numbers[-1]), str(found)) if numbers else found
