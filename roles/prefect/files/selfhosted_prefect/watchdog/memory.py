"""What the watchdog keeps over its own restarts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Memory:
    """What has been done: counts, and until when a unit is left alone."""

    restarts: dict[str, int] = field(default_factory=dict)
    """By ``unit reason``."""
    handed_over: int = 0
    """Tasks that were requeued; the name is that of the metric."""
    pause: dict[str, float] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)
    leases: dict[str, str] = field(default_factory=dict)
    """The leases of units that were restarted and do not work yet."""
    tried: dict[str, float] = field(default_factory=dict)
    """When such a unit was restarted for the first time."""

    @classmethod
    def load(cls, path: Path) -> Memory:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        replace(path, json.dumps(asdict(self)))


def replace(path: Path, text: str) -> None:
    """Writes a file of which no reader sees half."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)
