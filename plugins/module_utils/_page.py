# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""The state of a deployment as one page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._plot import plot
from ansible_collections.selfhosted.prefect.plugins.module_utils._report import BALANCER, duration, keeps, size, switched_off

GOOD, WARN, BAD, UNKNOWN = "good", "warn", "bad", "unknown"
_MARKS = {GOOD: "\N{CHECK MARK}", WARN: "!", BAD: "\N{BALLOT X}", UNKNOWN: "?"}
NO_HISTORY = "no history"


@dataclass(frozen=True)
class Part:
    """A part of the deployment: where it is, what it is, and how it is, in one of the words above and in a sentence."""

    name: str
    what: str
    health: str
    detail: str


def page(report: Mapping[str, Any], history: Mapping[str, Any], now: float | None = None) -> str:
    """The page. ``report`` is an assembled report, ``history`` what :mod:`_history` found, or empty when nobody was asked."""
    moment = time.time() if now is None else now
    problems = [str(problem) for problem in report.get("problems", [])]
    verdict = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}" if problems else "no problem found"
    title = f"Prefect {report.get('version', '?')}"
    return _DOCUMENT.format(
        style=_STYLE,
        title=_text(f"{title}: {verdict}"),
        heading=_text(title),
        url=_text(report.get("url", "?")),
        when=_text(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))),
        health=BAD if problems else GOOD,
        verdict=_text(f"{_MARKS[BAD if problems else GOOD]} {verdict}"),
        schema=_text(_schema(report)),
        problems=_switched_off(report) + _problems(problems),
        topology=topology(report),
        processes=_processes(report, moment),
        servers=_servers(report),
        state=_state(report),
        history=_history(history),
    )


def parts(report: Mapping[str, Any]) -> dict[str, list[Part]]:
    """The parts of the deployment by the column that they stand in: ``watchers``, ``balancers``, ``servers``, ``services``, ``state``."""
    groups = report.get("groups", {})
    balancer = next((server for server in report.get("servers", []) if server["name"] == BALANCER), None)
    balancers = [_of_unit(report, host, "nginx.service", "nginx") for host in groups.get("nginx", [])]
    if not balancers and report.get("url"):
        balancers = [Part("balancer", "your own", *_answers(balancer))]
    servers = [_server_part(report, server) for server in report.get("servers", []) if server["name"] != BALANCER]
    asked = {part.name.rpartition(":")[0] for part in servers}
    # Without anybody who could ask them, the servers are not in the report, but their units are.
    servers += [_of_unit(report, host, "prefect-api@", "API server") for host in groups.get("prefect_api", []) if host not in asked]
    return {
        "watchers": [_of_unit(report, host, "prometheus", "monitoring") for host in groups.get("monitoring", [])],
        "balancers": balancers,
        "servers": servers,
        "services": [_of_unit(report, host, "prefect-services.service", "services") for host in groups.get("prefect_services", [])],
        "state": [
            _state_part(report, "database", "PostgreSQL", "postgres", "postgresql@"),
            _state_part(report, "redis", "Redis", "redis", ("redis-server.", "valkey-server.")),
        ],
    }


def _answers(server: Mapping[str, Any] | None) -> tuple[str, str]:
    if server is None:
        return UNKNOWN, "was not asked"
    if server["problem"] or not server["ready"]:
        return BAD, "not ready"
    return GOOD, f"ready in {server['milliseconds']} ms"


def _server_part(report: Mapping[str, Any], server: Mapping[str, Any]) -> Part:
    health, detail = _answers(server)
    host, _colon, port = server["name"].rpartition(":")
    unit = next(
        (unit for unit in report.get("processes", []) if (unit["host"], unit["name"]) == (host, f"prefect-api@{port}.service")), None
    )
    if unit and not unit["active"]:
        health, detail = BAD, unit["state"]
    elif health == GOOD and server.get("drained"):
        health, detail = WARN, "drained"
    elif health == GOOD and unit and unit["stale"]:
        health, detail = WARN, "older settings"
    elif health == GOOD and server["version"] != report.get("version"):
        health, detail = WARN, f"runs {server['version']}"
    return Part(server["name"], "API server", health, detail)


def _of_unit(report: Mapping[str, Any], host: str, name: str | tuple[str, ...], what: str) -> Part:
    units = [unit for unit in report.get("processes", []) if unit["host"] == host and unit["name"].startswith(name)]
    if host in report.get("unreachable", []):
        return Part(host, what, UNKNOWN, "not reached by Ansible")
    if not units:
        return Part(host, what, BAD, "not there")
    bad = [unit for unit in units if not unit["active"]]
    if bad:
        return Part(host, what, BAD, bad[0]["state"])
    if any(unit["stale"] for unit in units):
        return Part(host, what, WARN, "older settings")
    return Part(host, what, GOOD, "running")


def _state_part(report: Mapping[str, Any], key: str, what: str, group: str, unit: str | tuple[str, ...]) -> Part:
    hosts = report.get("groups", {}).get(group, [])
    found = report.get(key) or {}
    name = hosts[0] if hosts else found.get("address", "?")
    if not found:
        return _of_unit(report, name, unit, what) if hosts else Part(name, what, UNKNOWN, "was not asked")
    if found["problem"]:
        return Part(name, what, BAD, "does not answer")
    return Part(name, what, GOOD, f"{found['version']}, answers")


# --- the drawing ---

_BOX_WIDTH, _BOX_HEIGHT, _GAP, _COLUMN = 205, 52, 16, 290


def topology(report: Mapping[str, Any]) -> str:
    """Who talks to whom, as a drawing."""
    found = parts(report)
    columns = [
        # Those who watch ask everybody; their lines would hide the others.
        [Part("clients", "workers, browsers", "plain", ""), *found["watchers"]],
        found["balancers"],
        [*found["servers"], *found["services"]],
        found["state"],
    ]
    most = max(len(column) for column in columns)
    height = most * (_BOX_HEIGHT + _GAP) + _GAP
    width = 3 * _COLUMN + _BOX_WIDTH + 4
    places = [_places(column, number, height) for number, column in enumerate(columns)]
    servers, services = places[2][: len(found["servers"])], places[2][len(found["servers"]) :]
    lines = [
        *(_line(source, target) for source in places[0][:1] for target in places[1]),
        *(_line(source, target) for source in places[1] for target in servers),
        *(_line(source, target) for source in [*servers, *services] for target in places[3]),
    ]
    boxes = [_box(place) for column in places for place in column]
    said = "; ".join(f"{part.what} {part.name}: {part.detail}" for column in columns for part in column if part.detail)
    return (
        f'<svg class="topology" viewBox="0 0 {width} {height}" role="img" aria-label="{_text(said)}">{"".join(lines)}{"".join(boxes)}</svg>'
    )


Place = tuple[Part, float, float]


def _places(column: Sequence[Part], number: int, height: float) -> list[Place]:
    tall = len(column) * (_BOX_HEIGHT + _GAP) - _GAP
    top = (height - tall) / 2
    return [(part, 2 + number * _COLUMN, top + row * (_BOX_HEIGHT + _GAP)) for row, part in enumerate(column)]


def _line(source: Place, target: Place) -> str:
    x1, y1 = source[1] + _BOX_WIDTH, source[2] + _BOX_HEIGHT / 2
    x2, y2 = target[1], target[2] + _BOX_HEIGHT / 2
    bend = (x2 - x1) / 2
    away = " away" if {BAD, UNKNOWN} & {source[0].health, target[0].health} or target[0].detail == "drained" else ""
    return f'<path class="line{away}" d="M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"/>'


def _box(place: Place) -> str:
    part, x, y = place
    mark = _MARKS.get(part.health, "")
    badge = f'<text class="mark" x="{x + _BOX_WIDTH - 12:g}" y="{y + 20:g}" text-anchor="end">{mark}</text>' if mark else ""
    second = f"{part.what}, {part.detail}" if part.detail else part.what
    return (
        f'<g class="box {part.health}"><title>{_text(f"{part.name}: {second}")}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{x + 12:g}" y="{y + 21:g}">{_text(_short(part.name, 20))}</text>{badge}'
        f'<text class="what" x="{x + 12:g}" y="{y + 39:g}">{_text(_short(second, 32))}</text></g>'
    )


# --- the tables ---


def _processes(report: Mapping[str, Any], now: float) -> str:
    rows = [
        (
            unit["name"].removesuffix(".service"),
            unit["host"],
            _pill(GOOD if unit["active"] else BAD, unit["state"]),
            _pill(WARN, "drained") if unit.get("drained") else "yes" if unit["name"].startswith("prefect-api@") and unit["active"] else "",
            duration(now - unit["since"]) if unit["active"] and unit["since"] else "-",
            str(unit["restarts"]),
            size(unit["memory_bytes"]),
            "yes" if unit["enabled"] else _pill(WARN, "no"),
            _pill(WARN, "older") if unit["stale"] else "current",
        )
        for unit in report.get("processes", [])
    ]
    rows += [(("", host, _pill(UNKNOWN, "not reached by Ansible"), *[""] * 6)) for host in report.get("unreachable", [])]
    return _table(("Process", "Host", "State", "In service", "Running for", "Restarts", "Memory", "At boot", "Settings"), rows, {4, 5, 6})


def _servers(report: Mapping[str, Any]) -> str:
    rows = [
        (
            server["name"],
            server["url"],
            _pill(GOOD if server["live"] else BAD, "live" if server["live"] else "not live"),
            _pill(GOOD if server["ready"] else BAD, "ready" if server["ready"] else "not ready"),
            "" if server["name"] == BALANCER else _pill(WARN, "drained") if server.get("drained") else "yes" if server["ready"] else "-",
            server["version"] or "-",
            f"{server['milliseconds']} ms" if server["ready"] else "-",
        )
        for server in report.get("servers", [])
    ]
    return _table(("Server", "URL", "Live", "Ready", "In service", "Version", "Ready in"), rows, {6})


def _state(report: Mapping[str, Any]) -> str:
    rows = []
    database, redis = report.get("database") or {}, report.get("redis") or {}
    if database:
        used = f"{database['connections']} of {database['max_connections']} connections"
        rows.append(_state_row("PostgreSQL", database, used, f"{size(database['size_bytes'])} on disk{keeps(database)}"))
    if redis:
        limit = size(redis["max_memory_bytes"]) if redis["max_memory_bytes"] else "no limit"
        kept = "appends to a file" if redis["appends"] else "not persistent"
        more = f"{redis['clients']} clients, {redis['eviction'] or '-'}, {kept}"
        rows.append(_state_row("Redis", redis, f"{size(redis['memory_bytes'])} of {limit}", more))
    return _table(("", "Address", "Answers", "Version", "Used", ""), rows, set())


def _state_row(what: str, found: Mapping[str, Any], used: str, more: str) -> tuple[str, ...]:
    if found["problem"]:
        return (what, found["address"], _pill(BAD, "no"), "-", "-", found["problem"])
    return (what, found["address"], _pill(GOOD, "yes"), found["version"] or "-", used, more)


class _Markup(str):
    """Text that is HTML already."""


def _pill(health: str, words: str) -> _Markup:
    return _Markup(f'<span class="pill {health}">{_MARKS[health]} {_text(words)}</span>')


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: set[int]) -> str:
    def cell(tag: str, number: int, content: str) -> str:
        shown = content if isinstance(content, _Markup) else _text(content)
        return f"<{tag}{' class=number' if number in numbers else ''}>{shown}</{tag}>"

    def row(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(cell(tag, number, content) for number, content in enumerate(cells))}</tr>"

    lines = [row("td", cells) for cells in rows]
    if not lines:
        return '<p class="note">nobody could be asked</p>'
    return f'<div class="wide"><table><thead>{row("th", header)}</thead><tbody>{"".join(lines)}</tbody></table></div>'


def _schema(report: Mapping[str, Any]) -> str:
    schema = report.get("schema", {})
    pending = len(schema.get("pending", []))
    if not schema.get("head"):
        return "schema not compared"
    return f"schema {schema.get('current') or 'none'}, {f'{pending} revisions behind' if pending else 'up to date'}"


def _switched_off(report: Mapping[str, Any]) -> str:
    off = switched_off(report)
    return f'<p class="soft">{_text(off[0].upper() + off[1:])}</p>\n' if off else ""


def _problems(problems: Sequence[str]) -> str:
    return f'<ul class="problems">{"".join(f"<li>{_text(problem)}</li>" for problem in problems)}</ul>' if problems else ""


def _history(history: Mapping[str, Any]) -> str:
    drawn = [plot(each, history["start"], history["end"]) for each in history.get("plots", [])]
    why = str(history.get("problem") or "")
    if not why and not drawn:
        why = "the inventory has no host in the group monitoring, or it could not be asked"
    note = f'<p class="note">{NO_HISTORY if not drawn or not any_points(history) else "incomplete"}: {_text(why)}</p>' if why else ""
    return note + (f'<div class="plots">{"".join(drawn)}</div>' if any_points(history) else "")


def any_points(history: Mapping[str, Any]) -> bool:
    """Whether there is anything to plot."""
    return any(series["points"] for each in history.get("plots", []) for series in each["series"])


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _text(value: object) -> str:
    return html.escape(str(value))


_STYLE = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --text: #1c2430; --soft: #5b6675; --rule: #dde2e8;
  --good: #1a7f4b; --warn: #9a6200; --bad: #c02626; --unknown: #66707d; --good-back: #e6f5ec; --warn-back: #fdf1d8;
  --bad-back: #fce8e8;
  --unknown-back: #edeff2; --c0: #2563c9; --c1: #c2410c; --c2: #15803d; --c3: #7c3aed; --c4: #be185d; --c5: #0e7490;
  --c6: #854d0e; --c7: #475569; }
@media (prefers-color-scheme: dark) { :root { --back: #12161c; --card: #1b2129; --text: #e6eaf0; --soft: #9aa6b5; --rule: #313a46;
  --good: #4cc98a; --warn: #e5b04a; --bad: #ff7b7b; --unknown: #a2adba; --good-back: #17352a; --warn-back: #3a2f16;
  --bad-back: #43201f;
  --unknown-back: #29313b; --c0: #79aefc; --c1: #fb923c; --c2: #5fd38b; --c3: #b79bfa; --c4: #f58abf; --c5: #5cc8de;
  --c6: #e0b15c; --c7: #a9b6c6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 14px/1.45 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 24px 20px 48px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 6px 18px; margin-bottom: 14px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 15px; margin: 0 0 10px; }
header .soft { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px 18px; margin-top: 14px; }
.pill { display: inline-block; padding: 1px 9px; border-radius: 999px; white-space: nowrap; font-size: 13px; }
.pill.big { font-size: 15px; font-weight: 600; padding: 3px 14px; }
.good { --me: var(--good); --me-back: var(--good-back); } .warn { --me: var(--warn); --me-back: var(--warn-back); }
.bad { --me: var(--bad); --me-back: var(--bad-back); } .unknown { --me: var(--unknown); --me-back: var(--unknown-back); }
.plain { --me: var(--rule); --me-back: var(--card); }
.pill { color: var(--me); background: var(--me-back); }
.problems { margin: 0; padding: 12px 18px 12px 34px; background: var(--bad-back); border-radius: 10px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: 5px 20px 5px 0;
  border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 12.5px; } tbody tr:last-child td { border-bottom: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; } td:last-child, th:last-child { padding-right: 0; }
.note { color: var(--soft); margin: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(360px, 1fr)); gap: 22px 28px; }
  .note + .plots { margin-top: 12px; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; margin-bottom: 4px; } figure svg { width: 100%;
  height: auto; display: block; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12.5px; color: var(--soft); list-style: none;
  margin: 4px 0 0; padding: 0; }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; background: var(--line); margin-right: 6px;
  vertical-align: middle; }
.legend b { color: var(--text); font-weight: 600; font-variant-numeric: tabular-nums; }
.topology { width: 100%; min-width: 640px; max-width: 1000px; height: auto; display: block; margin: 0 auto; }
.topology text { fill: var(--text); font-size: 13px; } .topology .name { font-weight: 600; font-size: 14px; }
  .topology .what { fill: var(--soft); font-size: 12px; }
.topology .mark { fill: var(--me); font-weight: 700; } .box rect { fill: var(--me-back); stroke: var(--me); stroke-width: 1.4; }
.line { fill: none; stroke: var(--soft); stroke-width: 1.2; opacity: .55; } .line.away { stroke-dasharray: 4 5; opacity: .4; }
.grid { stroke: var(--rule); stroke-width: 1; } .axis { fill: var(--soft); font-size: 11px; } .curve { fill: none;
  stroke: var(--line); stroke-width: 1.8; stroke-linejoin: round; }
.dot { fill: var(--line); } .up { fill: var(--good); } .down { fill: var(--bad); } .gone { fill: var(--rule); }
.row { fill: var(--text); font-size: 12px; }
.s0 { --line: var(--c0); } .s1 { --line: var(--c1); } .s2 { --line: var(--c2); } .s3 { --line: var(--c3); }
.s4 { --line: var(--c4); } .s5 { --line: var(--c5); } .s6 { --line: var(--c6); } .s7 { --line: var(--c7); }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""

_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header><h1>{heading}</h1><span class="pill big {health}">{verdict}</span><span class="soft">{url}</span>
<span class="soft">{schema}</span><span class="soft">{when}</span></header>
{problems}
<section><h2>Topology</h2><div class="wide">{topology}</div></section>
<section><h2>Processes</h2>{processes}</section>
<section><h2>API servers, asked from one host</h2>{servers}</section>
<section><h2>State</h2>{state}</section>
<section><h2>The last hour</h2>{history}</section>
</main>
</body>
</html>
"""
