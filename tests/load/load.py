#!/usr/bin/env python3
"""Load a Prefect API with clients that never retry, and count every request that failed and every write that was lost.

The load itself is the collection's (plugins/module_utils/_load/load.py), which failover drills use, too; this is its command line. What it
writes stays there. The exit status is 0 when nothing failed, 1 when something did, 2 when it could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Makes the next lines work.
import collection  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.load import Options, load
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.wire import FailedError, Target


def summary(found: dict[str, Any]) -> str:
    """The report in one line."""
    latency, followers, pages = found["latency"], found["subscribers"], found["pages"]
    return (
        f"{found['failed']} of {found['requests']} requests failed, {found['lost']} of {found['acknowledged']} acknowledged writes lost; "
        f"p50 {latency['p50']:.3f} s, p99 {latency['p99']:.3f} s, longest gap {found['longest_gap']:.2f} s; "
        f"{followers['count']} subscribers: {followers['events']} events, {followers['reconnects']} reconnects; "
        f"{pages['broken']} of {pages['loaded']} pages broken, {pages['missing']} of {pages['requests']} of their requests failed,"
        f" {pages['later_missing']} of {pages['later']} parts loaded later missing; {found['seconds']:.0f} s"
    )


def problems(found: dict[str, Any], max_p99: float) -> list[str]:
    """What is wrong with a report, in words."""
    limits: list[tuple[bool, Callable[[], str]]] = [
        (found["requests"] == 0, lambda: "nothing was sent"),
        (found["failed"] > 0, lambda: f"{found['failed']} failed"),
        (found["lost"] > 0, lambda: f"{found['lost']} acknowledged writes lost"),
        (found["twice"] > 0, lambda: f"{found['twice']} writes carried out twice"),
        (found["pages"]["broken"] > 0, lambda: f"{found['pages']['broken']} of {found['pages']['loaded']} pages broken"),
        (found["pages"]["later_missing"] > 0, lambda: f"an open page lacked {found['pages']['later_missing']} parts that it loaded later"),
        (0 < max_p99 < found["latency"]["p99"], lambda: f"p99 is {found['latency']['p99']:.3f} s, more than {max_p99:g} s"),
    ]
    return [words() for wrong, words in limits if wrong]


def parse(arguments: Sequence[str]) -> tuple[Options, argparse.Namespace]:
    """Read the command line: what to do, and what to make of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True, help="address of the service, such as http://127.0.0.1:4200/api")
    parser.add_argument("--auth-env", default="", metavar="NAME", help="environment variable with the credentials, user:password")
    parser.add_argument("--ca-file", default="", metavar="FILE", help="certificate authorities to trust (those of the system)")
    parser.add_argument("--clients", type=int, default=8, help="clients that send one request after the other over a kept connection (8)")
    parser.add_argument("--fresh", type=int, default=2, help="clients that open a connection for each request (2)")
    parser.add_argument("--pausing", type=int, default=4, help="clients that leave their connection idle between requests (4)")
    parser.add_argument("--max-pause", type=float, default=10.0, help="seconds that those pause at most (10)")
    parser.add_argument("--subscribers", type=int, default=2, help="websockets that follow the events (2)")
    parser.add_argument("--browsers", type=int, default=0, help="browsers that load the user interface's pages (0)")
    parser.add_argument("--rate", type=float, default=30.0, help="requests a second of all clients together at most, 0 for no bound (30)")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds without an answer after which a request has failed (20)")
    until = parser.add_mutually_exclusive_group(required=True)
    until.add_argument("--seconds", type=float, default=60.0, help="how long")
    until.add_argument("--until-file", type=Path, metavar="PATH", help="go on until this file exists")
    parser.add_argument("--max-seconds", type=float, default=1800.0, help="how long at most, with --until-file (1800)")
    parser.add_argument("--max-p99", type=float, default=0.0, help="seconds that the 99th percentile of the latency may reach (no limit)")
    parser.add_argument("--timeline", action="store_true", help="have the report tell of every request")
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="make this file when the first request has succeeded")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report to this file, in JSON")
    given = parser.parse_args(arguments)
    if given.auth_env and not os.environ.get(given.auth_env):
        parser.error(f"the environment variable {given.auth_env} (--auth-env) is empty or not set")
    if given.clients + given.fresh + given.pausing < 1:
        parser.error("no client: give --clients, --fresh or --pausing")
    try:
        target = Target.parse(given.url, os.environ.get(given.auth_env, "") if given.auth_env else "", given.ca_file)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{given.ca_file} (--ca-file): {error}")
    values = {
        key: value
        for key, value in vars(given).items()
        if key not in ("url", "auth_env", "ca_file", "max_seconds", "seconds", "max_p99", "report")
    }
    return Options(target, seconds=given.max_seconds if given.until_file else given.seconds, **values), given


def main(arguments: Sequence[str]) -> int:
    """Run the load and return its exit status."""
    options, given = parse(arguments)
    try:
        found = asyncio.run(load(options))
    except FailedError as error:
        print(f"load: it could not start: {error}", file=sys.stderr)
        return 2
    if given.report:
        given.report.write_text(json.dumps(found, indent=2) + "\n")
    print(summary(found))
    wrong = problems(found, given.max_p99)
    if wrong:
        print(f"load: {'; '.join(wrong)}", file=sys.stderr)
        for failure in found["failures"][:10]:
            one = "{at} {method} {path}: {what} ({connection})".format_map(failure)
            print(f"load: {one}", file=sys.stderr)
        for failure in found["pages"]["failures"][:10]:
            one = "{at} page {page}: {path}: {what}".format_map(failure)
            print(f"load: {one}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
