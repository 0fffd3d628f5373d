# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Lines over time as a drawing in a page. Colours and sizes of text are the page's."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT = 420, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 8, 22
_COLOURS = 8
_ROW = 34
_STEPS = (1, 2, 2.5, 5, 10)
Points = Sequence[Sequence[float]]
UP = "up"
"""The unit of what is either there (1) or not (0): drawn as a bar for each, as lines would hide one another."""


def plot(found: Mapping[str, Any], start: float, end: float) -> str:
    """A figure of a plot's ``series`` from ``start`` to ``end`` (seconds since the epoch), with its legend and last values."""
    unit = str(found["unit"])
    series = [each for each in found["series"] if each["points"]]
    title = f"<figcaption>{html.escape(found['title'])}</figcaption>"
    if not series:
        return f'<figure>{title}<p class="note">nothing in this time</p></figure>'
    if unit == UP:
        return f"<figure>{title}{_bars(series, start, end)}</figure>"
    ticks = scale(max(point[1] for each in series for point in each["points"]), unit)
    drawn = [_curve(each, number, start, end, ticks[-1]) for number, each in enumerate(series)]
    ends = [(html.escape(each["label"]), html.escape(value(each["points"][-1][1], unit))) for each in series]
    legend = "".join(f'<li class="s{number % _COLOURS}"><i></i>{label} <b>{last}</b></li>' for number, (label, last) in enumerate(ends))
    said = f"{html.escape(found['title'])}. At the end: {'; '.join(f'{label}: {last}' for label, last in ends)}"
    return (
        f'<figure>{title}<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{said}">'
        f'{_grid(ticks, unit)}{_times(start, end)}{"".join(drawn)}</svg><ul class="legend">{legend}</ul></figure>'
    )


def _bars(series: Sequence[Mapping[str, Any]], start: float, end: float) -> str:
    """A row for each, red where it was away; grey is when nobody asked."""
    height = len(series) * _ROW + _BOTTOM + 4
    rows = []
    for number, each in enumerate(series):
        y = number * _ROW + 14
        away = sum(1 for point in each["points"] if point[1] < 1) / len(each["points"])
        said = "all the time" if not away else f"away {away:.0%}" if away < 1 else "away all the time"
        rows.append(f'<text class="row" x="{_LEFT}" y="{y:g}">{html.escape(each["label"])}</text>')
        rows.append(f'<text class="axis" x="{_WIDTH - _RIGHT}" y="{y:g}" text-anchor="end">{said}</text>')
        rows.append(f'<rect class="gone" x="{_LEFT}" y="{y + 5:g}" width="{_WIDTH - _RIGHT - _LEFT}" height="12"/>')
        rows += [
            f'<rect class="{"up" if there else "down"}" x="{_x(since, start, end):.1f}" y="{y + 5:g}"'
            f' width="{max(_x(until, start, end) - _x(since, start, end), 1):.1f}" height="12"/>'
            for since, until, there in _spans(each["points"], end)
        ]
    said = "; ".join(f"{html.escape(each['label'])}: {'up' if each['points'][-1][1] >= 1 else 'down'}" for each in series)
    times = _times(start, end, height)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{said}">{"".join(rows)}{times}</svg>'


def _spans(points: Points, end: float) -> list[tuple[float, float, bool]]:
    """From when until when it was there, or not. A value holds until the next, or for as long as there is between two."""
    often = min((b[0] - a[0] for a, b in zip(points, points[1:])), default=30.0)
    spans: list[tuple[float, float, bool]] = []
    for number, (when, height) in enumerate(points):
        after = points[number + 1][0] if number + 1 < len(points) else end
        until, there = (after if after - when <= 2.5 * often else when + often), height >= 1
        if spans and spans[-1][2] is there and spans[-1][1] >= when:
            spans[-1] = (spans[-1][0], until, there)
        else:
            spans.append((when, until, there))
    return spans


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


def _grid(ticks: Sequence[float], unit: str) -> str:
    lines = []
    for tick in ticks:
        y = _y(tick, ticks[-1])
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        shown = "0" if tick == 0 else html.escape(value(tick, unit))
        lines.append(f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>')
    return "".join(lines)


def _times(start: float, end: float, height: float = _HEIGHT) -> str:
    step = 900 if end - start > 1800 else 300
    words = []
    for moment in range(math.ceil(start / step) * step, math.floor(end) + 1, step):
        x = _x(moment, start, end)
        anchor = "start" if x < _LEFT + 16 else "end" if x > _WIDTH - _RIGHT - 16 else "middle"
        words.append(
            f'<text class="axis" x="{x:.1f}" y="{height - 6:g}" text-anchor="{anchor}">{time.strftime("%H:%M", time.gmtime(moment))}</text>'
        )
    return "".join(words)


def _curve(each: Mapping[str, Any], number: int, start: float, end: float, top: float) -> str:
    """A line, interrupted where there are no values for a while; a lonely value is a dot."""
    points: Points = each["points"]
    often = min((b[0] - a[0] for a, b in zip(points, points[1:])), default=0)
    runs: list[list[Sequence[float]]] = []
    for point in points:
        if not runs or point[0] - runs[-1][-1][0] > 2.5 * often:
            runs.append([])
        runs[-1].append(point)
    path = "".join(
        "".join(f"{'L' if at else 'M'}{_x(when, start, end):.1f} {_y(number_, top):.1f}" for at, (when, number_) in enumerate(run))
        for run in runs
        if len(run) > 1
    )
    dots = "".join(
        f'<circle class="dot" cx="{_x(run[0][0], start, end):.1f}" cy="{_y(run[0][1], top):.1f}" r="2"/>' for run in runs if len(run) == 1
    )
    line = f'<path class="curve" d="{path}"/>' if path else ""
    return f'<g class="s{number % _COLOURS}"><title>{html.escape(each["label"])}</title>{line}{dots}</g>'


def _x(when: float, start: float, end: float) -> float:
    return _LEFT + (when - start) / max(end - start, 1) * (_WIDTH - _LEFT - _RIGHT)


def _y(number: float, top: float) -> float:
    return _TOP + (1 - min(max(number / top, 0), 1)) * (_HEIGHT - _TOP - _BOTTOM)
