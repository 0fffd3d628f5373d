#!/usr/bin/env python3
"""Run one flow, with a task every second, while the service under it is changed.

It ends after a number of seconds or when a file appears, then says how the flow run and its task runs ended, as the service has it.
Prefect's own client is used as any user's is, with its retries. The exit status is 0 when the run and all its task runs are
COMPLETED, 1 when not, 2 when it could not start.

It needs an interpreter with `prefect` installed: `tools/client-venv` makes one from a release's lock file. Credentials are Prefect's own
settings, from the environment: PREFECT_API_AUTH_STRING, PREFECT_API_SSL_CERT_FILE.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VISIBLE_SECONDS = 60.0  # seconds for the last task run to become visible: they arrive as events
PAGE = 200


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True, help="address of the service, such as http://127.0.0.1:4200/api")
    until = parser.add_mutually_exclusive_group(required=True)
    until.add_argument("--seconds", type=float, help="how long")
    until.add_argument("--until-file", type=Path, metavar="PATH", help="go on until this file exists")
    parser.add_argument("--max-seconds", type=float, default=1800.0, help="how long at most, with --until-file (1800)")
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="make this file when the first task run has ended")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the result to this file, in JSON")
    given = parser.parse_args(arguments)
    given.seconds = given.max_seconds if given.until_file else given.seconds
    for name in ("until_file", "ready_file", "report"):
        if path := getattr(given, name):
            setattr(given, name, path.resolve())
    return given


def prepare_environment(url: str, folder: Path) -> None:
    """Give Prefect a home of its own, before it is imported, so that no profile of the user's has a say."""
    # The deployment is reached directly, whatever proxy this shell names.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        if not name.startswith(("PREFECT_API_", "PREFECT_CLIENT_")):
            del os.environ[name]
    os.environ |= {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",
        "DO_NOT_TRACK": "1",
    }
    os.chdir(folder)


def run_flow(given: argparse.Namespace) -> tuple[str, int]:
    """Run the flow and return its run's id and how many tasks it ran."""
    from prefect import flow, get_run_logger, task
    from prefect.runtime import flow_run

    def tick(number: int) -> int:
        get_run_logger().info("tick %d", number)
        return number

    ticking = task(tick)
    ids: list[str] = []
    ended = 0

    def across() -> None:
        nonlocal ended
        ids.append(str(flow_run.id))
        began = time.monotonic()
        while time.monotonic() - began < given.seconds and not (given.until_file and given.until_file.exists()):
            due = time.monotonic() + 1
            ticking(ended)
            ended += 1
            if given.ready_file and ended == 1:
                given.ready_file.touch()
            time.sleep(max(due - time.monotonic(), 0))

    flow(across, name="load-flow")(return_state=True)
    return ids[0] if ids else "", ended


async def gather(run: str, ended: int) -> dict[str, Any]:
    """What the service knows of the run, once it knows of every task or has had its time."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    until = time.monotonic() + VISIBLE_SECONDS
    async with get_client() as client:
        while True:
            states: Counter[str] = Counter()
            for offset in range(0, ended + 1, PAGE):
                these = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
                page = await client.read_task_runs(flow_run_filter=these, limit=PAGE, offset=offset)
                states.update(str(one.state_type.value) if one.state_type else "NONE" for one in page)
            found = await client.read_flow_run(run)
            state = found.state.type.value if found.state else "NONE"
            if (states["COMPLETED"] >= ended and state == "COMPLETED") or time.monotonic() > until:
                message = (found.state.message or "") if found.state else ""
                return {"flow_run": run, "state": state, "message": message, "tasks": ended, "task_runs": dict(states)}
            await asyncio.sleep(1)


def main(arguments: Sequence[str]) -> int:
    """Run the flow and return the exit status."""
    given = parse(arguments)
    folder = Path(tempfile.mkdtemp(prefix="prefect-flow-"))
    try:
        prepare_environment(given.url.rstrip("/"), folder)
        run, ended = run_flow(given)
        if not run:
            print(f"flow: the run was not accepted by {given.url}", file=sys.stderr)
            return 2
        found = asyncio.run(gather(run, ended))
    except ModuleNotFoundError as error:
        print(f"flow: {error}; run it with an interpreter that `tools/client-venv` has made", file=sys.stderr)
        return 2
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)
    found["completed"] = found["state"] == "COMPLETED" and found["task_runs"] == {"COMPLETED": ended}
    if given.report:
        given.report.write_text(json.dumps(found, indent=2) + "\n")
    states = ", ".join(f"{count} {state}" for state, count in sorted(found["task_runs"].items())) or "none"
    print(f"flow run {run} is {found['state']} {found['message']}; of {ended} task runs: {states}")
    return 0 if found["completed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
