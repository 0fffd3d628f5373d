# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keeps the rules of a drain in force: a program that runs on an API host for as long as one of its servers is drained.

A firewall that is flushed or loaded anew (`nft flush ruleset`, a restart of nftables.service) takes all rules away, those of a drain among
them, and new connections would reach a server that is about to stop. `nft monitor` tells of each change, and the rules are put back.

What the rules are is in a file, which the module `prefect_drain` writes and removes; without the file this ends. The module writes this
very source to the host, so nothing but the standard library is used here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

TABLE = "prefect_drain"
RULES, LOCK, COUNT = "rules.nft", "lock", "restored"
METRICS = "prefect_drain.prom"

TICK = 0.2
CHECK_SECONDS = 5.0  # between two looks at the rules, should the kernel have said nothing
NFT_SECONDS = 10.0

Run = Callable[[Sequence[str], str], tuple[int, str]]


def run(argv: Sequence[str], stdin: str) -> tuple[int, str]:
    """Runs a command; its exit status and output."""
    try:
        # A program of its own: there is no module.
        ended = subprocess.run(  # pylint: disable=ansible-bad-function
            argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=NFT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return ended.returncode, ended.stdout


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """For as long as the file and the kernel's rules are changed, or compared."""
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """A line for the journal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Monitor:
    """Tells of each change of this host's nftables, as ``nft monitor`` prints them. Where it cannot be run it tells of none."""

    def __init__(self, argv: Sequence[str] = ("nft", "monitor")) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(argv, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self._output = self._process.stdout
        if self._output:
            os.set_blocking(self._output.fileno(), False)

    def heard(self) -> bool:
        """Whether something has changed since the last call."""
        found = False
        while self._output and self._output.read(65536):
            found = True
        return found

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


def plain(part: Any) -> Any:
    """Rules without the numbers that the kernel gives them and the packets that they have counted."""
    if isinstance(part, dict):
        return {key: plain(value) for key, value in part.items() if key not in ("handle", "counter", "metainfo")}
    return [plain(each) for each in part] if isinstance(part, list) else part


class Keeper:
    """The rules of one host."""

    def __init__(self, folder: Path, metrics: Path, command: Run = run) -> None:
        self._folder, self._metrics, self._command = folder, metrics, command
        self._rules = ""
        self._wanted: Any = None
        self._problem = ""

    def check(self, told: bool) -> bool:
        """Has the kernel's rules be those of the file, if either may have changed. False when nothing is drained any more."""
        with locked(self._folder):
            try:
                rules = (self._folder / RULES).read_text(encoding="utf-8")
            except FileNotFoundError:
                return False
            if rules != self._rules:
                self._apply(rules)
                self._count(0)
            elif (told or self._problem) and not self._in_place() and self._apply(rules):
                say("the rules of the drain were gone from this host's firewall, and are back")
                self._count(1)
        return True

    def _apply(self, rules: str) -> bool:
        """Puts the rules in place. What is wrong is said once, until it is something else."""
        code, output = self._command(["nft", "--file", "-"], rules)
        if code and output != self._problem:
            say(f"the rules of the drain cannot be put back, which is tried again: {output.strip()}")
        self._problem = output if code else ""
        self._rules = rules
        self._wanted = self._listed() if not code else None
        return not code

    def _in_place(self) -> bool:
        return self._wanted is not None and bool(self._listed() == self._wanted)

    def _listed(self) -> Any:
        code, output = self._command(["nft", "--json", "list", "table", "inet", TABLE], "")
        if code:
            return None
        return [plain(each) for each in json.loads(output)["nftables"]]

    def _count(self, more: int) -> None:
        """Counts for a node exporter, since the host was booted."""
        file = self._folder / COUNT
        total = (int(file.read_text()) if file.exists() else 0) + more
        file.write_text(str(total))
        lines = [
            "# HELP prefect_firewall_rules_restored_total How often rules that something else on this host removed were put back.",
            "# TYPE prefect_firewall_rules_restored_total counter",
            f'prefect_firewall_rules_restored_total{{table="{TABLE}"}} {total}',
        ]
        with contextlib.suppress(OSError):
            if self._metrics.is_dir():
                partial = self._metrics / f".{METRICS}.partial"
                partial.write_text("\n".join([*lines, ""]))
                partial.chmod(0o644)
                partial.replace(self._metrics / METRICS)


def main(arguments: Sequence[str]) -> int:
    """Runs until nothing is drained any more. The arguments are the folder of the rules and that of the node exporter."""
    keeper = Keeper(Path(arguments[0]), Path(arguments[1]))
    monitor = Monitor()
    looked = time.monotonic()
    while keeper.check(monitor.heard() or time.monotonic() - looked > CHECK_SECONDS):
        if time.monotonic() - looked > CHECK_SECONDS:
            looked = time.monotonic()
        time.sleep(TICK)
    monitor.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
