# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""A failover drill's result as one page of HTML that needs nothing else: no script, no font, no file beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._drill import MEASURES, shown
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill_report import FAIL, INCONCLUSIVE, PASS

_WIDTH, _LEFT, _RIGHT, _TOP, _HEIGHT, _STRIP = 960, 72, 16, 28, 240, 18
_BOTTOM = _TOP + _HEIGHT
_STRIPS = ("scheduling", "events", "flows")
_FASTEST, _SLOWEST = 0.005, 20.0
_STEPS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FAILURES = 20
_HEADS = ("scenario", "on", "verdict", "failed", "longest wait", "normal after", "lost", "flows incomplete")
_LEGEND = """
Line: the median of each quarter of a second; bars: up to its longest answer; red dots: failed requests; dashed: above it a request is slow;
shaded: the fault. Red in the strips: a tick of the scheduler overdue, a subscriber without events, a flow run that did not complete.
"""
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1c2430; --soft: #5b6675; --line: #dde3ea; --blue: #1f6fb2; --pale: #9cc4e4;
  --red: #c62f2f; --green: #1f7a43; --shade: #f6d9d3 }
@media (prefers-color-scheme: dark) { :root { --back: #14181d; --ink: #e6eaf0; --soft: #9aa6b4; --line: #2c343e; --blue: #6db3ee;
  --pale: #2f5d80; --red: #ff7b72; --green: #5cc489; --shade: #4a2a27 } }
body { background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 1000px; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
td, th { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--soft); font-weight: 500 }
a { color: var(--blue) }
section { margin-top: 3rem }
.passed { color: var(--green); font-weight: 600 }
.failed { color: var(--red); font-weight: 600 }
.not-conclusive { color: var(--soft); font-weight: 600 }
ul.failed, ul.not-conclusive { font-weight: 400 }
svg { width: 100%; height: auto; margin-top: 1rem }
svg text { fill: var(--ink); font-size: 12px }
svg .tick { fill: var(--soft); font-size: 11px }
.grid { stroke: var(--line) }
.normal { stroke: var(--soft); stroke-dasharray: 4 4 }
.spread { stroke: var(--pale); stroke-width: 2 }
.median { fill: none; stroke: var(--blue); stroke-width: 1.6 }
circle.bad, rect.bad { fill: var(--red) }
rect.fault { fill: var(--shade) }
rect.fine { fill: var(--line) }
line.fault { stroke: var(--red); stroke-width: 1.4 }
line.again { stroke: var(--green); stroke-width: 1.4 }
.legend { color: var(--soft); font-size: 13px }
"""


def tag(name: str, *content: str, **attributes: Any) -> str:
    """An element around content that is HTML already; the attributes' values are not. ``cls`` is its class, ``_`` in a name a dash."""
    names = {"cls": "class"}
    words = "".join(f' {names.get(key, key.replace("_", "-"))}="{escape(str(value))}"' for key, value in attributes.items())
    return f"<{name}{words}>{''.join(content)}</{name}>"


def page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    word = _word(found)
    about = f"{found.get('url', '')}, {found.get('began', '')} to {found.get('ended', '')}, Prefect {found.get('version', '')}"
    body = [
        tag("h1", "Failover drill: ", tag("span", word, cls=_class(found))),
        tag("p", escape(about)),
        _table(_HEADS, (_row(one) for one in found["scenarios"])),
        *(_section(one) for one in found["scenarios"]),
    ]
    head = ['<meta charset="utf-8">', tag("title", f"Failover drill: {word}"), tag("style", _STYLE)]
    return "<!doctype html>\n" + tag("html", tag("head", *head), "\n", tag("body", "\n".join(body)), lang="en") + "\n"


def _word(one: Mapping[str, Any]) -> str:
    return {PASS: "passed", FAIL: "failed", INCONCLUSIVE: "not conclusive"}[one["outcome"]]


def _class(one: Mapping[str, Any]) -> str:
    return _word(one).replace(" ", "-")


def _cpu(one: Mapping[str, Any]) -> str:
    """What the CPU was used for, for people; empty if it is not known."""
    parts = [
        f"{words}: {use['busy']:.0%} in use, {use['others']:.0%} by what is no part of the service"
        for words, use in (("before the fault", one["cpu"]["before"]), ("from the fault on", one["cpu"]["from"]))
        if use
    ]
    return f"CPU of the busiest machine {'; '.join(parts)}." if parts else ""


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    return tag("table", tag("thead", tag("tr", *(tag("th", head) for head in heads))), tag("tbody", *rows))


def _cells(*values: str) -> str:
    return tag("tr", *(tag("td", escape(value)) for value in values))


def _row(one: Mapping[str, Any]) -> str:
    measures = one["measures"]
    values = ["-"] * 5
    if measures:
        values = [
            f"{measures['failed']} of {measures['requests']}",
            shown(measures["longest"], "s"),
            shown(measures["normal_after"], "s"),
            f"{measures['lost']} of {measures['acknowledged']}",
            f"{measures['incomplete']} of {measures['flows']}",
        ]
    first = [tag("td", tag("a", escape(one["name"]), href=f"#{one['name']}")), tag("td", escape(one["target"]))]
    return tag("tr", *first, tag("td", _word(one), cls=_class(one)), *(tag("td", escape(value)) for value in values))


def _section(one: Mapping[str, Any]) -> str:
    measures, limits = one["measures"], one["limits"]
    parts = [tag("h2", escape(one["title"] or one["name"]), ": ", tag("span", _word(one), cls=_class(one)))]
    if one["reasons"]:
        parts.append(tag("ul", *(tag("li", escape(reason)) for reason in one["reasons"]), cls=_class(one)))
    if one["plot"]:
        rows = (
            _cells(words, shown(measures[name], unit), shown(limits[name], unit) if name in limits else "")
            for name, (words, unit) in MEASURES.items()
            if name in measures
        )
        parts += [
            svg(one["plot"]),
            tag("p", escape(_LEGEND), cls="legend"),
            tag("p", escape(_cpu(one))),
            _table(("measured", "value", "limit"), rows),
        ]
    failures = one.get("failures", [])[:_FAILURES]
    if failures:
        rows = (_cells(str(each["at"]), f"{each['method']} {each['path']}", str(each["what"])[:200]) for each in failures)
        parts.append(tag("details", tag("summary", f"The first {len(failures)} failures"), tag("table", *rows)))
    return tag("section", *parts, id=one["name"])


class _Axes:
    """Where seconds since the fault, and seconds that an answer took, are on the plot."""

    def __init__(self, begun: float, ended: float) -> None:
        self._begun, self._span = begun, max(ended - begun, 1.0)

    def x(self, when: float) -> float:
        inside = min(max(when, self._begun), self._begun + self._span)
        return round(_LEFT + (inside - self._begun) / self._span * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, took: float) -> float:
        inside = min(max(took, _FASTEST), _SLOWEST)
        return round(_TOP + (1 - math.log(inside / _FASTEST) / math.log(_SLOWEST / _FASTEST)) * _HEIGHT, 1)


def svg(plot: Mapping[str, Any]) -> str:
    """Latency over time, with the fault and the recovery, and below it when scheduling, events and flows were held up."""
    axes = _Axes(plot["begun"], plot["ended"])
    fault = axes.x(0)
    parts = [
        tag("title", "Latency over time, with the fault and the recovery"),
        _box("fault", (fault, _TOP), (max(axes.x(plot["until"]) - fault, 1.5), _HEIGHT), "the fault"),
        *_grid(axes, plot),
        *_latency(axes, plot),
        *_flag(fault, "fault", "fault"),
    ]
    if plot["normal_after"]:
        parts += _flag(axes.x(plot["normal_after"]), "again", f"normal after {plot['normal_after']:.1f} s")
    for number, name in enumerate(_STRIPS):
        parts += _strip(axes, plot, name, _BOTTOM + 26 + number * _STRIP)
    height = _BOTTOM + 32 + _STRIP * len(_STRIPS)
    return tag("svg", "\n".join(parts), xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {height}", role="img")


def _grid(axes: _Axes, plot: Mapping[str, Any]) -> list[str]:
    parts = []
    for step in _STEPS:
        y = axes.y(step)
        parts.append(_line("grid", (_LEFT, y), (_WIDTH - _RIGHT, y)))
        parts.append(tag("text", f"{step:g} s", cls="tick", x=_LEFT - 6, y=y + 4, text_anchor="end"))
    first, last = math.ceil(plot["begun"] / 5) * 5, math.floor(plot["ended"] / 5) * 5
    for when in range(first, last + 1, 5):
        parts.append(tag("text", f"{when:+d} s", cls="tick", x=axes.x(when), y=_BOTTOM + 16, text_anchor="middle"))
    normal = axes.y(plot["normal"])
    return [*parts, _line("normal", (_LEFT, normal), (_WIDTH - _RIGHT, normal))]


def _latency(axes: _Axes, plot: Mapping[str, Any]) -> list[str]:
    parts = []
    for when, median, _p99, longest in plot["buckets"]:
        words = f"{when:.1f} s: median {median:.3f} s, longest {longest:.3f} s"
        parts.append(_line("spread", (axes.x(when), axes.y(median)), (axes.x(when), axes.y(longest)), words))
    points = " ".join(f"{axes.x(when)},{axes.y(median)}" for when, median, _p99, _longest in plot["buckets"])
    parts.append(tag("polyline", cls="median", points=points))
    for when, took in plot["failed"]:
        words = tag("title", f"{when:.1f} s: failed after {took:.3f} s")
        parts.append(tag("circle", words, cls="bad", cx=axes.x(when), cy=axes.y(took), r=3))
    return parts


def _strip(axes: _Axes, plot: Mapping[str, Any], name: str, y: float) -> list[str]:
    parts = [
        tag("text", name, cls="tick", x=_LEFT - 6, y=y + 11, text_anchor="end"),
        _box("fine", (_LEFT, y), (_WIDTH - _LEFT - _RIGHT, _STRIP - 5), name),
    ]
    spans = plot[name] if name != "flows" else [[at, at + took] for at, took, good in plot["flows"] if not good]
    for begun, end in spans:
        until = plot["ended"] if end is None else end
        x = axes.x(begun)
        parts.append(_box("bad", (x, y), (max(axes.x(until) - x, 2.0), _STRIP - 5), f"{name}: {begun:.1f} s to {until:.1f} s"))
    return parts


def _box(kind: str, at: tuple[float, float], size: tuple[float, float], words: str) -> str:
    return tag("rect", tag("title", escape(words)), cls=kind, x=at[0], y=at[1], width=round(size[0], 1), height=size[1])


def _line(kind: str, begin: tuple[float, float], end: tuple[float, float], words: str = "") -> str:
    return tag("line", tag("title", escape(words)) if words else "", cls=kind, x1=begin[0], y1=begin[1], x2=end[0], y2=end[1])


def _flag(x: float, kind: str, words: str) -> list[str]:
    return [_line(kind, (x, _TOP - 6), (x, _BOTTOM)), tag("text", escape(words), x=x + 4, y=_TOP - 10)]
