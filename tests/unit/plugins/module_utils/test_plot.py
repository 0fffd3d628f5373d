"""The numbers of plots."""

from __future__ import annotations

import math

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.plot import Axis, runs, scale, spans, value


@pytest.mark.parametrize(
    ("most", "unit", "top"),
    [
        (0, "", 1),
        (1, "", 1),
        (3, "", 3),
        (110, "", 150),
        (0.004, "s", 0.01),
        (0.9, "s", 1),
        (12, "s", 15),
        (70, "%", 100),
        (9, "%", 10),
        (5e8, "B", 6e8),
    ],
)
def test_scale(most: float, unit: str, top: float) -> None:
    ticks = scale(most, unit)
    assert ticks[0] == 0
    assert math.isclose(ticks[-1], top)
    assert ticks[-1] >= most
    assert len(ticks) <= 7


@pytest.mark.parametrize(
    ("number", "unit", "words"),
    [(0.0123, "s", "12 ms"), (2.5, "s", "2.5 s"), (250, "s", "250 s"), (5e8, "B", "500 MB"), (2e6, "B", "2.0 MB"), (2e9, "B", "2.0 GB"),
     (42.25, "/s", "42.2 /s"), (7, "", "7"), (0.25, "%", "0.25 %")],
)  # fmt: skip
def test_value(number: float, unit: str, words: str) -> None:
    assert value(number, unit) == words


@pytest.mark.parametrize(
    ("axis", "number", "place"),
    [
        (Axis(10, 20, 100, 200), 15, 150.0),
        (Axis(10, 20, 200, 100), 12, 180.0),
        (Axis(10, 20, 100, 200), 5, 100.0),
        (Axis(10, 20, 100, 200), 25, 200.0),
        (Axis(10, 10, 100, 200), 10, 100.0),
        (Axis(0.01, 1, 0, 100, logarithmic=True), 0.1, 50.0),
        (Axis(0.01, 1, 0, 100, logarithmic=True), 0, 0.0),
    ],
)
def test_axis(axis: Axis, number: float, place: float) -> None:
    assert axis(number) == place


def test_a_line_is_interrupted_where_nothing_is_known() -> None:
    points = [[0, 1.0], [30, 1.0], [60, 1.0], [300, 1.0], [330, 2.0], [600, 1.0]]
    assert [[point[0] for point in run] for run in runs(points)] == [[0, 30, 60], [300, 330], [600]]
    assert runs([]) == []


def test_spans_of_what_is_there_or_not() -> None:
    points = [[0, 1.0], [30, 1.0], [60, 0.0], [90, 0.0], [300, 1.0], [330, 1.0]]
    assert spans(points, 360) == [(0, 60, True), (60, 120, False), (300, 360, True)]
    assert spans([[0, 1.0]], 360) == [(0, 30.0, True)]
