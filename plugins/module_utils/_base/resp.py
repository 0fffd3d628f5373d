# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Redis's protocol, for programs that can only be given bytes to send."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text


def redis_requests(commands: Iterable[Iterable[Any]]) -> str:
    """Commands, one after the other, as a client sends them, in hexadecimal digits. Raises TypeError for one that is no list of words."""
    sent = b""
    for command in commands:
        if isinstance(command, (str, bytes)):
            raise TypeError("a command is a list of words")
        words = [text(word).encode() for word in command]
        sent += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return sent.hex()
