# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether something that is no part of the service took the machines' CPU while a drill measured: then slow answers prove nothing.

What the service itself takes is told apart from the rest. A server that turns in circles after a fault is the fault's doing.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run

BUSY = 0.95  # of the CPU; below it whatever wants to run does
OTHERS = 0.5  # of the CPU, taken by what is no part of the service
STOLEN = 0.1  # of the CPU, which a virtual machine wanted and did not get
SHARE = 1 / 3  # that many slices of a window make it crowded
SLICE = 3.0  # seconds

_SECONDS = 5.0
_BOOT = "/proc/sys/kernel/random/boot_id"
_STAT = "/proc/stat"
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)

Sample = tuple[float, float, float, float, float]
"""When, and seconds of CPU until then: of all, busy, stolen, and taken by the service's units on this host."""


def read_stat(text: str, ticks: int) -> tuple[float, float, float]:
    """Seconds of CPU since the boot, in all, busy, and stolen, from the first line of /proc/stat."""
    fields = [float(value) / ticks for value in text.splitlines()[0].split()[1 : _STEAL + 2]]
    idle = fields[_IDLE] + fields[_IOWAIT]
    return sum(fields), sum(fields) - idle, fields[_STEAL]


def read_units(text: str) -> float:
    """Seconds of CPU of units, from what `systemctl show --property=CPUUsageNSec` says."""
    values = [line.partition("=")[2] for line in text.splitlines() if line.startswith("CPUUsageNSec=")]
    return sum(int(value) for value in values if value.isdigit() and int(value) < 2**63) / 1e9


def watch(
    seconds: float,
    units: Sequence[str],
    ticks: int,
    *,
    read: Callable[[str], str] = lambda path: Path(path).read_text(encoding="ascii"),
    command: Run = run,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """A sample each second, and the machine that they are of: containers on one machine share its CPU and its boot."""
    samples: list[Sample] = []
    end = clock() + seconds
    while True:
        begun = clock()
        every, busy, stolen = read_stat(read(_STAT), ticks)
        own = 0.0
        if units:
            ended = command(["systemctl", "show", "--property=CPUUsageNSec", "--", *units], _SECONDS)
            own = read_units(ended.output) if not ended.rc else 0.0
        samples.append((begun, every, busy, stolen, own))
        if clock() >= end:
            return {"machine": read(_BOOT).strip(), "samples": samples}
        sleep(max(1.0 - (clock() - begun), 0.1))


@dataclass(frozen=True)
class Use:
    """What the CPU of a machine was used for, as parts of 1."""

    busy: float
    others: float
    stolen: float

    @property
    def crowded(self) -> bool:
        return (self.busy >= BUSY and self.others >= OTHERS) or self.stolen >= STOLEN


@dataclass(frozen=True)
class Noise:
    """A window in which a machine was crowded: which hosts are on it, for which part of the window, and what its CPU was used for."""

    hosts: str
    share: float
    use: Use

    def __str__(self) -> str:
        used = f"{self.use.busy:.0%} of the CPU was in use, {self.use.others:.0%} by what is no part of the service"
        stolen = f", {self.use.stolen:.0%} was taken by other virtual machines" if self.use.stolen >= STOLEN else ""
        return f"{self.hosts}: {used}{stolen} ({self.share:.0%} of the time crowded)"


def noise(watched: Sequence[Mapping[str, Any]], begun: float, ended: float) -> list[Noise]:
    """The machines that were crowded between two moments; ``watched`` is what :func:`watch` returned, with the ``host``."""
    found = []
    for those in _machines(watched):
        slices = list(_uses(those, begun, ended))
        crowded = [use for use in slices if use.crowded]
        mean = _mean(crowded)
        if mean is not None and len(crowded) >= SHARE * len(slices):
            found.append(Noise(", ".join(str(one["host"]) for one in those), len(crowded) / len(slices), mean))
    return found


def uses(watched: Sequence[Mapping[str, Any]], begun: float, ended: float) -> dict[str, float]:
    """The largest share of a machine's CPU that others used between two moments, and how busy it was; empty if it is not known."""
    all_of = [use for those in _machines(watched) if (use := _mean(list(_uses(those, begun, ended)))) is not None]
    if not all_of:
        return {}
    worst = max(all_of, key=lambda use: use.others)
    return {"busy": round(worst.busy, 2), "others": round(worst.others, 2), "stolen": round(worst.stolen, 2)}


def _machines(watched: Sequence[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    """What was watched, by the machine that it is of."""
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for one in watched:
        if len(one.get("samples", [])) > 1:
            machines.setdefault(str(one["machine"]), []).append(one)
    return machines.values()


def _mean(those: Sequence[Use]) -> Use | None:
    count = len(those)
    if not count:
        return None
    return Use(sum(one.busy for one in those) / count, sum(one.others for one in those) / count, sum(one.stolen for one in those) / count)


def _uses(those: Sequence[Mapping[str, Any]], begun: float, ended: float) -> Iterator[Use]:
    """What the CPU of one machine was used for in each slice; its hosts' units are added up."""
    at = begun
    while at + SLICE <= ended:
        machine = _between(those[0]["samples"], at, at + SLICE)
        own = [_between(one["samples"], at, at + SLICE) for one in those]
        if machine is not None and machine[0] > 0 and None not in own:
            every, busy, stolen, _own = machine
            # Of the same length of time, as each host's samples come at moments of their own.
            taken = sum(one[3] * every / one[0] for one in own if one is not None and one[0] > 0)
            yield Use(busy / every, max(busy - taken, 0.0) / every, stolen / every)
        at += SLICE


def _between(samples: Sequence[Sequence[float]], begun: float, ended: float) -> tuple[float, float, float, float] | None:
    """What was counted between the last samples before two moments; None where there are none."""
    times = [sample[0] for sample in samples]
    first, last = bisect_right(times, begun) - 1, bisect_right(times, ended) - 1
    if first < 0 or last <= first or ended - times[last] > SLICE:
        return None
    every, busy, stolen, own = (samples[last][number] - samples[first][number] for number in range(1, 5))
    return every, busy, stolen, own
