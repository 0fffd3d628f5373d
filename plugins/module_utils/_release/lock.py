# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Locks: requirements files in which every package is pinned and hashed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)
_CONTINUED = re.compile(r"\\\s*\n")
_HASH = re.compile(r"--hash=(\w+):([0-9a-f]+)")
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*==\s*([^\s;]+)\s*(?:;\s*(.*))?\Z")


@dataclass(frozen=True)
class Pin:
    """One package of a lock file. ``marker`` says where it is needed, in the words of PEP 508; empty means everywhere."""

    name: str
    version: str
    marker: str
    hashes: frozenset[str]


def pins(lock: str) -> list[Pin]:
    """The packages of a lock file's text, in its order; the names normalised, the hashes those of SHA-256.

    Raises ValueError if a line is not a pinned requirement, or has no SHA-256 hash.
    """
    lines = (line.strip() for line in _CONTINUED.sub(" ", _COMMENT.sub("", lock)).splitlines())
    return [_pin(line) for line in lines if line]


def pinned_version(lock: str, name: str) -> str:
    """The version a lock file pins a package to; empty when it does not hold it. Raises ValueError as :func:`pins` does."""
    return next((pin.version for pin in pins(lock) if pin.name == name), "")


def normalised(name: str) -> str:
    """A project's name as package indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def release_id(lock: bytes, version: str) -> str:
    """``<version>-<12 hexadecimal digits>``: what a release made from a lock file is called."""
    return f"{version}-{hashlib.sha256(lock).hexdigest()[:12]}"


def _pin(line: str) -> Pin:
    hashes = frozenset(digest for kind, digest in _HASH.findall(line) if kind == "sha256")
    found = _PIN.match(_HASH.sub("", line).strip())
    if not found:
        raise ValueError(f"{line[:80]!r} is not a pinned requirement, such as prefect==3.8.8")
    if not hashes:
        raise ValueError(f"{found[1]}=={found[2]} has no --hash=sha256:...")
    return Pin(normalised(found[1]), found[2], (found[3] or "").strip(), hashes)
