# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The archive for a support request."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import redact_document
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import assemble, table

_README = """\
What was found of a deployment of selfhosted.prefect at {when}.

status.txt, status.json    the state of the whole, as the playbook "status" prints it
<host>/system.txt          load, memory, disks, addresses, listeners, firewall
<host>/versions.txt        packages, releases, what is installed in the release
<host>/units.txt           states of the units, and the units themselves
<host>/config/             configuration as it is on the host; config/nginx-T.txt is all of nginx's
<host>/journal/, log/      the last lines of each
<host>/database.txt        revision, queue lengths, connections, slow queries, large tables (queried from this host)
<host>/redis.txt           what Redis says of itself, lengths of queues and streams (queried from this host)

Secrets are replaced by asterisks: those that the inventory and the hosts' settings hold, and what looks like one. Names of hosts, their
addresses, names of flows and what programs wrote into their logs are here as they are. Look through it before you send it.

Missing:
{missing}
"""


def notes(hosts: Iterable[Sequence[Any]]) -> list[str]:
    """What is missing, each in one sentence."""
    return [note for name, *answers in hosts for note in _note(str(name), answers[0] if answers else {})]


def contents(hosts: Iterable[Sequence[Any]], report: Mapping[str, Any], secrets: Iterable[str], now: float) -> dict[str, str]:
    """Every file of the archive, by its path."""
    answers = [(str(name), rest[0] if rest else {}) for name, *rest in hosts]
    files = {
        f"{_plain(name)}/{_inside(path)}": str(text) for name, answer in answers for path, text in sorted(answer.get("files", {}).items())
    }
    known = [secret for secret in secrets if secret]
    if report:
        state = assemble(report)
        files["status.txt"] = redact_document(table(state, lambda: now) + "\n", known)
        files["status.json"] = redact_document(json.dumps(state, indent=1, sort_keys=True, default=str) + "\n", known)
    missing = "\n".join(f"* {note}" for note in notes(answers)) or "* nothing"
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    return {"README.txt": redact_document(_README.format(when=when, missing=missing), known), **files}


def name(now: float) -> str:
    """What the archive is called, without its suffix."""
    return time.strftime("prefect-support-%Y%m%dT%H%M%SZ", time.gmtime(now))


def write(path: Path, files: Mapping[str, str], now: float) -> int:
    """Writes the archive, whole or not at all, readable by its owner only; its size in bytes. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    top = path.name.removesuffix(".tar.gz")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for inside, text in sorted(files.items()):
                data = text.encode("utf-8", "replace")
                member = tarfile.TarInfo(f"{top}/{inside}")
                member.size, member.mode, member.mtime = len(data), 0o600, int(now)
                archive.addfile(member, io.BytesIO(data))
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return path.stat().st_size


def _note(host: str, answer: Mapping[str, Any]) -> list[str]:
    if answer.get("unreachable"):
        return [f"{host} cannot be reached by Ansible, so nothing of it is here: {_reason(answer)}"]
    if answer.get("failed") or answer.get("exception"):
        return [f"{host} could not be read, so nothing of it is here: {_reason(answer)}"]
    if not answer.get("files"):
        return [f"{host} was not queried, so nothing of it is here"]
    return []


def _reason(answer: Mapping[str, Any]) -> str:
    return " ".join(str(answer.get("msg") or "no reason given").split())


def _plain(word: str) -> str:
    """A part of a path that is no path itself."""
    return re.sub(r"[^\w.@:-]", "_", word).lstrip(".") or "_"


def _inside(path: str) -> str:
    """A relative path that stays where it is put."""
    return "/".join(_plain(part) for part in path.split("/") if part not in ("", ".", ".."))
