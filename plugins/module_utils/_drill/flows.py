# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Runs short flows, one after the other or some at once, as a user's program does, and tells which the service holds to be complete.

It is run by a release's own Python, beside the module that starts it, and needs nothing but `prefect`. Where the service is, the
credentials and a folder for Prefect's home come as Prefect's own settings, by the environment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

NAME = "prefect-drill"
TASKS = 2
VISIBLE_SECONDS = 30.0  # seconds for the last task runs to become visible: they arrive as events
PAGE = 200


def run_flows(seconds: float, at_once: int = 1, pause: float = 0.2) -> list[dict[str, Any]]:
    """Runs flows for so long; each one's id ("" if it never got one), when it began, how long it took, and what it ran into."""
    from prefect import flow, task  # noqa: PLC0415  only the release's Python has it
    from prefect.runtime import flow_run  # noqa: PLC0415

    def tick(number: int) -> int:
        return number

    def short(number: int) -> None:
        current[number] = str(flow_run.id)
        for task_number in range(TASKS):
            ticking(task_number)
            time.sleep(pause)

    ticking = task(tick)
    running = flow(short, name=NAME)
    current: dict[int, str] = {}
    end = time.monotonic() + seconds

    def one_after_the_other(number: int) -> list[dict[str, Any]]:
        # Not all in the same moment.
        time.sleep(number * pause / at_once)
        runs: list[dict[str, Any]] = []
        while time.monotonic() < end:
            current[number] = ""
            at, began, problem = time.time(), time.monotonic(), ""
            try:
                state = running(number, return_state=True)
                problem = "" if state.is_completed() else f"{state.type.value} {state.message or ''}"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            runs.append({"id": current[number], "at": at, "took": round(time.monotonic() - began, 3), "problem": problem[:300]})
            time.sleep(0.3)
        return runs

    with ThreadPoolExecutor(at_once) as pool:
        return [run for runs in pool.map(one_after_the_other, range(at_once)) for run in runs]


async def gather_states(runs: list[dict[str, Any]], timeout: float) -> dict[str, str]:
    """The state of each run, as the service has it; ``COMPLETED`` only when all of its task runs are, too."""
    from prefect import get_client  # noqa: PLC0415
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId  # noqa: PLC0415

    ids = [one["id"] for one in runs if one["id"]]
    states: dict[str, str] = {}
    end = time.monotonic() + timeout
    async with get_client() as client:
        while ids:
            for at in range(0, len(ids), PAGE // TASKS):
                these = FlowRunFilter(id=FlowRunFilterId(any_=ids[at : at + PAGE // TASKS]))
                ended = Counter(
                    str(one.flow_run_id)
                    for one in await client.read_task_runs(flow_run_filter=these, limit=PAGE)
                    if one.state and one.state.is_completed()
                )
                for one in await client.read_flow_runs(flow_run_filter=these, limit=PAGE):
                    state = one.state.type.value if one.state else "NONE"
                    short = state == "COMPLETED" and ended[str(one.id)] < TASKS
                    states[str(one.id)] = f"COMPLETED, with {ended[str(one.id)]} of {TASKS} task runs" if short else state
            if all(states.get(one) == "COMPLETED" for one in ids) or time.monotonic() > end:
                break
            await asyncio.sleep(1)
    return states


async def remove_flow() -> None:
    """Removes the flow, and its runs with it."""
    from prefect import get_client  # noqa: PLC0415

    async with get_client() as client:
        found = await client.read_flow_by_name(NAME)
        await client.delete_flow(found.id)


def main() -> int:
    """Runs the flows, and prints one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds after each task")
    parser.add_argument("--visible-within", type=float, default=VISIBLE_SECONDS, help="seconds for the last task runs to become visible")
    given = parser.parse_args()
    runs = run_flows(given.seconds, given.at_once, given.pause)
    problem = ""
    states: dict[str, str] = {}
    try:
        states = asyncio.run(gather_states(runs, given.visible_within))
        # Late events of task runs whose flow run is gone are tried again and again, and hold up those of others. The next drill removes it
        if all(states.get(one["id"]) == "COMPLETED" for one in runs if one["id"]):
            asyncio.run(remove_flow())
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    for one in runs:
        one["state"] = states.get(one["id"], "UNKNOWN" if one["id"] else "NEVER BEGAN")
    sys.stdout.write(json.dumps({"runs": runs, "problem": problem[:300]}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
