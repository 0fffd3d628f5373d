"""What can happen to a host of a lab, from outside: it is killed, frozen, or cut off. It is as before when the context ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab import Lab


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def container(lab: Lab, host: str) -> str:
    return f"prefect-{lab.name}-{host}"


def running(lab: Lab, host: str) -> bool:
    """Whether it is neither killed nor frozen."""
    return docker("inspect", "--format={{.State.Status}}", container(lab, host)) == "running"


@contextmanager
def killed(lab: Lab, host: str) -> Iterator[None]:
    docker("kill", container(lab, host))
    try:
        yield
    finally:
        docker("start", container(lab, host))


@contextmanager
def frozen(lab: Lab, host: str) -> Iterator[None]:
    docker("pause", container(lab, host))
    try:
        yield
    finally:
        docker("unpause", container(lab, host))


@contextmanager
def cut_off(lab: Lab, host: str, *addresses: str) -> Iterator[None]:
    """From some addresses, or from all, in both directions, without a word to either."""
    pid = docker("inspect", "--format={{.State.Pid}}", container(lab, host))
    ends = [("INPUT", "-s", "-i"), ("OUTPUT", "-d", "-o")]
    rules = [[chain, flag, address, "-j", "DROP"] for address in addresses for chain, flag, _through in ends]
    rules = rules or [[chain, through, "eth0", "-j", "DROP"] for chain, _flag, through in ends]
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net", "iptables", "-w"]
    for rule in rules:
        subprocess.run([*enter, "-I", *rule], check=True, timeout=10)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run([*enter, "-D", *rule], check=True, timeout=10)


def wait(what: str, seconds: float, is_so: Callable[[], object], shown: Callable[[], object] = str) -> float:
    """Waits until something is so, and returns after how many seconds; `shown` is what a failure tells beside `what`."""
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds:g} s {shown()}"
        time.sleep(0.5)
    return time.monotonic() - begun
