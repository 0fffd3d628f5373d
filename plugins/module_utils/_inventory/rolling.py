# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""In what order serving hosts are taken out and put back: Ansible's ``serial``, but for a variable of the inventory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text, whole_number


def rolling_batches(hosts: Iterable[str], serial: Any, total: Any = None) -> list[list[str]]:
    """The hosts in batches of ``serial``, in their order.

    ``serial`` is what a play's ``serial`` takes: a number, a percentage of ``total`` (rounded down, at least 1), or a list
    of those whose last entry repeats. ``total`` is how many hosts serve in all (default: as many as ``hosts``).

    Raises ValueError if a batch is below 1, or is not a number or percentage, or would take out all of several serving hosts.
    """
    waiting = [text(host) for host in hosts]
    count = len(waiting) if total is None else whole_number(total, "total")
    entries: Sequence[Any] = list(serial) if isinstance(serial, (list, tuple)) else [serial]
    if not entries:
        raise ValueError("prefect_api_serial is an empty list; give a number, a percentage, or a list of them, such as 1")
    sizes = [_size(entry, count) for entry in entries]
    batches: list[list[str]] = []
    while waiting:
        size = sizes[min(len(batches), len(sizes) - 1)]
        batches.append(waiting[:size])
        waiting = waiting[size:]
    largest = max((len(batch) for batch in batches), default=0)
    if count > 1 and largest >= count:
        raise ValueError(
            f"prefect_api_serial={text(serial)} would take all {count} serving hosts out at once, "
            f"and no server would answer; use at most {count - 1}"
        )
    return batches


def _size(entry: Any, total: int) -> int:
    words = text(entry).strip()
    if words.endswith("%"):
        percentage = whole_number(words[:-1], "a percentage of prefect_api_serial", 1, 100)
        return max(1, total * percentage // 100)
    return whole_number(words, "prefect_api_serial", 1)
