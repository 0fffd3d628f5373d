#!/usr/bin/env python3
"""Prove a Prefect deployment with Prefect's own client, through its balancer.

Every check does what a user does: runs a flow, reads its logs, follows events by websocket, runs a deployment on a
schedule, sends background tasks. All of them run at the same time, each with a limit, and what they create is removed.
The exit status is 0 when every check passed, 1 when one failed, 2 when the proof could not start.

It needs an interpreter with `prefect` installed: `tools/client-venv` makes one from the lock file of a release.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from parts import NAMES, NEEDS, Options, Result, UnreachableError

HERE = Path(__file__).resolve().parent
MAX_LAG_EVENTS = 50


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line; the environment gives the defaults of the addresses."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None,
        epilog="Credentials are Prefect's own settings, from the environment: PREFECT_API_AUTH_STRING, PREFECT_API_SSL_CERT_FILE, "
        "PREFECT_CLIENT_CUSTOM_HEADERS.",
    )
    parser.add_argument(
        "--url",
        default=os.environ.get("PREFECT_API_URL", ""),
        help="address of the service, such as http://balancer:4200/api (PREFECT_API_URL)",
    )
    parser.add_argument(
        "--direct",
        default=os.environ.get("PROOF_DIRECT_URLS", ""),
        metavar="URL,URL",
        help="addresses of single API servers: an event must become visible through all of them (PROOF_DIRECT_URLS)",
    )
    parser.add_argument("--only", default="", metavar="NAME,NAME", help=f"run these checks only, of: {', '.join(NAMES)}")
    parser.add_argument(
        "--switched-off",
        default="",
        metavar="PART,PART",
        help=f"parts of Prefect that the deployment's settings switch off, whose checks are left out: {', '.join(NEEDS)} (none)",
    )
    parser.add_argument("--timeout", type=float, default=90.0, help="seconds for each check (90)")
    parser.add_argument("--lag-events", type=int, default=30, help="events whose way to another API server is timed (30)")
    parser.add_argument("--max-lag", type=float, default=1.5, help="seconds the 95th percentile of that time may reach (1.5)")
    parser.add_argument(
        "--lag-attempts",
        type=int,
        default=int(os.environ.get("PROOF_LAG_ATTEMPTS") or 1),
        help="measurements of which one has to be within that limit, for a machine that others use too (PROOF_LAG_ATTEMPTS, 1)",
    )
    parser.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the results to this file too")
    given = parser.parse_args(arguments)
    only = tuple(name.strip() for name in given.only.split(",") if name.strip())
    if not given.url:
        parser.error("no address to prove: give --url or set PREFECT_API_URL")
    if not 1 <= given.lag_events <= MAX_LAG_EVENTS:
        parser.error(f"--lag-events must be 1 to {MAX_LAG_EVENTS}: one page of the API holds no more")
    if given.lag_attempts < 1:
        parser.error("--lag-attempts (PROOF_LAG_ATTEMPTS) must be 1 or more")
    if unknown := sorted(set(only) - set(NAMES)):
        parser.error(f"unknown check: {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    off = given.switched_off.replace(",", " ").split()
    left_out = {name: part for part in off for name in NEEDS.get(part, ())}
    for name, part in left_out.items():
        print(f"off   {name}: {part} is switched off")
    wanted = tuple(name for name in only or NAMES if name not in left_out)
    direct = tuple(url.strip().rstrip("/") for url in given.direct.split(",") if url.strip())
    return Options(
        given.url.rstrip("/"), direct, wanted, given.timeout, given.lag_events, given.max_lag, given.lag_attempts, given.json_file
    )


def prepare_environment(options: Options, folder: Path) -> None:
    """Give Prefect a home and settings of its own, so that neither a profile nor a file of the user's has a say.

    To be called before `prefect` is imported. The settings of the client that reach the server (address, credentials,
    certificates, headers) are kept.
    """
    # The deployment is reached directly, whatever proxy this shell names.
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        if not name.startswith(("PREFECT_API_", "PREFECT_CLIENT_")):
            del os.environ[name]
    os.environ |= {
        "PREFECT_API_URL": options.url,
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        # Errors reach the table; the usual lines on the console would only hide it.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
        # A worker that is given a few seconds has no use for the defaults of 10 and 30.
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PYTHONPATH": str(HERE),
        "PYTHONUNBUFFERED": "1",
    }
    os.chdir(folder)


def table(results: Sequence[Result]) -> str:
    """Lay the results out for a person."""
    width = max(len(result.name) for result in results)
    rows = [f"{'ok  ' if result.ok else 'FAIL'}  {result.name:<{width}}  {result.seconds:6.1f} s  {result.detail}" for result in results]
    return "\n".join(rows)


def report(options: Options, results: Sequence[Result], facts: dict[str, Any], seconds: float) -> bool:
    """Print the table, write the file if asked, and return whether all is well."""
    passed = sum(1 for result in results if result.ok)
    good = passed == len(results)
    print(table(results))
    print(f"{passed} of {len(results)} checks passed in {seconds:.1f} s: {options.url}, server {facts['server']}, client {facts['client']}")
    if options.json_file:
        answer = {"ok": good, "url": options.url, "seconds": round(seconds, 1), **facts, "checks": [asdict(result) for result in results]}
        options.json_file.write_text(json.dumps(answer, indent=2) + "\n")
    return good


async def prove(options: Options, folder: Path, started: float) -> bool:
    """Run the checks asked for, and clean up whatever happens."""
    from checks import Proof  # only now: importing prefect reads the environment

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    proof = Proof(options, folder, run=secrets.token_hex(4))
    try:
        results = await proof.run()
    finally:
        await asyncio.shield(proof.clean_up())
    good = report(options, results, proof.facts, time.monotonic() - started)
    end_soon(0 if good else 1)
    return good


def end_soon(status: int, timeout: float = 10.0) -> None:
    """End the process even if a thread of Prefect's client goes on waiting for a server that never answers."""
    sys.stdout.flush()
    timer = threading.Timer(timeout, os._exit, (status,))
    timer.daemon = True
    timer.start()


def main(arguments: Sequence[str]) -> int:
    """Run the proof and return its exit status."""
    started = time.monotonic()
    options = parse(arguments)
    if options.json_file:
        options = replace(options, json_file=options.json_file.resolve())
    folder = Path(tempfile.mkdtemp(prefix="prefect-proof-"))
    try:
        prepare_environment(options, folder)
        return 0 if asyncio.run(prove(options, folder, started)) else 1
    except ModuleNotFoundError as error:
        print(f"the proof cannot start: {error}; run it with an interpreter that `tools/client-venv` has made", file=sys.stderr)
        return 2
    except UnreachableError as error:
        print(f"nothing can be proved: {error}", file=sys.stderr)
        return 2
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("the proof was interrupted; what it had created is removed", file=sys.stderr)
        return 2
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    end_soon(status)
    sys.exit(status)
