"""Servers on the loopback that say what a test tells them to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

Conversation = Callable[[socket.socket], None]
Serve = Callable[[Conversation], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server whose conversations are those of a function, and returns its port."""
    listeners: list[socket.socket] = []

    def start(conversation: Conversation) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    conversation(connection)

        threading.Thread(target=loop, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        # close() alone would leave accept() waiting for ever.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
