"""The watchdog's metrics, in a file that the node exporter reads."""

from __future__ import annotations

from collections.abc import Mapping, Set

from selfhosted_prefect.watchdog.memory import Memory

METRICS = {
    "prefect_watchdog_last_check_timestamp_seconds": ("gauge", "When the watchdog last looked at the processes of this host."),
    "prefect_watchdog_healthy": ("gauge", "Whether the unit runs and works."),
    "prefect_watchdog_signs_disagree": ("gauge", "Whether it looks dead and the kernel shows otherwise, so that it is not restarted."),
    "prefect_watchdog_cannot_heal": ("gauge", "Whether a restart, of this unit or of another one of its kind, has not helped."),
    "prefect_watchdog_restarts_total": ("counter", "Restarts by the watchdog, and why."),
    "prefect_watchdog_handed_over_total": ("counter", "Tasks of dead workers that were given to others."),
}


def metrics(memory: Memory, healthy: Mapping[str, bool], now: float, doubted: Set[str] = frozenset(), stuck: Set[str] = frozenset()) -> str:
    """The figures as Prometheus reads them. ``doubted`` are the units whose signs disagree, ``stuck`` those that no restart heals."""

    def flags(units: Set[str]) -> list[str]:
        return [f'{{unit="{unit}"}} {int(unit in units)}' for unit in sorted(healthy)]

    restarts = [(*name.partition(" ")[::2], number) for name, number in sorted(memory.restarts.items())]
    values = {
        "prefect_watchdog_last_check_timestamp_seconds": [f" {now:.3f}"],
        "prefect_watchdog_healthy": flags({unit for unit, well in healthy.items() if well}),
        "prefect_watchdog_signs_disagree": flags(doubted),
        "prefect_watchdog_cannot_heal": flags(stuck),
        "prefect_watchdog_restarts_total": [f'{{unit="{unit}",reason="{why}"}} {number}' for unit, why, number in restarts],
        "prefect_watchdog_handed_over_total": [f" {memory.handed_over}"],
    }
    lines = []
    for name, (kind, text) in METRICS.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *(name + value for value in values[name])]
    return "\n".join([*lines, ""])
