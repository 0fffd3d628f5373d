# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""How long a migration will take, from the sizes of the tables that it works on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ROWS_PER_SECOND = 600_000
"""Rows of one table for one revision. Between two measurements under load on two cores, of revisions that build indexes concurrently:
Prefect 3.7.8 to 3.8.8 with 2 million event resources took 20 s, 3.7.8 to 3.9.1 with 10 million 18 s (docs/sizing.md)."""

START_SECONDS = 6
"""What the command takes to import Prefect, to compare revisions and to register block types; an empty database takes 5 to 7 s."""

SPREAD = 2.5
"""A host may be so many times as quick or as slow as the one that was measured."""

BYTES_PER_ROW = 500
"""For a table that PostgreSQL has not counted yet; with its indexes, a row of ``event_resources`` or ``log`` has about as many."""


@dataclass(frozen=True)
class Estimate:
    """Seconds: the least (of the tables alone), the likely and the most; ``rows`` have to be read, one revision after the other."""

    least: int
    likely: int
    most: int
    rows: int


def estimate(work: Iterable[tuple[int, int]]) -> Estimate:
    """The time for revisions that work on tables: for each revision and each of its tables the rows and the bytes of the table."""
    rows = sum(counted or size // BYTES_PER_ROW for counted, size in work)
    seconds = rows / ROWS_PER_SECOND
    return Estimate(
        least=round(seconds / SPREAD),
        likely=round(START_SECONDS + seconds),
        most=round((START_SECONDS + seconds) * SPREAD),
        rows=rows,
    )
