# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a host has of a PostgreSQL cluster. A part that is not there, or does not answer, is part of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import TLS, given
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Fetch, fetch
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.data import PATTERN, data_directories
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.etcd import Etcd, EtcdError, initial
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.patroni import Patroni, cluster
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run

CLUSTER: dict[str, Any] = {
    "data": {"type": "path", "default": PATTERN},
    "etcd_data": {"type": "path", "default": "/var/lib/etcd/default"},
    "etcd_initial": {"type": "path", "default": "/var/lib/etcd/initial.env"},
    "etcd_url": {"type": "str"},
    "etcd_tls": {"type": "dict", "options": TLS},
    "patroni_url": {"type": "str"},
    "patroni_tls": {"type": "dict", "options": TLS},
}
"""What the documentation fragment ``cluster`` describes."""

_QUERY = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}\\n", "patroni"]
_SECONDS = 3.0


def gather(wanted: Mapping[str, Any], run: Run = run, ask: Fetch = fetch) -> dict[str, Any]:
    """``wanted`` is what CLUSTER describes."""
    return {
        "data": data_directories(wanted["data"]),
        "etcd": _etcd(wanted, run),
        "patroni": _patroni(wanted, run, ask),
    }


def _etcd(wanted: Mapping[str, Any], run: Run) -> dict[str, Any]:
    there = Path(wanted["etcd_data"], "member").is_dir()
    first = Path(wanted["etcd_initial"])
    settings = initial(first.read_text(encoding="utf-8").splitlines()) if first.is_file() else {}
    found: dict[str, Any] = {
        "data": there,
        "token": settings.get("ETCD_INITIAL_CLUSTER_TOKEN", ""),
        "cluster_id": "",
        "members": [],
        "problem": "",
    }
    if there and wanted.get("etcd_url"):
        try:
            members = Etcd([wanted["etcd_url"]], given(wanted.get("etcd_tls")), _SECONDS, run).members()
            found.update(cluster_id=members.cluster_id, members=[each.values() for each in members.members])
        except EtcdError as error:
            found["problem"] = str(error)
    return found


def _patroni(wanted: Mapping[str, Any], run: Run, ask: Fetch) -> dict[str, Any]:
    installed = run(_QUERY, 10).output.splitlines()
    version = next((line.partition(" ")[2] for line in installed if line.startswith("installed ")), "")
    found: dict[str, Any] = {"version": version, "running": False, "system_identifier": "", "cluster": {}, "problem": ""}
    if not version or not wanted.get("patroni_url"):
        return found
    patroni = Patroni({"here": wanted["patroni_url"]}, given(wanted.get("patroni_tls")), timeout=_SECONDS, ask=ask)
    try:
        itself = patroni.read("here", "/patroni")
        found.update(running=True, system_identifier=str(itself.get("database_system_identifier", "")))
        # Only where etcd answers is there a cluster to tell of.
        values = patroni.read("here", "/cluster")
        found["cluster"] = cluster(values).values() if values else {}
    except NetError as error:
        found["problem"] = str(error)
    return found
