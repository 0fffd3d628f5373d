# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""A failover drill's result, for machines and as lines of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.drill import (
    Sample,
    Scenario,
    judge,
    measure,
    mere_slowness,
    merged,
    normal_seconds,
    percentile,
    scenario,
    shown,
    silences,
    stalls,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.noise import noise, uses

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
WORDS = {PASS: "PASS", FAIL: "FAIL", INCONCLUSIVE: "NOT CONCLUSIVE"}

_BUCKET = 0.25  # seconds
_MARKS = 300  # failed requests that a plot shows


def result(scenarios: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole drill: ``about`` as it is, its ``outcome``, and each scenario with measures, limits, outcome and a plot's numbers.

    ``passed`` is true of the outcome ``pass`` alone.

    Raises ValueError if a limit cannot be compared with anything.
    """
    done = [_judged(one) for one in scenarios]
    outcomes = {one["outcome"] for one in done}
    outcome = FAIL if FAIL in outcomes or not done else INCONCLUSIVE if INCONCLUSIVE in outcomes else PASS
    return {**about, "outcome": outcome, "passed": outcome == PASS, "scenarios": done}


def _judged(one: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: one.get(name, "") for name in ("name", "title", "target")}
    limits = dict(one.get("limits") or {})
    if one.get("problem"):
        return {**facts, "outcome": FAIL, "passed": False, "reasons": [one["problem"]], "limits": limits, "measures": {}, "plot": {}}
    broken = merged([one["fault"], *(one.get("also") or [])])
    seen = scenario(one["name"], one["kind"], one["load"], one["watch"], broken)
    measures = measure(seen)
    verdict = judge(measures, limits)
    reasons: list[str] = []
    if not measures["requests"]:
        reasons.append("no request was sent after the fault")
    at_stake = int(one.get("at_stake") or 0)
    if measures["acknowledged"] < at_stake:
        reasons.append(
            f"it does not count: {measures['acknowledged']} writes were acknowledged, and with fewer than {at_stake} too little is at stake"
        )
    problem = (one["watch"].get("flows") or {}).get("problem")
    if problem or not seen.flows:
        reasons.append(f"the flows could not be judged: {problem or 'none ran'}")
    if one.get("unwell"):
        reasons.append(f"the cluster was not well afterwards: {one['unwell']}")
    fault = {name: broken[name] for name in ("at", "until", "by_itself")}
    cpu = _cpu(one, seen, broken["at"])
    excused = [mere_slowness(seen, measures, name, limits[name]) for name in verdict.broken]
    outcome = PASS if not reasons and verdict.passed else FAIL
    if outcome == FAIL and not reasons and all(excused) and cpu["crowded"]:
        outcome = INCONCLUSIVE
        reasons = [f"something else on the machine took the CPU {line}" for line in cpu["crowded"]]
    return {
        **facts,
        "outcome": outcome,
        "passed": outcome == PASS,
        "reasons": [*verdict.reasons, *reasons],
        "cpu": cpu,
        "limits": limits,
        "measures": measures,
        "fault": fault,
        "failures": list(one["load"].get("failures", [])),
        "flows": [{**run, "at": round(run["at"], 1)} for run in seen.flows if run.get("state") != "COMPLETED" or run.get("problem")],
        "plot": plot_numbers(seen, measures),
    }


def _cpu(one: Mapping[str, Any], seen: Scenario, at: float) -> dict[str, Any]:
    """What the machines' CPU was used for before the fault and from it on, and by which of them nothing can be proved."""
    windows = {
        "before the fault": (at + min((sample.sent for sample in seen.samples), default=0.0), at),
        "from the fault on": (at, at + seen.ended),
    }
    watched = list(one.get("noise") or [])
    return {
        **{words.split()[0]: uses(watched, *window) for words, window in windows.items()},
        "crowded": [f"{words}, {found}" for words, window in windows.items() for found in noise(watched, *window)],
    }


def plot_numbers(seen: Scenario, measures: Mapping[str, Any]) -> dict[str, Any]:
    """What a plot shows; all times are seconds since the fault."""
    failed = [[round(sample.ended, 2), round(sample.took, 3)] for sample in seen.samples if not sample.good]
    return {
        "begun": round(min((sample.sent for sample in seen.samples), default=0.0), 2),
        "ended": round(max([seen.ended, *(sample.ended for sample in seen.samples)]), 2),  # the last answers come after the last question
        "until": round(seen.until, 2),
        "normal": round(normal_seconds(measures["p99_before"]), 3),
        "normal_after": measures["normal_after"],
        "buckets": buckets(seen.samples),
        "failed": failed[:_MARKS],
        "failed_in_all": len(failed),
        "scheduling": [[round(begun, 1), None if end is None else round(end, 1)] for begun, end in stalls(seen.ticks, seen.watched)],
        "events": [
            [round(begun, 1), None if end is None else round(end, 1)] for times in seen.events for begun, end in silences(times, seen.ended)
        ],
        "flows": [[round(run["at"], 1), run["took"], run.get("state") == "COMPLETED" and not run.get("problem")] for run in seen.flows],
    }


def buckets(samples: Sequence[Sample]) -> list[list[float]]:
    """For each quarter of a second with an answer: its middle, and the answers' median, p99 and longest time."""
    those: dict[int, list[float]] = {}
    for sample in samples:
        if sample.good:
            those.setdefault(math.floor(sample.ended / _BUCKET), []).append(sample.took)
    return [
        [round((number + 0.5) * _BUCKET, 3), *(round(value, 4) for value in (percentile(took, 0.5), percentile(took, 0.99), max(took)))]
        for number, took in sorted(those.items())
    ]


def text(found: Mapping[str, Any]) -> list[str]:
    """The result in lines: one for each scenario, and one for each thing that was not good enough."""
    lines = []
    for one in found["scenarios"]:
        lines.append(f"{WORDS[one['outcome']]}  {one['name']}{' on ' + one['target'] if one['target'] else ''}{_summary(one)}")
        lines += [f"      {reason}" for reason in one["reasons"]]
    return lines


def _scheduling(measures: Mapping[str, Any]) -> str:
    if "scheduling_after" not in measures:
        return "scheduling switched off"
    return f"scheduling after {shown(measures['scheduling_after'], 's')}"


def _summary(one: Mapping[str, Any]) -> str:
    measures = one["measures"]
    if not measures:
        return ""
    normal = shown(measures["normal_after"], "s")
    if "normal_meanwhile" in measures:
        normal = f"{shown(measures['normal_meanwhile'], 's')} and {shown(measures['normal_after_return'], 's')} after the return"
    return (
        f": {measures['failed']} of {measures['requests']} requests failed, longest {shown(measures['longest'], 's')},"
        f" normal after {normal}, {measures['lost']} of {measures['acknowledged']} writes lost,"
        f" {measures['twice']} twice, {measures['incomplete']} of {measures['flows']} flows incomplete,"
        f" {_scheduling(measures)}, events after {shown(measures['events_after'], 's')}"
    )
