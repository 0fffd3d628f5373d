#!/usr/bin/env python3
"""How long a deployment takes, against a hand-written parallel shell script that does the same installs and starts.

Everything is measured in one run, on hosts that this run creates (bare images) and removes: the script, a fresh deployment, a
second run that must change nothing, and growing from 3 to 9 API hosts; then the inventory with clusters, fresh and again. Without TLS,
which the script does not have either, unless the environment says ``BENCH_TLS_MODE=private_ca``. Prints a table, writes
``build/bench.json``, and exits 1 when a limit is missed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NAME, NETWORK, PORT = "bench", "172.28.9", "4290"
LAB = ["-i", "inventories/lab"]
GROWN = [*LAB, "-i", "tests/bench/grow.yml"]
FULL = ["-i", "inventories/lab-ha"]
VARIABLES = ["-e", f"lab_name={NAME}", "-e", f"lab_network={NETWORK}", "-e", f"lab_port={PORT}"]
# The script has no TLS: what that costs beside it is asked for.
VARIABLES += ["-e", f"tls_mode={os.environ.get('BENCH_TLS_MODE', 'off')}"]
# What a start costs is Prefect's, not ours; these tasks do nothing but start servers and wait for them.
STARTS = ("Start the servers, now and at every boot", "Wait until the server is healthy and in service")

# Of the script's time, so that the limit holds on slower machines: 25 s where the script takes 59.
SECOND_RUN = 25 / 59


@dataclass(frozen=True)
class Row:
    """One measurement and the most it may be, both in seconds."""

    name: str
    seconds: float
    limit: float | None = None

    @property
    def good(self) -> bool:
        """Whether the limit was met."""
        return self.limit is None or self.seconds <= self.limit


@dataclass(frozen=True)
class Run:
    """One run of a playbook: its seconds, those spent in starts, and the hosts' changes in all."""

    seconds: float
    starts: float
    changed: int


def main() -> int:
    """Measures, prints, and says whether every limit was met."""
    execute(["tools/docker-engine"])
    for inventory in (GROWN, FULL):
        hosts("destroy", inventory)
    try:
        rows = measure()
    finally:
        for inventory in (GROWN, FULL):
            hosts("destroy", inventory)
    (ROOT / "build" / "bench.json").write_text(json.dumps([{**asdict(row), "good": row.good} for row in rows], indent=2) + "\n")
    print(table(rows))
    return 0 if all(row.good for row in rows) else 1


def measure() -> list[Row]:
    """All measurements, in the order in which they are taken."""
    hosts("create", LAB)
    script = timed(baseline)
    hosts("destroy", LAB)
    hosts("create", LAB)
    fresh = site(LAB, "fresh")
    second = site(LAB, "second")
    hosts("create", GROWN)
    grown = site(GROWN, "grown")
    again = site(GROWN, "second-grown")
    hosts("destroy", GROWN)
    hosts("create", FULL)
    full = site(FULL, "full")
    full_again = site(FULL, "second-full")
    return [
        Row("shell script, 7 hosts", script),
        Row("site.yml, 7 bare hosts", fresh.seconds, 1.5 * script),
        Row("site.yml again", second.seconds, SECOND_RUN * script),
        Row("  hosts' changes in that run", second.changed, 0),
        Row("site.yml, 3 to 9 API hosts", grown.seconds),
        Row("  without the starts", grown.seconds - grown.starts, 2.0 * second.seconds),
        Row("site.yml again, 13 hosts", again.seconds),
        Row("  hosts' changes in that run", again.changed, 0),
        Row("site.yml with clusters, 8 bare hosts", full.seconds),
        Row("site.yml again, with clusters", full_again.seconds),
        Row("  hosts' changes in that run", full_again.changed, 0),
    ]


def table(rows: Sequence[Row]) -> str:
    """The measurements as text."""
    lines = [f"{'':38}{'seconds':>9}{'limit':>9}"]
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:9.1f}{'  ok' if row.good else '  MISSED'}"
        lines.append(f"{row.name:38}{row.seconds:9.1f}{limit}")
    return "\n".join(lines)


def baseline() -> None:
    """Runs the hand-written script on the lab's hosts."""
    inventory = json.loads(execute(["ansible-inventory", *LAB, *VARIABLES, "--list"]))
    address = {name: f"{NETWORK}.{value['ansible_host'].rsplit('.', 1)[1]}" for name, value in inventory["_meta"]["hostvars"].items()}
    keys = ROOT / "build" / "lab" / "ssh"
    ssh = f"ssh -q -i {keys / 'admin'} -l admin -o UserKnownHostsFile={keys / 'known_hosts'} -o GlobalKnownHostsFile=/dev/null"
    locks = ROOT / "roles" / "prefect" / "files"
    version = re.search(r"^prefect_version: (\S+)", (ROOT / "roles/common/defaults/main.yml").read_text(), re.MULTILINE)
    if not version:
        raise SystemExit("bench: roles/common/defaults/main.yml has no prefect_version")
    lock = locks / "locks" / f"{version[1].strip(chr(34))}.txt"
    single = [address[name] for name in ("postgres1", "redis1", "services1", "nginx1")]
    api = [address[name] for name in ("api1", "api2", "api3")]
    uv = json.loads((locks / "locks" / "uv.json").read_text())
    requirement = ROOT / "build" / "bench-uv.txt"
    requirement.write_text(
        " ".join([f"uv=={uv['version']}", *(f"--hash=sha256:{wheel['sha256']}" for wheel in uv["wheels"].values())]) + "\n"
    )
    command = ["tests/bench/baseline.sh", str(lock), str(requirement), *single, *api]
    print(execute(command, {"BENCH_SSH": ssh}), flush=True)


def site(inventory: Sequence[str], name: str) -> Run:
    """Runs site.yml and reads its own account of time and changes."""
    environment = {"ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks", "PROFILE_TASKS_TASK_OUTPUT_LIMIT": "all"}
    start = time.monotonic()
    output = execute(["ansible-playbook", *inventory, *VARIABLES, "playbooks/site.yml"], environment)
    seconds = time.monotonic() - start
    (ROOT / "build" / f"bench-{name}.log").write_text(output)
    print(f"site.yml ({name}): {seconds:.1f} s", flush=True)
    return Run(seconds, starts(output), sum(map(int, re.findall(r"changed=(\d+)", output))))


def starts(output: str) -> float:
    """The seconds that profile_tasks counts for the tasks that start servers and wait for them."""
    return sum(
        float(taken) for name, taken in re.findall(r"^(.*?) -{2,} *([\d.]+)s$", output, re.MULTILINE) if name.strip().endswith(STARTS)
    )


def hosts(verb: str, inventory: Sequence[str]) -> None:
    """Creates or destroys the test hosts."""
    execute(["ansible-playbook", *inventory, *VARIABLES, f"molecule/shared/{verb}.yml"])


def timed(action: Callable[[], None]) -> float:
    """Seconds that the action takes."""
    start = time.monotonic()
    action()
    return time.monotonic() - start


def execute(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """Runs a command from the checkout with the virtual environment first on PATH, and returns its output. Exits when it fails."""
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    result = subprocess.run(
        list(command), cwd=ROOT, env={**os.environ, "PATH": path, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        print(result.stdout[-6000:], result.stderr[-6000:], file=sys.stderr)
        raise SystemExit(f"bench: {' '.join(command)} ended with {result.returncode}")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
