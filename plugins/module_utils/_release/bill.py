# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a release is made of: its software bill of materials, and whether its files are still those that were installed."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, cast

from ansible_collections.selfhosted.prefect.plugins.module_utils._release.lock import normalised, pins

BILL = "sbom.cdx.json"
"""In the release's folder, in CycloneDX's JSON: the bill of materials."""

_LOCK = "requirements.txt"
_FORMAT = "1.5"
_FILES = "selfhosted.prefect:files-sha256"
# What an installer writes of itself; all else in a RECORD is of the package.
_INSTALLERS = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json")
_LONGEST_LICENCE = 80


@dataclass(frozen=True)
class State:
    """How a release is found. ``lock`` is the SHA-256 of its lock file; ``altered`` has what differs from what was installed."""

    lock: str
    packages: int
    altered: Sequence[str]
    recorded: bool


def bill(release: Path, name: str, lock: str = "") -> dict[str, Any]:
    """The bill of materials of a release in CycloneDX's form; the same for the same packages, wherever and whenever it is made.

    With ``lock``, the text of the lock file that was installed with its hashes, each package has the digests of the files it may be from.
    Raises ValueError if the lock file is none.
    """
    hashes = {(pin.name, pin.version): pin.hashes for pin in pins(lock)}
    installed = _installed(release)
    components = [_component(each, hashes.get((normalised(_name(each)), each.version), frozenset())) for each in installed]
    properties = [{"name": _FILES, "value": _files_digest(installed)}]
    root: dict[str, Any] = {"type": "application", "bom-ref": name, "name": "selfhosted.prefect", "version": name, "properties": properties}
    if lock:
        root["properties"].append({"name": "selfhosted.prefect:lock-sha256", "value": hashlib.sha256(lock.encode()).hexdigest()})
    content = {"metadata": {"component": root}, "components": components}
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": _FORMAT, "serialNumber": f"urn:uuid:{serial}", "version": 1, **content}


def write_bill(release: Path, name: str, lock: str = "") -> None:
    """Puts the bill of materials into the release's folder."""
    (release / BILL).write_text(json.dumps(bill(release, name, lock), indent=1) + "\n", encoding="utf-8")


def examine(release: Path) -> State:
    """Whether the files of a release are those that were installed. Raises OSError if there is none."""
    lock = hashlib.sha256((release / _LOCK).read_bytes()).hexdigest()
    installed = _installed(release)
    recorded = _recorded(release)
    altered = [name for each in installed for name in _altered(each)]
    if recorded and not altered and _files_digest(installed) != recorded:
        altered = ["its packages are others than were installed"]
    return State(lock, len(installed), altered, bool(recorded))


def _installed(release: Path) -> list[Distribution]:
    folders = [str(path) for path in sorted(release.glob("lib/python3*/site-packages"))]
    # Their default is the interpreter that asks.
    return sorted(distributions(path=folders), key=lambda each: normalised(_name(each))) if folders else []


def _name(package: Distribution) -> str:
    return str(package.metadata["Name"])


def _component(package: Distribution, hashes: frozenset[str]) -> dict[str, Any]:
    name = normalised(_name(package))
    purl = f"pkg:pypi/{name}@{package.version}"
    component: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": package.version, "purl": purl}
    licences = _licences(package)
    if licences:
        component["licenses"] = licences
    if hashes:
        files = [{"alg": "SHA-256", "content": digest} for digest in sorted(hashes)]
        source = {
            "type": "distribution",
            "url": f"https://pypi.org/simple/{name}/",
            "comment": "one of the files that the lock file allows",
        }
        component["externalReferences"] = [{**source, "hashes": files}]
    return component


def _licences(package: Distribution) -> list[dict[str, Any]]:
    """As the package states them: an expression, or names, which need not be SPDX's."""
    metadata = cast(Message, package.metadata)
    expression = metadata.get("License-Expression")
    if expression:
        return [{"expression": str(expression)}]
    classified = [str(each).rpartition(" :: ")[2] for each in metadata.get_all("Classifier") or [] if str(each).startswith("License :: ")]
    stated = str(metadata.get("License") or "").strip()
    # Some put the whole text there.
    plain = [stated] if stated and len(stated) <= _LONGEST_LICENCE and "\n" not in stated else []
    return [{"license": {"name": name}} for name in dict.fromkeys(classified or plain)]


def _records(package: Distribution) -> Iterator[tuple[str, str]]:
    """The package's files, and their SHA-256 as its RECORD has it."""
    for row in csv.reader((package.read_text("RECORD") or "").splitlines()):
        path, digest = row[0], row[1].partition("sha256=")[2]
        if digest and not (".dist-info/" in path and path.endswith(_INSTALLERS)):
            yield path, digest


def _files_digest(installed: Sequence[Distribution]) -> str:
    digest = hashlib.sha256()
    for package in installed:
        for path, recorded in sorted(_records(package)):
            digest.update(f"{path}\0{recorded}\n".encode())
    return digest.hexdigest()


def _recorded(release: Path) -> str:
    """What the bill says of the files; empty for a release of an earlier version of this collection."""
    try:
        found: Mapping[str, Any] = json.loads((release / BILL).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except ValueError:
        return "unreadable"
    properties = found["metadata"]["component"]["properties"]
    return next((str(each["value"]) for each in properties if each["name"] == _FILES), "")


def _altered(package: Distribution) -> Iterator[str]:
    for path, recorded in _records(package):
        found = Path(str(package.locate_file(path)))
        try:
            digest = hashlib.sha256(found.read_bytes()).digest()
        except FileNotFoundError:
            yield f"{path} is missing"
            continue
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != recorded:
            yield f"{path} was changed"
