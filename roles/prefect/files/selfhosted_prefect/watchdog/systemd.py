"""What systemd is told, and what its units are called."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

SERVICES_UNIT = "prefect-services.service"


def api_unit(port: int) -> str:
    """The unit of the API server on a port."""
    return f"prefect-api@{port}.service"


def stop_sequence(unit: str, seconds: float) -> list[tuple[int, float]]:
    """How a unit's process is stopped so that nothing is lost, and otherwise at last."""
    if unit == SERVICES_UNIT:
        return [(signal.SIGINT, seconds), (signal.SIGINT, seconds), (signal.SIGKILL, 5.0)]
    return [(signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)]


def notify(text: str) -> None:
    """Notifies systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)


def log(text: str, level: int = 6) -> None:
    """A line for the journal, which takes its level (6: information, 4: warning) from its beginning."""
    print(f"<{level}>{text}", flush=True)


class Journal:
    """Says something once, until it is something else."""

    def __init__(self, write: Callable[[str, int], None]) -> None:
        self.write = write
        self._said: dict[str, str] = {}

    def say(self, about: str, text: str) -> None:
        """Says it unless the same was said last of the subject. Figures do not count."""
        plain = "".join(letter for letter in text if not letter.isdigit())
        if text and plain != self._said.get(about):
            self.write(text, 4)
        self._said[about] = plain

    def clear(self, about: str) -> str:
        """What was said last of the subject, which is said anew the next time; empty for nothing."""
        return self._said.pop(about, "")
