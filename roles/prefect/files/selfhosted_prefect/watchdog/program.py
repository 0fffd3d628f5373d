"""The watchdog of a host: rounds until what it was started with has changed."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from selfhosted_prefect import await_state
from selfhosted_prefect.connections import Redis, connect_redis, trusting
from selfhosted_prefect.requeue import TIMEOUT, Queue, connect, this_host
from selfhosted_prefect.settings import Settings
from selfhosted_prefect.watchdog.decisions import Watchdog
from selfhosted_prefect.watchdog.memory import Memory, replace
from selfhosted_prefect.watchdog.metrics import metrics
from selfhosted_prefect.watchdog.probes import ApiServer, drained_ports, published
from selfhosted_prefect.watchdog.processes import ProcFs
from selfhosted_prefect.watchdog.systemd import log, notify
from selfhosted_prefect.watchdog.world import RestartPolicy, World

STATE_LIMIT = 5.0
"""Seconds in which PostgreSQL and Redis have to take the credentials before anything is restarted."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Restart Prefect's processes that live and do not work.")
    parser.add_argument("--services", action="store_true", help="this host runs the background services")
    parser.add_argument("--api", type=int, action="append", default=[], help="the port of an API server of this host")
    parser.add_argument("--address", default="127.0.0.1", help="where they listen")
    parser.add_argument("--tls", action="store_true", help="they speak TLS")
    parser.add_argument("--ca-file", default="", help="the authorities that their certificates are from (default: those of the system)")
    parser.add_argument("--folder", type=Path, required=True, help="for figures and memory")
    parser.add_argument("--follow", type=Path, action="append", default=[], help="begin anew when this file is another one")
    parser.add_argument("--metrics", type=Path, required=True, help="the node exporter's folder: begin anew when it appears")
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--probe-timeout", type=float, default=5.0)
    for name in ("services", "api", "grace", "probe-every", "pause", "longest-pause", "stop"):
        parser.add_argument(f"--policy-{name}", type=float, default=getattr(RestartPolicy, name.replace("-", "_")))
    return parser.parse_args(words)


def policy(given: argparse.Namespace) -> RestartPolicy:
    return RestartPolicy(**{name: getattr(given, f"policy_{name}") for name in asdict(RestartPolicy())})


def stamp(files: Sequence[Path], folder: Path) -> list[object]:
    """What files are, and when they last changed, and whether there is a folder."""
    return [folder.is_dir(), *((path.resolve(), path.stat().st_mtime_ns) for path in files)]


def real_world(given: argparse.Namespace, settings: Settings) -> World:
    """This host, its servers and its Redis."""
    host = this_host()
    queues = [Queue(docket, host) for docket in settings.dockets]

    def requeue(redis: Redis, since: float) -> list[object]:
        return [requeued for queue in queues for requeued in queue.requeue(redis, everywhere=True, since=since)]

    def in_redis(event: str) -> bool:
        return published(connect_redis(settings.messaging_url, TIMEOUT), event)

    tls = trusting(given.ca_file) if given.tls else None
    return World(
        # The session tells hosts of one name apart.
        host=f"{host.name}/{host.session}",
        processes=ProcFs(),
        servers={port: ApiServer(given.address, port, settings, given.probe_timeout, published=in_redis, tls=tls) for port in given.api},
        redis=lambda: connect(settings),
        workers=host.workers,
        requeue=requeue,
        drained=drained_ports,
        state_problem=lambda: asyncio.run(await_state.problem(settings, STATE_LIMIT, await_state.PROBES)),
        explain=settings.explain,
        switched_off=frozenset(settings.switched_off),
        scheduler_interval=settings.scheduler_interval,
    )


def main(arguments: Sequence[str], settings: Settings) -> int:
    """Rounds until a file that is followed has changed."""
    given = parse(arguments)
    world = real_world(given, settings)
    if "event_stream" in world.switched_off:
        given.policy_probe_every = 0.0
    remembered = given.folder / "memory.json"
    watchdog = Watchdog(world, Memory.load(remembered), given.services, policy(given))
    began_with = stamp(given.follow, given.metrics)
    notify("READY=1")
    while stamp(given.follow, given.metrics) == began_with:
        watchdog.round()
        watchdog.memory.save(remembered)
        text = metrics(watchdog.memory, watchdog.healthy, time.time(), watchdog.doubted, watchdog.stuck)
        replace(given.folder / "prefect_watchdog.prom", text)
        notify("WATCHDOG=1")
        time.sleep(min(given.interval, watchdog.interval))
    log("The release, the settings or the node exporter's folder have changed: beginning anew")
    return 0
