"""Running flows while the database or Redis of a lab is stopped and started again."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import NEW, ROOT, Lab, environment

# Debian's PostgreSQL has a unit of its own for each version.
UNITS = {"postgres": "$(systemctl list-units --all --plain --no-legend 'postgresql@*' | cut -d ' ' -f 1)", "redis": "redis-server.service"}
FLOWS = "plugins/module_utils/_drill/flows.py"
BEGIN = 12.0  # seconds until so many flows run
VISIBLE_SECONDS = 240.0  # seconds for the last task runs to become visible on a busy machine


def stop(lab: Lab, host: str, what: str, seconds: float) -> None:
    """Stops one of them, and starts it again after so many seconds."""
    lab.on(host, f"unit={UNITS[what]}; systemctl stop $unit; sleep {seconds:g}; systemctl start $unit")


def run_flows(lab: Lab, seconds: float, at_once: int, meanwhile: Callable[[], None]) -> list[dict[str, Any]]:
    """Runs flows with Prefect's own client and its defaults, does something else meanwhile, and returns how each run ended.

    Each run's `state` is what the service says of it and its task runs, and its `problem` what the program met.
    """
    env = {name: value for name, value in environment().items() if not name.startswith("PREFECT_")}
    python = subprocess.run(["tools/client-venv", NEW], cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout.strip()
    arguments = ["--seconds", f"{seconds:g}", "--at-once", str(at_once), "--pause", "4", "--visible-within", f"{VISIBLE_SECONDS:g}"]
    with tempfile.TemporaryDirectory(prefix="prefect-flows-") as home:
        env |= {
            "PREFECT_API_URL": lab.url,
            **lab.client,
            "PREFECT_HOME": home,
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "DO_NOT_TRACK": "1",
        }
        output = Path(home) / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen([python, str(ROOT / FLOWS), *arguments], cwd=home, env=env, stdout=stream, stderr=subprocess.STDOUT)
        try:
            time.sleep(BEGIN)
            meanwhile()
            process.wait(seconds + VISIBLE_SECONDS + 300)
        finally:
            process.kill()
            process.wait()
        text = output.read_text(errors="replace")
    runs: list[dict[str, Any]] = json.loads(text.splitlines()[-1])["runs"]
    assert len(runs) >= at_once, text
    return runs


def survive(lab: Lab, host: str, what: str, *, times: int, seconds: float, pause: float, at_once: int) -> str:
    """So many restarts under so many running flows: the test fails unless every run is complete. Returns a line for people."""

    def restarts() -> None:
        for _number in range(times):
            stop(lab, host, what, seconds)
            time.sleep(pause)

    runs = run_flows(lab, BEGIN + times * (seconds + pause), at_once, restarts)
    bad = [one for one in runs if one["state"] != "COMPLETED" or one["problem"]]
    longest = max(one["took"] for one in runs)
    ended = f"{len(bad)} of {len(runs)} runs incomplete, the longest {longest:.0f} s"
    said = f"{times} times {seconds:g} s without {what} under {at_once} flows: {ended}"
    assert not bad, f"{said}: {bad[:5]}"
    return said
