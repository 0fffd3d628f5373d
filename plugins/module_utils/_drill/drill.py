# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a failover drill has measured, and whether that is good enough."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MEASURES: dict[str, tuple[str, str]] = {
    "requests": ("requests from the fault on", ""),
    "failed": ("failed requests", ""),
    "slow": ("slow requests", ""),
    "longest": ("longest wait for an answer, or for a failure", "s"),
    "failing_for": ("last failed request after the fault", "s"),
    "normal_after": ("nothing failed and p99 normal again after", "s"),
    "normal_meanwhile": ("while the fault lasted, nothing failed and p99 normal again after", "s"),
    "normal_after_return": ("nothing failed and p99 normal again after the return of what was missing", "s"),
    "degraded": ("seconds with failures or a p99 above normal", "s"),
    "serving_after_return": ("last failed request after the service that was restarted had returned", "s"),
    "p99_before": ("p99 before the fault", "s"),
    "p99_after": ("p99 in the end", "s"),
    "unavailable": ("requests answered with 503", ""),
    "says_unavailable": ("clients were told that the service is unavailable (503)", ""),
    "errors": ("requests answered with another error of the server", ""),
    "acknowledged": ("acknowledged writes", ""),
    "lost": ("acknowledged writes lost", ""),
    "twice": ("writes carried out twice", ""),
    "flows": ("flow runs meanwhile", ""),
    "incomplete": ("flow runs that did not complete", ""),
    "scheduling_after": ("the scheduler ticks on time again after", "s"),
    "events_after": ("every subscriber is sent events again after", "s"),
    "back_after": ("the process is back after", "s"),
    "by_itself": ("the process came back by itself", ""),
}
"""What is measured: a name, its words, and its unit."""

LASTING = ("freeze", "stop", "crash", "cut")
"""Faults during which others have to take over. Their end is a second change, which has a time of its own to become normal in."""

FLOOR = 0.5  # seconds; what is no slower is no slow request, however fast the service is otherwise
FACTOR = 2.0  # a request is slow when it takes so many times the p99 of before
SHARE = 0.01  # that of requests which may be slow in a window of normal service: what p99 means
WINDOW = 3.0  # seconds
STALL = 2.0  # seconds without an event, or that a tick is overdue, which are no mere delay
_UNAVAILABLE = "503"
_WARM_UP = 1.0  # seconds in which the first connections are made
_SEEN_LATE = 0.3  # seconds after which a change that was there at the fault has been seen


@dataclass(frozen=True)
class Sample:
    """One request; ``sent`` and ``ended`` are seconds since the fault."""

    sent: float
    took: float
    good: bool

    @property
    def ended(self) -> float:
        return self.sent + self.took


@dataclass(frozen=True)
class Scenario:
    """One scenario's measurements. All times are seconds since the fault: ``until`` is its end, ``ended`` that of the load."""

    name: str
    samples: Sequence[Sample]
    until: float
    ended: float
    events: Sequence[Sequence[float]] = ()
    ticks: Sequence[tuple[float, float]] = ()  # when it was seen, and when the next one is due
    watched: float = 0.0  # until when ticks were looked for
    flows: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    statuses: Mapping[str, int] = field(default_factory=dict)  # of the answers that were refusals
    released: float | None = None  # when a fault that lasts was let go
    by_itself: bool = True
    unscheduled: bool = False
    """The settings switch the scheduler off."""
    restarted: bool = False
    killed: bool = False


def scenario(name: str, kind: str, load: Mapping[str, Any], watch: Mapping[str, Any], fault: Mapping[str, Any]) -> Scenario:
    """What the three modules have returned, on one clock that begins with the fault."""
    line = json.loads(load["timeline"])
    at = float(fault["at"])
    offset = float(line["began_at"]) - at
    scheduler = watch.get("scheduler") or {}
    return Scenario(
        name=name,
        samples=[Sample(sent + offset, took, bool(good)) for sent, took, good in line["samples"]],
        until=float(fault["until"]) - at,
        ended=line["ended"] + offset,
        events=[[when + offset for when in times] for times in line["events"]],
        ticks=[(seen - at, due - at) for seen, due in scheduler.get("changes", [])],
        watched=float(scheduler.get("ended") or at) - at,
        flows=[{**run, "at": run["at"] - at} for run in (watch.get("flows") or {}).get("runs", [])],
        counts={name: int(load[name]) for name in ("acknowledged", "lost", "twice")},
        statuses={str(status): int(count) for status, count in (load.get("statuses") or {}).items()},
        released=float(fault["released"]) - at if kind in LASTING else None,
        by_itself=bool(fault.get("by_itself")),
        unscheduled=bool(scheduler.get("switched_off")),
        restarted=kind == "restart",
        killed=kind == "kill",
    )


def measure(one: Scenario) -> dict[str, Any]:
    """Everything in MEASURES that this scenario has; None is what did not come back."""
    before = [sample for sample in one.samples if sample.ended < 0]
    before = [sample for sample in before if sample.sent >= before[0].sent + _WARM_UP] or before
    after = [sample for sample in one.samples if sample.ended >= 0]
    p99 = percentile([sample.took for sample in before if sample.good], 0.99)
    normal = normal_seconds(p99)
    failed = [sample for sample in after if not sample.good]
    times = disturbed(one, after, normal)
    again = times["normal_after"]
    found: dict[str, Any] = {
        "requests": len(after),
        "failed": len(failed),
        "slow": sum(sample.good and sample.took > normal for sample in after),
        "longest": max((sample.took for sample in after), default=0.0),
        "failing_for": max((sample.ended for sample in failed), default=0.0),
        **times,
        "p99_before": p99,
        "p99_after": percentile([sample.took for sample in after if sample.good and again is not None and sample.sent >= again], 0.99),
        **told(one.statuses),
        **one.counts,
        "flows": len(one.flows),
        "incomplete": sum(run.get("state") != "COMPLETED" or bool(run.get("problem")) for run in one.flows),
        **({} if one.unscheduled else {"scheduling_after": scheduling_after(one.ticks, one.watched)}),
        "events_after": events_after(one.events, one.ended),
    }
    if one.restarted:
        found["serving_after_return"] = max(found["failing_for"] - one.until, 0.0)
    if one.killed:
        found.update(back_after=one.until if one.by_itself else None, by_itself=one.by_itself)
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def merged(faults: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Faults of several hosts that were made together, as one."""
    return {
        "at": min(float(one["at"]) for one in faults),
        "released": max(float(one.get("released", one["until"])) for one in faults),
        "until": max(float(one["until"]) for one in faults),
        "by_itself": all(one.get("by_itself") for one in faults),
    }


def told(statuses: Mapping[str, int]) -> dict[str, Any]:
    """What clients were told of an outage: 503 is an answer after which they may try again."""
    unavailable = int(statuses.get(_UNAVAILABLE, 0))
    errors = sum(count for status, count in statuses.items() if status.startswith("5") and status != _UNAVAILABLE)
    return {"unavailable": unavailable, "says_unavailable": unavailable > 0, "errors": errors}


def disturbed(one: Scenario, after: Sequence[Sample], normal: float) -> dict[str, Any]:
    """For how long requests failed or were slow, of which there are none when anything is normal."""
    found: dict[str, Any] = {"normal_after": normal_after(after, normal, one.ended), "degraded": degraded(after, normal)}
    if one.released is not None:
        found["normal_meanwhile"] = normal_after(meanwhile(after, one.released), normal, one.released)
        again = normal_after([sample for sample in after if sample.ended >= one.released], normal, one.ended)
        found["normal_after_return"] = None if again is None else max(again - one.released, 0.0)
    return found


def normal_seconds(p99: float) -> float:
    """What a request may take without being slow."""
    return max(FACTOR * p99, FLOOR)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def normal_after(after: Sequence[Sample], normal: float, ended: float) -> float | None:
    """When the last failed or slow request of a window ended that had too many of them; None when that was the load's last one."""
    ordered = sorted(after, key=lambda sample: sample.ended)
    last = 0.0
    first = 0
    for end, sample in enumerate(ordered):
        while ordered[first].ended < sample.ended - WINDOW:
            first += 1
        window = ordered[first : end + 1]
        bad = [each for each in window if not each.good or each.took > normal]
        if any(not each.good for each in bad) or len(bad) > SHARE * len(window):
            last = max(last, bad[-1].ended)
    return None if last and last > ended - WINDOW else last


def meanwhile(after: Sequence[Sample], released: float) -> list[Sample]:
    """What was seen until then: those that had not ended had waited for so long."""
    sent = [sample for sample in after if sample.sent < released]
    return [sample if sample.ended < released else Sample(sample.sent, released - sample.sent, True) for sample in sent]


def degraded(after: Sequence[Sample], normal: float) -> int:
    """How many seconds had a failed request, or more slow ones than p99 allows."""
    seconds: dict[int, list[Sample]] = {}
    for sample in after:
        seconds.setdefault(int(sample.ended), []).append(sample)
    return sum(
        any(not each.good for each in those) or sum(each.took > normal for each in those) > max(SHARE * len(those), 1)
        for those in seconds.values()
    )


def stalls(ticks: Sequence[tuple[float, float]], watched: float) -> list[tuple[float, float | None]]:
    """When a tick of the scheduler was overdue, from the moment in which it was due; None is an end that was not seen."""
    found: list[tuple[float, float | None]] = []
    for position, (_seen, due) in enumerate(ticks):
        following = ticks[position + 1][0] if position + 1 < len(ticks) else None
        if (watched if following is None else following) - due > STALL:
            found.append((due, following))
    return [(due, until) for due, until in found if until is None or until > _SEEN_LATE]


def scheduling_after(ticks: Sequence[tuple[float, float]], watched: float) -> float | None:
    """When the scheduler ticked again after its last stall; 0 without one, None when it has not, or was never seen to."""
    if not ticks:
        return None
    found = stalls(ticks, watched)
    return found[-1][1] if found else 0.0


def silences(times: Sequence[float], ended: float) -> list[tuple[float, float | None]]:
    """From when to when a subscriber was sent nothing, after the fault; None is an end that was not seen."""
    moments = [when for when in times if when <= ended]
    found: list[tuple[float, float | None]] = [
        (begun, until) for begun, until in zip(moments, moments[1:]) if until > 0 and until - begun > STALL
    ]
    last = moments[-1] if moments else min(0.0, ended)
    return [*found, (last, None)] if ended - last > STALL else found


def events_after(subscribers: Sequence[Sequence[float]], ended: float) -> float | None:
    """When the last of the subscribers was sent events again; 0 if none ever waited, None if one still does."""
    ends = [until for times in subscribers for _begun, until in silences(times, ended)]
    return None if None in ends else max((end for end in ends if end is not None), default=0.0)


@dataclass(frozen=True)
class Verdict:
    """Whether a scenario was good enough, and what was not."""

    passed: bool
    reasons: list[str]
    broken: tuple[str, ...] = ()  # the measures of the reasons


def judge(measures: Mapping[str, Any], limits: Mapping[str, Any]) -> Verdict:
    """Compares what was measured with what is allowed: at most a number, or exactly a truth value.

    Raises ValueError if a limit is for something that is not measured, or is no number.
    """
    reasons, broken = [], []
    for name, limit in limits.items():
        if name not in MEASURES:
            raise ValueError(f"there is no measure called {name}, so it has no limit; there are {', '.join(MEASURES)}")
        if name not in measures:
            continue
        words, unit = MEASURES[name]
        value = measures[name]
        if not within(value, limit):
            reasons.append(f"{words}: {shown(value, unit)}, and the limit is {shown(limit, unit)}")
            broken.append(name)
    return Verdict(not reasons, reasons, tuple(broken))


def mere_slowness(one: Scenario, measures: Mapping[str, Any], name: str, limit: float) -> bool:
    """Whether a measure is beyond its limit only as answers were slow, or came late: a machine that is short of CPU does that, too."""
    if name in ("scheduling_after", "events_after", "back_after"):
        return measures[name] is not None
    if name not in ("longest", "normal_after", "normal_meanwhile", "normal_after_return", "degraded"):
        return False
    # What is left of it when no answer counts as slow is what failed.
    return within(failures_alone(one).get(name, 0.0), limit)


def failures_alone(one: Scenario) -> dict[str, Any]:
    """The measures of time, as far as they come of requests that failed."""
    after = [sample for sample in one.samples if sample.ended >= 0]
    longest = max((sample.took for sample in after if not sample.good), default=0.0)
    return {"longest": longest, **disturbed(one, after, float("inf"))}


def within(value: Any, limit: Any) -> bool:
    """Whether a value is no more than the limit or, where there is yes and no only, what it has to be."""
    if isinstance(limit, bool) or isinstance(value, bool):
        return bool(value) == bool(limit)
    return value is not None and value <= float(limit)


def shown(value: Any, unit: str = "") -> str:
    """A value for people."""
    if value is None:
        return "not within the drill"
    if isinstance(value, bool):
        return "yes" if value else "no"
    number = f"{value:.2f}" if isinstance(value, float) else str(value)
    return f"{number} {unit}".rstrip()
