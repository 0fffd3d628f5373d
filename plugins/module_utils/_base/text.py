# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Plain text and numbers out of whatever a playbook passes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def text(value: Any) -> str:
    """The value as a plain string; nothing (``None``) is the empty string.

    Vaulted strings of older ansible-core are not ``str``, but turn into their clear text here.
    """
    return "" if value is None else str(value)


def whole_number(value: Any, name: str, low: int = 0, high: int | None = None) -> int:
    """The value as an integer within ``low`` and ``high`` (both included).

    Raises ValueError if it is not a whole number, or is out of range; the message starts with ``name``.
    """
    try:
        number = int(text(value))
    except ValueError:
        raise ValueError(f"{name} must be a whole number, not {value!r}") from None
    if number < low or (high is not None and number > high):
        wanted = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {wanted}, not {number}")
    return number


def port_number(value: Any, name: str = "port") -> int:
    """A TCP port, 1 to 65535. Raises ValueError otherwise."""
    return whole_number(value, name, 1, 65535)


def setting(value: Any) -> str:
    """A value as Prefect expects it in the environment: booleans in lower case, lists and mappings as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, sort_keys=True, default=text)
    return text(value)


def version_number(version: str) -> tuple[int, ...]:
    """``15.18 (Debian 15.18-0+deb12u1)`` as ``(15, 18)``; whatever follows the numbers is left out."""
    numbers: list[int] = []
    for part in version.split(" ", 1)[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
