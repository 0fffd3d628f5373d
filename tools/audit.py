#!/usr/bin/env python3
"""Check the lock files for packages with known advisories.

`tools/audit.py` asks, through pip-audit, PyPI for the advisories of every package that is pinned for the hosts
(roles/prefect/files/locks) and for this repository's tools (requirements/dev.txt), and where PyPI does not answer, OSV. It exits
with 1 if one is affected. Without a network it says that nothing was checked and exits with 0; with `--strict` that is a failure, too.

Advisories that are known and do not matter are in requirements/audit.yml, each with a reason and a day after which it counts again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "roles" / "prefect" / "files" / "locks"
ALLOWED = ROOT / "requirements" / "audit.yml"
SERVICES = {"pypi": "PyPI", "osv": "OSV"}
# Of one question; the whole is bounded by AUDIT_SECONDS.
QUESTION_SECONDS = 15
AUDIT_SECONDS = 600
REASON_LENGTH = 120
HEADER = ("PACKAGE", "VERSION", "ADVISORY", "FIXED IN", "LOCK FILES")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^ \\\n;]+)", re.MULTILINE)

# By package and version, the lock files that pin it.
Pins = Mapping[tuple[str, str], Sequence[str]]


class AuditError(Exception):
    """What is wrong with the list of allowed advisories."""


class UnansweredError(Exception):
    """A service did not say anything; the message is its reason."""


@dataclass(frozen=True)
class Finding:
    """A package with an advisory. ``names`` are the advisory's own name and its others, such as the CVE."""

    package: str
    version: str
    names: tuple[str, ...]
    fixed: tuple[str, ...]
    locks: tuple[str, ...]


@dataclass(frozen=True)
class Allowed:
    """An advisory that is passed over until the end of a day."""

    name: str
    package: str
    reason: str
    until: date

    def covers(self, finding: Finding, today: date) -> bool:
        """Whether the finding is passed over today."""
        return self.name in finding.names and self.package == finding.package and today <= self.until


@dataclass(frozen=True)
class Audit:
    """What was found, and what the service could not tell."""

    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]


def normalised(name: str) -> str:
    """A project's name as package indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(root: Path = ROOT) -> dict[tuple[str, str], list[str]]:
    """Every package that is pinned, wherever its marker wants it, with its lock files."""
    found: dict[tuple[str, str], list[str]] = {}
    locks = sorted((root / LOCKS.relative_to(ROOT)).glob("*.txt"))
    for path in [*locks, root / "requirements" / "dev.txt"]:
        for name, version in _PIN.findall(path.read_text()):
            found.setdefault((normalised(name), version), []).append(path.name)
    uv = json.loads((root / LOCKS.relative_to(ROOT) / "uv.json").read_text())
    found.setdefault(("uv", uv["version"]), []).append("uv.json")
    return found


def batches(wanted: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The requirements in as few files as can be: pip-audit takes one version of a package from a run."""
    made: list[dict[str, str]] = []
    for name, version in sorted(wanted):
        free = next((batch for batch in made if name not in batch), None)
        if free is None:
            made.append(free := {})
        free[name] = version
    return [[f"{name}=={version}" for name, version in batch.items()] for batch in made]


def ask(service: str, requirements: Sequence[str]) -> list[dict[str, Any]]:
    """What pip-audit says of each requirement. Raises UnansweredError if it does not say anything."""
    with tempfile.TemporaryDirectory(prefix="prefect-audit-") as folder:
        path = Path(folder, "requirements.txt")
        path.write_text("".join(f"{requirement}\n" for requirement in requirements))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(path), "--no-deps", "--disable-pip", "--format", "json"]
        command += ["--vulnerability-service", service, "--timeout", str(QUESTION_SECONDS), "--progress-spinner", "off"]
        command += ["--cache-dir", str(ROOT / "build" / "audit")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=AUDIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise UnansweredError(f"no answer in {AUDIT_SECONDS} s") from error
    # It exits with 1 for what it found, and for what it could not do.
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except ValueError as error:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise UnansweredError(said[-1][:REASON_LENGTH] if said else f"exit status {done.returncode}") from error


def audit(wanted: Pins, service: str, question: Callable[[str, Sequence[str]], list[dict[str, Any]]] = ask) -> Audit:
    """The advisories of everything that is pinned. Raises UnansweredError if the service does not answer, or knows no package."""
    findings: list[Finding] = []
    unknown: list[str] = []
    known = 0
    for batch in batches(wanted):
        versions = dict(requirement.split("==") for requirement in batch)
        for answer in question(service, batch):
            name = normalised(answer["name"])
            if "skip_reason" in answer:
                unknown.append(f"{name} {versions[name]}")
                continue
            known += 1
            findings += [finding(name, versions[name], each, wanted) for each in answer.get("vulns", [])]
    if not known:
        raise UnansweredError("it knows none of the packages")
    return Audit(tuple(findings), tuple(unknown))


def finding(name: str, version: str, advisory: Mapping[str, Any], wanted: Pins) -> Finding:
    """One advisory of one package."""
    names = (advisory["id"], *advisory.get("aliases", []))
    return Finding(name, version, names, tuple(advisory.get("fix_versions", [])), tuple(wanted[name, version]))


def allowed(path: Path) -> list[Allowed]:
    """The advisories that are passed over. Raises AuditError if an entry lacks something."""
    entries = (yaml.safe_load(path.read_text()) or {}).get("allowed") or []
    found = []
    for entry in entries:
        strange = set(entry) ^ {"advisory", "package", "reason", "until"}
        if strange or not isinstance(entry["until"], date) or not str(entry["reason"]).strip():
            raise AuditError(
                f"{path.name}: {entry} needs advisory, package, reason, and until as a day such as 2027-01-31, and nothing else"
            )
        found.append(Allowed(str(entry["advisory"]), normalised(str(entry["package"])), str(entry["reason"]), entry["until"]))
    return found


def table(findings: Sequence[Finding]) -> str:
    """The findings as lines of text, each column as wide as its widest cell."""
    rows = [HEADER] + [
        (each.package, each.version, " ".join(each.names), ", ".join(each.fixed) or "nothing yet", ", ".join(each.locks))
        for each in sorted(findings, key=lambda each: (each.package, each.version, each.names))
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def first_answer(wanted: Pins, question: Callable[[str, Sequence[str]], list[dict[str, Any]]]) -> tuple[str, Audit | None]:
    """The audit of the first service that answers, after its name; or why none did."""
    reasons = []
    for service, name in SERVICES.items():
        try:
            return name, audit(wanted, service, question)
        except UnansweredError as error:
            reasons.append(f"{name}: {error}")
    return "; ".join(reasons), None


def report(
    wanted: Pins,
    exceptions: Sequence[Allowed],
    today: date,
    *,
    strict: bool = False,
    question: Callable[[str, Sequence[str]], list[dict[str, Any]]] = ask,
) -> int:
    """Print what was found; the exit code."""
    who, found = first_answer(wanted, question)
    if not found:
        print(f"audit: not checked: no service that knows advisories answers from here ({who})")
        return int(strict)
    open_ones = [each for each in found.findings if not any(exception.covers(each, today) for exception in exceptions)]
    for exception in exceptions:
        if today > exception.until:
            print(f"audit: {ALLOWED.name}: {exception.name} of {exception.package} was allowed until {exception.until} only")
    if found.unknown:
        print(f"audit: not checked: {who} does not know {', '.join(found.unknown)}")
    if open_ones:
        print(table(open_ones))
    passed = len(found.findings) - len(open_ones)
    more = f", {passed} passed over ({ALLOWED.name})" if passed else ""
    print(f"audit: {len(wanted) - len(found.unknown)} packages checked with {who}: {len(open_ones)} advisories{more}")
    return int(bool(open_ones) or (strict and bool(found.unknown)))


def main(arguments: Sequence[str]) -> int:
    """Check the lock files of this checkout; 1 if a package has an advisory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", action="store_true", help="fail when something could not be checked, too")
    given = parser.parse_args(arguments)
    try:
        return report(pins(), allowed(ALLOWED), datetime.now(UTC).date(), strict=given.strict)
    except AuditError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
