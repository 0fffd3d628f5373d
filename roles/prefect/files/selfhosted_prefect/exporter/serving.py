"""The server: plain, or with TLS. Each client has a thread of its own from its first byte on, so that a slow one keeps no other waiting."""

from __future__ import annotations

import socket
import ssl
import sys
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

TIMEOUT = 10.0  # seconds for which a client may be silent


def certified(certificate: str, key: str) -> ssl.SSLContext:
    """TLS of a server. Prometheus has known TLS 1.3 for years, and that has no weak ciphers to leave out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


class Silent(WSGIRequestHandler):
    """A scrape is no news."""

    def log_message(self, *_words: object) -> None:
        return None


class Server(ThreadingMixIn, WSGIServer):
    """Serves an application of WSGI on a port."""

    daemon_threads = True
    request_queue_size = 128  # with 5, the library's, a client beside 20 others waits a second for its connection

    def __init__(self, address: str, port: int, application: Any, tls: ssl.SSLContext | None = None) -> None:  # noqa: ANN401  of the library
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._tls = tls
        super().__init__((address, port), Silent)
        self.set_app(application)

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  of the library
        """In the client's own thread: the handshake is here, and not where clients are accepted."""
        request.settimeout(TIMEOUT)
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with self._tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  of the library
        # A client that leaves, is silent or speaks no TLS is no fault of this program.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
