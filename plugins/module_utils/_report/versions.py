# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""From which release to which: what an upgrade will do, and where a rollback leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text, version_number
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import duration


def release_version(release: str) -> str:
    """The version in a release's path or name: ``/opt/prefect/releases/3.8.8-0123456789ab`` is ``3.8.8``."""
    name = text(release).rstrip("/").rpartition("/")[2]
    version, dash, _digest = name.rpartition("-")
    return version if dash else name


def upgrade_report(data: Mapping[str, Any]) -> list[str]:
    """What an upgrade will do, a line each; the filter's documentation has the keys of ``data``."""
    target = release_version(data["release"])
    schema = data.get("schema") or {}
    return [
        *_releases(data["hosts"], target),
        *_schema(schema),
        *_time(schema.get("estimate") or {}, int(data.get("timeout") or 0)),
        *_clients(data.get("clients") or [], target),
    ]


def _releases(hosts: Mapping[str, Any], target: str) -> list[str]:
    running: dict[str, list[str]] = {}
    for host, release in hosts.items():
        running.setdefault(release_version(release) or "nothing yet", []).append(text(host))
    return [f"From {version} to {target}: {', '.join(names)}" for version, names in sorted(running.items())]


def _schema(schema: Mapping[str, Any]) -> list[str]:
    if "pending" not in schema:
        return ["Schema: not known yet, because the release or the database cannot be queried"]
    pending = [text(name) for name in schema["pending"]]
    if schema.get("ahead"):
        return [f"Schema: at {schema['before']}, which a newer release has made; it is left as it is"]
    if not pending:
        return [f"Schema: at {schema['before']}, nothing to apply"]
    tables = sorted(schema.get("tables") or [], key=lambda table: -int(table["bytes"]))
    touched = ", ".join(f"{table['name']} ({_size(int(table['bytes']))}, {_count(int(table['rows']))} rows)" for table in tables)
    return [
        f"Schema: from {schema['before'] or 'nothing'} to {schema['head']}, {len(pending)} to apply: {', '.join(pending)}",
        f"Tables that these touch: {touched or 'none that exist'}",
    ]


def _time(estimate: Mapping[str, Any], timeout: int) -> list[str]:
    if not estimate:
        return []
    least, likely, most = (duration(int(estimate[name])) for name in ("least", "likely", "most"))
    rows = _count(int(estimate["rows"]))
    lines = [f"The migration takes about {likely} (between {least} and {most}): {rows} rows to read; servers go on meanwhile"]
    if timeout and int(estimate["most"]) > timeout:
        lines.append(f"It is stopped after prefect_migrate_timeout, {timeout} s; set that to {estimate['most']} to be sure that it ends")
    return lines


def _clients(balancers: Iterable[Mapping[str, Any]], target: str) -> list[str]:
    seen: dict[str, int] = {}
    for clients in balancers:
        for version, facts in clients.items():
            seen[text(version)] = seen.get(text(version), 0) + int(facts["requests"])
    if not seen:
        return ["Clients: none is known; the logs of the group nginx name none"]
    ordered = sorted(seen, key=version_number)
    lines = ["Clients seen: " + ", ".join(f"{version} ({_count(seen[version])} requests)" for version in ordered)]
    newer = [version for version in ordered if version_number(version) > version_number(target)]
    if newer:
        lines.append(f"Newer than the servers will be, which Prefect does not promise to work: clients {', '.join(newer)}")
    older = [version for version in ordered if version_number(version)[:2] < version_number(target)[:2]]
    if older:
        lines.append(f"Of an older minor version than the servers will be: clients {', '.join(older)}")
    return lines


def _size(number: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number} {unit}"
        number //= 1000
    return f"{number} TB"


def _count(number: int) -> str:
    return f"{max(number, 0):,}"


def rollback_release(hosts: Mapping[str, Mapping[str, str]], current: str, previous: str, wanted: str = "") -> dict[str, str]:
    """Where hosts go back to: ``{"release": path, "problem": ""}``, or an empty release and what is wrong.

    ``hosts`` has what each host's symlinks point at, by the symlinks' paths ``current`` and ``previous``. ``wanted`` is the name of a
    release, instead of the one before. What counts is what those hosts ran before that have the newest version now.
    """
    before = {host: text(links.get(previous)) for host, links in hosts.items() if links.get(previous)}
    if text(wanted):
        folders = sorted({text(link).rpartition("/")[0] for links in hosts.values() for link in links.values()})
        return _decided(f"{folders[0]}/{wanted}", hosts, current) if folders else _undecided("No host runs a release.")
    if not before:
        return _undecided("No host has a release before the one it runs, so there is nothing to go back to.")
    # Where the upgrade got to: hosts that it did not reach, or that came back from it, have a history of their own.
    newest = max(_version(links.get(current)) for links in hosts.values())
    upgraded = sorted(host for host, links in hosts.items() if _version(links.get(current)) == newest)
    lacking = [host for host in upgraded if host not in before]
    if lacking:
        return _undecided(f"{', '.join(lacking)} has no release before the one it runs. Choose one with prefect_rollback_to.")
    choices = sorted({before[host] for host in upgraded})
    if len(choices) > 1:
        listed = "; ".join(f"{host} ran {before[host].rpartition('/')[2]}" for host in upgraded)
        return _undecided(f"The hosts did not all run the same release before: {listed}. Choose one with prefect_rollback_to.")
    return _decided(choices[0], hosts, current)


def _decided(release: str, hosts: Mapping[str, Mapping[str, str]], current: str) -> dict[str, str]:
    if {text(links.get(current)) for links in hosts.values()} == {release}:
        return _undecided(f"Every host runs {release.rpartition('/')[2]} already.")
    newest = max((text(links.get(current)) for links in hosts.values()), key=_version)
    return {"release": release, "version": release_version(release), "from": newest, "problem": ""}


def _version(release: Any) -> tuple[int, ...]:
    return version_number(release_version(release))


def _undecided(problem: str) -> dict[str, str]:
    return {"release": "", "version": "", "from": "", "problem": problem}
