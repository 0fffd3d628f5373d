# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The numbers of plots: where a value is on an axis, which ticks an axis has, and where a line is interrupted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)
_GAP = 2.5  # times the usual distance of two points: beyond it, nothing is known
Points = Sequence[Sequence[float]]
UP = "up"
"""The unit of what is either there (1) or not (0)."""


@dataclass(frozen=True)
class Axis:
    """Maps values from ``low`` to ``high`` to places from ``begin`` to ``end``. What is beyond is at the edge."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / ((self.high - self.low) or 1)
        return round(self.begin + share * (self.end - self.begin), 1)


def runs(points: Points) -> list[list[Sequence[float]]]:
    """The points in parts, apart where there are no values for a while."""
    often = min((b[0] - a[0] for a, b in zip(points, points[1:])), default=0)
    found: list[list[Sequence[float]]] = []
    for point in points:
        if not found or point[0] - found[-1][-1][0] > _GAP * often:
            found.append([])
        found[-1].append(point)
    return found


def spans(points: Points, end: float) -> list[tuple[float, float, bool]]:
    """From when until when it was there, or not. A value holds until the next, or for as long as there is between two."""
    often = min((b[0] - a[0] for a, b in zip(points, points[1:])), default=30.0)
    found: list[tuple[float, float, bool]] = []
    for number, (when, height) in enumerate(points):
        after = points[number + 1][0] if number + 1 < len(points) else end
        until, there = (after if after - when <= _GAP * often else when + often), height >= 1
        if found and found[-1][2] is there and found[-1][1] >= when:
            found[-1] = (found[-1][0], until, there)
        else:
            found.append((when, until, there))
    return found


def scale(most: float, unit: str) -> list[float]:
    """Round numbers from 0 to beyond ``most``, for three to six lines. Of percent never beyond 100; 1 is the least."""
    least = 0.01 if unit == "s" else 1.0
    most = max(most, least)
    if unit == "%" and most > 50:
        return [0, 25, 50, 75, 100]
    rough = most / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(step * power for step in _STEPS if step * power >= rough * 0.999)
    if unit == "" and step < 1:
        step = 1.0
    return [step * number for number in range(math.ceil(most / step - 0.001) + 1)]


def value(number: float, unit: str) -> str:
    """A value with its unit, short."""
    if unit == "s":
        return f"{number * 1000:.0f} ms" if number < 1 else f"{number:.1f} s" if number < 100 else f"{number:.0f} s"
    if unit == "B":
        return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB" if number >= 1e7 else f"{number / 1e6:.1f} MB"
    shown = f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.1f}" if number >= 1 else f"{number:.2f}"
    return f"{shown} {unit}".strip() if unit != "%" else f"{shown} %"
