#!/usr/bin/env python3
"""Lock a release of Prefect: every package it needs, pinned and hashed, as of the days after its release.

`tools/lock.py 3.8.8` asks the package index when that version was released, resolves it as of then (a later dependency
may break it), with the constraints of constraints.yml, and writes roles/prefect/files/locks/3.8.8.txt, and for each set of
packages that a release may have beside Prefect's own, another such as 3.8.8-logfire.txt. Then it writes the table of the
release's settings (tools/settings_table.py).
`tools/lock.py --uv 0.13.9` pins the uv that installs on the hosts, in roles/prefect/files/locks/uv.json.

The index is the machine's own: UV_DEFAULT_INDEX, UV_INDEX_URL, PIP_INDEX_URL or pip's configuration, else the public one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lock_proof
import settings_table
import yaml
from interpreters import interpreters
from lock_search import Bound, Candidate, Limits, Search, SearchError
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

LOCKS = Path(__file__).resolve().parent.parent / "roles" / "prefect" / "files" / "locks"
PUBLIC_INDEX = "https://pypi.org/simple"
PYTHON = "3.11"
# Released on their own, and never the reason to go back: the search holds everything else to an older day.
OWN = ("prefect", "prefect-redis")
PIN = re.compile(r"^([a-z0-9-]+)==([^ \\\n;]+)", re.MULTILINE)
# What a release may have beside Prefect's own: by the name in the lock file's name, the requirement.
EXTRAS = {"logfire": "logfire[fastapi,sqlalchemy]"}
# prefect-redis is released on its own, up to some days after the server that it belongs to.
SETTLE = timedelta(days=4)
# The machines a host may be, as `uname -m` says, and the tag of uv's wheel for them.
MACHINES = {"aarch64": "manylinux_2_28_aarch64", "x86_64": "manylinux_2_17_x86_64.manylinux2014_x86_64"}


class LockError(Exception):
    """What failed, and what to do, for the person at the keyboard."""


class UnresolvableError(LockError):
    """No set of packages meets the requirements."""


@dataclass(frozen=True)
class Tools:
    """What a lock file is made with: the uv that resolves, the package index that it asks."""

    uv: str
    index: str


@dataclass(frozen=True)
class Constraint:
    """A requirement that a range of releases needs beside its own."""

    releases: str
    requirement: str
    reason: str


def index_url() -> str:
    """The machine's own package index."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if value := os.environ.get(name):
            return value.rstrip("/")
    pip = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False)
    return pip.stdout.strip().rstrip("/") or PUBLIC_INDEX


def project(index: str, name: str) -> dict[str, Any]:
    """What the index says of a project, in the JSON form of the simple API (PEP 691)."""
    request = urllib.request.Request(f"{index}/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})  # noqa: S310  the address is the user's own
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  the address is the user's own
            return dict(json.load(answer))
    except urllib.error.URLError as error:
        raise LockError(f"the package index did not tell about {name}: {error}") from error
    except ValueError as error:
        raise LockError(f"the package index does not answer in JSON (PEP 691) for {name}; use one that does") from error


def release_time(page: dict[str, Any], version: str) -> datetime:
    """When the first file of a version was uploaded."""
    files = [file for file in page["files"] if re.match(rf"[A-Za-z_]+-{re.escape(version)}(-py|\.tar\.gz)", file["filename"])]
    times = [file["upload-time"] for file in files if file.get("upload-time")]
    if times:
        return min(datetime.fromisoformat(time.replace("Z", "+00:00")) for time in times)
    if files:
        raise LockError("the package index does not say when files were uploaded (PEP 700): give the date with --as-of")
    final = sorted(Version(found) for found in page.get("versions", []) if not Version(found).is_prerelease)
    raise LockError(f"the package index has no Prefect {version}; its newest are {', '.join(map(str, final[-5:])) or 'none'}")


def constraints_for(version: str, known: Iterable[dict[str, str]]) -> list[Constraint]:
    """The constraints whose range holds a version."""
    return [Constraint(**entry) for entry in known if Version(version) in SpecifierSet(entry["releases"], prereleases=True)]


def header(version: str, as_of: datetime, uv: str, constraints: Sequence[str], extra: str = "") -> str:
    """The comment a lock file begins with: how it was made, and nothing of where."""
    what = f"{version} and {EXTRAS[extra]}," if extra else version
    lines = [
        f"# Prefect {what} with everything it needs. Made by `make lock VERSION={version}` with {uv}.",
        "# To change it, change constraints.yml and make it again.",
        f"# Resolved as of {as_of:%Y-%m-%d}, for Python {PYTHON} and later, from wheels only: nothing is compiled on a host.",
        *(f"# Constraint: {constraint} (why: constraints.yml)" for constraint in constraints),
    ]
    return "\n".join(lines) + "\n"


def resolve(
    tools: Tools,
    requirements: Sequence[str],
    as_of: datetime,
    constraints: Sequence[str],
    *,
    like: str = "",
    later: Mapping[str, datetime] | None = None,
) -> str:
    """The body of a lock file. Where it can be, versions are those of the lock file ``like``: what was proved stays so.

    ``later`` are packages that may be newer than the rest, each with a day of its own.
    """
    with tempfile.TemporaryDirectory(prefix="prefect-lock-") as folder:
        Path(folder, "prefect.in").write_text("".join(f"{requirement}\n" for requirement in requirements))
        if like:
            Path(folder, "lock.txt").write_text(like)
        Path(folder, "constraints.in").write_text("".join(f"{constraint}\n" for constraint in constraints))
        command = [tools.uv, "pip", "compile", "prefect.in", "--constraints", "constraints.in", "--output-file", "lock.txt"]
        command += ["--universal", "--python-version", PYTHON, "--generate-hashes", "--only-binary", ":all:"]
        command += ["--exclude-newer", f"{as_of:%Y-%m-%dT%H:%M:%SZ}", "--no-header", "--no-annotate", "--no-config", "--quiet"]
        for name, day in (later or {}).items():
            command += ["--exclude-newer-package", f"{name}={day:%Y-%m-%dT%H:%M:%SZ}"]
        environment = os.environ | {"UV_DEFAULT_INDEX": tools.index, "UV_SYSTEM_CERTS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UnresolvableError(
                f"{' and '.join(requirements)} cannot be locked as of {as_of:%Y-%m-%d} from this package index; the resolver says:\n\n"
                f"{done.stderr.strip()}\n\n"
                f"If it asks for a package that the index got later, or not yet, choose another release or --as-of DATE; "
                f"if a constraint is in the way, change {LOCKS.name}/constraints.yml."
            )
        return Path(folder, "lock.txt").read_text()


@dataclass
class Making:
    """A lock file in the making: how its sets are resolved and proved."""

    tools: Tools
    version: str
    as_of: datetime
    constraints: Sequence[str]
    pythons: Mapping[str, Path]
    python: str = ""

    @property
    def requirement(self) -> str:
        return f"prefect[redis]=={self.version}"

    def resolve(self, day: datetime, more: Sequence[str]) -> Candidate | None:
        """The set as of a day. Prefect's own packages, and what it needs newer than that day, are as of the lock file's day."""
        later = dict.fromkeys(OWN, self.as_of)
        while True:
            try:
                body = resolve(self.tools, [self.requirement], day, [*self.constraints, *more], later=later if day < self.as_of else None)
            except UnresolvableError as error:
                needed = set(re.findall(r"depends on ([a-z0-9-]+)", str(error))) - later.keys()
                if day >= self.as_of or not needed:
                    return None
                later |= dict.fromkeys(needed, self.as_of)
            else:
                return Candidate(dict(PIN.findall(body)), body)

    def prove(self, backing: lock_proof.State, candidate: Candidate, only: tuple[str, ...]) -> Mapping[str, str]:
        """What fails with a set: on any Python at first, and then on the one that it failed on."""
        with tempfile.TemporaryDirectory(prefix="prefect-lock-") as folder:
            path = Path(folder, f"{self.version}.txt")
            path.write_text(candidate.body)
            wanted = {self.python: self.pythons[self.python]} if only else self.pythons
            for self.python, interpreter in wanted.items():
                subject = lock_proof.Subject(self.version, path, interpreter)
                failed: Mapping[str, str] = lock_proof.prove(self.tools.uv, subject, backing, only)
                if failed:
                    return failed
        return {}

    def search(self, limits: Limits) -> tuple[Candidate, tuple[Bound, ...]]:
        """The newest set that passes, and the bounds that it needed."""
        with lock_proof.state() as backing:
            made = Search(
                self.resolve, partial(self.prove, backing), lambda name: list(project(self.tools.index, name)["versions"]), limits=limits
            )
            found = made.run(self.as_of)
        print(f"{self.version} is proved on Python {', '.join(self.pythons)}: {found.tries} proofs in {found.seconds:.0f} s")
        return found.candidate, found.bounds


def remember(version: str, bounds: Sequence[Bound], path: Path) -> None:
    """Add the bounds that a search found to the constraints, for this version alone: of others nothing was seen."""
    text = path.read_text()
    for bound in bounds:
        text += f'  - releases: "=={version}"\n    requirement: {json.dumps(bound.requirement)}\n    reason: {json.dumps(bound.reason)}\n'
    path.write_text(text)


def lock(tools: Tools, version: str, as_of: datetime | None, limits: Limits | None) -> list[Path]:
    """Lock a release, proved within the limits, or not proved without; the paths of what was written."""
    try:
        Version(version)
    except InvalidVersion as error:
        raise LockError(f"{version} is not a version; give one such as 3.8.8") from error
    if not as_of:
        as_of = (release_time(project(tools.index, "prefect"), version) + SETTLE).replace(hour=0, minute=0, second=0, microsecond=0)
    known = LOCKS / "constraints.yml"
    constraints = [each.requirement for each in constraints_for(version, yaml.safe_load(known.read_text())["constraints"])]
    making = Making(tools, version, as_of, constraints, interpreters())
    body = resolve(tools, [making.requirement], as_of, constraints)
    bounds: tuple[Bound, ...] = ()
    if "prefect-redis==" not in body:
        raise LockError(f"Prefect {version} resolved without prefect-redis, so several servers could not work together")
    if limits:
        found, bounds = making.search(limits)
        body = found.body
    constraints += [bound.requirement for bound in bounds]
    made_by = subprocess.run([tools.uv, "--version"], capture_output=True, text=True, check=True).stdout.split(" (")[0].strip()
    bodies = {f"{version}.txt": header(version, as_of, made_by, constraints) + body}
    for extra, requirement in EXTRAS.items():
        more = resolve(tools, [making.requirement, requirement], as_of, constraints, like=body)
        bodies[f"{version}-{extra}.txt"] = header(version, as_of, made_by, constraints, extra) + more
    for name, content in bodies.items():
        (LOCKS / name).write_text(content)
    remember(version, bounds, known)
    if limits:
        lock_proof.record(LOCKS / f"{version}.txt", list(making.pythons))
    return [*(LOCKS / name for name in bodies), settings_table.write(version)]


def pin_uv(version: str) -> Path:
    """Pin the uv that installs on the hosts: its wheels by name and hash."""
    files = {file["filename"]: file["hashes"]["sha256"] for file in project(index_url(), "uv")["files"]}
    wheels = {}
    for machine, tag in MACHINES.items():
        name = f"uv-{version}-py3-none-{tag}.whl"
        if name not in files:
            raise LockError(f"the package index has no {name}")
        wheels[machine] = {"name": name, "sha256": files[name]}
    target = LOCKS / "uv.json"
    target.write_text(json.dumps({"version": version, "wheels": wheels}, indent=2) + "\n")
    return target


def find_uv() -> str:
    """The uv beside this interpreter, else the one on PATH."""
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if not found:
        raise LockError("uv is not installed here: run this through `make lock`, or install uv first")
    return found


def day(text: str) -> datetime:
    """The beginning of a day."""
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)


def main(arguments: Sequence[str]) -> int:
    """Write the lock files that were asked for; 1 when one could not be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="release of Prefect, such as 3.8.8")
    parser.add_argument("--uv", metavar="VERSION", help="also pin this version of uv for the hosts")
    parser.add_argument("--as-of", type=day, metavar="YYYY-MM-DD", help="ignore what was uploaded from this day on")
    parser.add_argument("--no-proof", action="store_true", help="write what the resolver says, without a proof that it works")
    parser.add_argument("--max-proofs", type=int, default=Limits.tries, metavar="N", help=f"give up after so many ({Limits.tries})")
    parser.add_argument(
        "--max-seconds", type=float, default=Limits.seconds, metavar="N", help=f"give up after so long ({Limits.seconds:.0f})"
    )
    given = parser.parse_args(arguments)
    limits = None if given.no_proof else Limits(given.max_proofs, given.max_seconds)
    if not given.versions and not given.uv:
        parser.error("give the version of a release, as in `make lock VERSION=3.8.8`")
    try:
        if given.uv:
            print(f"wrote {pin_uv(given.uv)}")
        for version in given.versions:
            print(f"wrote {' and '.join(map(str, lock(Tools(find_uv(), index_url()), version, given.as_of, limits)))}")
    except (LockError, SearchError, lock_proof.ProofError) as error:
        print(f"lock: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
