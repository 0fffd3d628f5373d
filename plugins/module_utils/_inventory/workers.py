# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The workers that hosts run: what each is called and runs from, and what is wrong with them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text, version_number

Worker = dict[str, Any]

TYPE = "process"
_UNIT_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_FORBIDDEN = re.compile(r"[/%&<>\x00-\x1f\x7f]")  # what Prefect refuses in a name
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PREFECT = re.compile(r"\s*prefect(?![\w.-])\s*(?:\[[^]]*\])?\s*==\s*([\w.]+)", re.IGNORECASE)
# What the role sets, each with the variable to use instead.
_OWNED = {"PREFECT_API_URL": "prefect_api_url", "PREFECT_API_AUTH_STRING": "prefect_auth_string", "PREFECT_HOME": "prefect_worker_home"}


def workers(hosts: Iterable[str], hostvars: Mapping[str, Any], release: str = "", root: str = "") -> list[Worker]:
    """The workers of hosts (their ``prefect_workers``), in order, each with the keys of its entry and what follows from them.

    The values of ``environment`` may be secrets, and tasks loop over the result: it has their names, and which of them cannot be given
    (``refused``); ``number`` is the position of the entry, where they are.

    ``id`` names its unit and files on its host, and ``worker`` is its name in Prefect, which no other host can have. ``folder`` is the
    virtual environment that it runs from: its own, or one below ``root`` with its requirements, or the ``release``.
    """
    return [
        {"host": text(host), "number": number, **_worker(text(host), entry, release, root)}
        for host in hosts
        for number, entry in enumerate(hostvars[host].get("prefect_workers") or [])
    ]


def _worker(host: str, entry: Mapping[str, Any], release: str, root: str) -> Worker:
    pool, name = text(entry.get("pool")), text(entry.get("name"))
    requirements = [text(each).strip() for each in entry.get("requirements") or []]
    unit = _UNIT_UNSAFE.sub("-", f"{pool}-{name}" if name else pool)
    digest = hashlib.sha256("\n".join([release.rpartition("/")[2], *requirements]).encode()).hexdigest()[:12]
    environment = entry.get("environment") or {}
    built = f"{root}/workers/{unit}-{digest}" if requirements else ""
    return {
        "id": unit,
        "unit": f"prefect-worker@{unit}.service",
        "worker": f"{unit}@{host}",
        "pool": pool,
        "type": text(entry.get("type")),
        "limit": entry.get("limit"),
        "queues": [text(queue) for queue in entry.get("queues") or []],
        "environment": [text(name) for name in environment],
        "refused": [text(name) for name, value in environment.items() if not _VARIABLE.match(text(name)) or _CONTROL.search(text(value))],
        "requirements": requirements,
        "virtualenv": text(entry.get("virtualenv")).rstrip("/"),
        "built": built,
        "folder": text(entry.get("virtualenv")).rstrip("/") or built or release,
    }


def worker_problems(found: Iterable[Worker], version: str, pools: Mapping[str, str], environments: Mapping[str, Any]) -> list[str]:
    """What is wrong with the workers of one host, each in a sentence or two with its remedy.

    ``version`` is the servers'. ``pools`` has the type of each work pool that was asked for, empty for one that does not exist; what is
    not in it is not known. ``environments`` has the version of Prefect in each virtual environment, empty for none.
    """
    listed = list(found)
    twice = [name for name, count in Counter(worker["id"] for worker in listed).items() if count > 1 and name]
    problems = [f"prefect_workers has {name} more than once. Give the entries of one work pool different names (`name`)." for name in twice]
    for worker in listed:
        where = f"prefect_workers, {worker['id'] or 'an entry'}"
        of_entry = (_entry(worker), _pool(worker, pools), _environment(worker, environments), _versions(worker, version, environments))
        problems += [f"{where}: {problem}" for each in of_entry for problem in each]
    return problems


def _entry(worker: Worker) -> Iterator[str]:
    if not worker["pool"]:
        yield "it names no work pool. Set `pool`."
    elif not worker["id"].strip("-"):
        yield "its name has no letter or digit of ASCII, so no unit can have it. Set `name`."
    for name in (worker["pool"], *worker["queues"]):
        if _FORBIDDEN.search(name):
            yield f"{name!r} holds a character that Prefect refuses in a name (/ % & < > or a control character). Rename it."
    if worker["limit"] is not None and int(text(worker["limit"])) < 1:
        yield f"`limit` is {worker['limit']}, so it would run nothing. Set it to 1 or more, or leave it out for no limit."
    for name in worker["environment"]:
        if name in _OWNED:
            yield f"`environment` may not hold {name}. Set {_OWNED[name]} instead."
        elif name in worker["refused"]:
            yield f"{name} in `environment` is no name of a variable, or its value holds a line break or another control character."


def _pool(worker: Worker, pools: Mapping[str, str]) -> Iterator[str]:
    pool, kind = worker["pool"], pools.get(worker["pool"])
    if kind and kind != TYPE:
        yield f"the work pool {pool!r} is of the type {kind}, and these workers run pools of the type {TYPE}. Use another pool."
    elif pool and not kind and not worker["type"]:
        known = "does not exist" if kind is not None else "may not exist, and the API cannot be queried"
        yield f"the work pool {pool!r} {known}. Create it, or set `type: {TYPE}`, with which the worker creates it."


def _environment(worker: Worker, environments: Mapping[str, Any]) -> Iterator[str]:
    folder = worker["virtualenv"]
    if folder and not folder.startswith("/"):
        yield f"`virtualenv` is {folder!r}, which is not an absolute path on the host."
    elif folder and not environments.get(folder, "unknown"):
        yield f"{folder} has no Prefect in it. Create the virtual environment on the host and install prefect there first."


def _versions(worker: Worker, version: str, environments: Mapping[str, Any]) -> Iterator[str]:
    pinned = (found[1] for each in worker["requirements"] if (found := _PREFECT.match(each)))
    given = [(each, "`requirements`", "Leave prefect out of them: it comes with the servers' release.") for each in pinned]
    given += [
        (text(each), folder, f"Install prefect=={version} or older there.")
        for folder, each in environments.items()
        if folder == worker["virtualenv"] and each
    ]
    for each, where, remedy in given:
        if version_number(each) > version_number(version):
            yield f"{where} has Prefect {each}, and the servers run {version}. A client may not be newer than its server. {remedy}"
        elif where == "`requirements`" and version_number(each) < version_number(version):
            yield f"`requirements` has Prefect {each}, and the servers run {version}. {remedy} For an older client use `virtualenv`."
