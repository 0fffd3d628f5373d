# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Dumps on disk: what their manifests say, whether they are whole, and which of them are kept."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline

FORMAT = 1
"""Of the manifest. A newer one than this is refused."""

NEWEST = "newest"
PARTIAL = ".partial"
_MANIFEST = ".json"
_NAME = re.compile(r"prefect-\d{8}T\d{6}Z\.dump(?:\.json)?")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_CHUNK = 1 << 20
_POLL_SECONDS = 0.5


class DumpError(Exception):
    """A dump is not usable; the message says which, and why."""


@dataclass(frozen=True)
class Manifest:
    """What is known of a dump. ``created`` is UTC, ``tables`` has the rows of each ``schema.table`` in it."""

    database: str
    created: str
    revision: str
    prefect_version: str
    server_version: str
    bytes: int
    sha256: str
    database_bytes: int
    tables: Mapping[str, int]

    def age(self, now: datetime) -> float:
        """Seconds since the dump's snapshot."""
        return (now - parsed(self.created)).total_seconds()

    def text(self) -> str:
        """As it is written beside the dump."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Dump:
    """A complete dump: the file, and the manifest beside it."""

    path: str
    manifest: Manifest

    def values(self, now: datetime) -> dict[str, Any]:
        """As a module returns it."""
        return {"path": self.path, "manifest": manifest_path(self.path), **asdict(self.manifest), "age": round(self.manifest.age(now))}


def manifest_path(path: str) -> str:
    return path + _MANIFEST


def utc_now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def shown(moment: datetime) -> str:
    """As manifests write it: ``2026-11-24T08:50:00Z``."""
    return moment.strftime(_TIME)


def stamp(moment: datetime) -> str:
    """As names of files and databases have it: ``20261124T085000Z``."""
    return moment.strftime("%Y%m%dT%H%M%SZ")


def parsed(created: str) -> datetime:
    return datetime.strptime(created, _TIME).replace(tzinfo=timezone.utc)


def read_manifest(path: str) -> Manifest:
    """The manifest of the dump at ``path``. Raises DumpError if there is none, or it is not one of ours."""
    file = manifest_path(path)
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8"))
        number = values.pop("format")
        if number != FORMAT:
            raise DumpError(f"{file} has format {number}, but only {FORMAT} is known here: a newer release of this collection wrote it")
        manifest = Manifest(**values)
        parsed(manifest.created)
    except FileNotFoundError:
        raise DumpError(f"{path} has no manifest ({file} is missing), so nothing tells whether it is whole or what is in it") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DumpError(f"{file} is not the manifest of a dump ({type(error).__name__}: {error})") from None
    return manifest


def complete_dumps(directory: str, database: str) -> list[Dump]:
    """The complete dumps of a database in a folder, newest first. Files that are none are passed over."""
    found = []
    for file in Path(directory).glob("*.dump"):
        with contextlib.suppress(DumpError):
            dump = Dump(str(file), read_manifest(str(file)))
            if dump.manifest.database == database:
                found.append(dump)
    return sorted(found, key=lambda dump: (dump.manifest.created, dump.path), reverse=True)


def find_dump(wanted: str, directory: str, database: str) -> str:
    """The path of a dump: the newest one in the folder, a file of the folder, or the path itself.

    Raises DumpError if there is no such file.
    """
    if wanted == NEWEST:
        newest = complete_dumps(directory, database)[:1]
        if not newest:
            raise DumpError(f"{directory} holds no complete dump of database {database}")
        return newest[0].path
    path = Path(directory, wanted)
    if not path.is_file():
        raise DumpError(f"there is no file {path}")
    return str(path)


def check_file(path: str, manifest: Manifest, deadline: Deadline) -> None:
    """Compares size and checksum. Raises DumpError if they are not those of the manifest, or the time is over."""
    size = Path(path).stat().st_size
    if size != manifest.bytes:
        what = "it is truncated" if size < manifest.bytes else "something was added"
        raise DumpError(f"{path} has {size} bytes, but its manifest says {manifest.bytes}: {what}")
    found = file_digest(path, deadline)
    if found != manifest.sha256:
        raise DumpError(f"{path} has the SHA-256 {found}, but its manifest says {manifest.sha256}: its content was changed or is damaged")


def file_digest(path: str, deadline: Deadline) -> str:
    """The file's SHA-256. Raises DumpError when the time is over."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            if deadline.passed():
                raise DumpError(f"{path} could not be read within {deadline.seconds:g} s")
            digest.update(chunk)
    return digest.hexdigest()


def create_partial(path: str) -> str:
    """An empty file that only its owner can read, for what is not complete yet."""
    partial = path + PARTIAL
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return partial


def commit(path: str, manifest: Manifest) -> None:
    """Puts the partial file in place, with its manifest. What is there under the final name is whole, also after a power cut."""
    partial = path + PARTIAL
    # The manifest first: a manifest without a dump does no harm.
    _write(manifest_path(path) + PARTIAL, manifest.text())
    _sync(partial)
    Path(manifest_path(path) + PARTIAL).replace(manifest_path(path))
    Path(partial).replace(path)
    _sync(str(Path(path).parent))


def prune(directory: str, database: str, keep: int) -> list[str]:
    """Removes all but the newest complete dumps of a database; the paths of what is gone."""
    surplus = [dump.path for dump in complete_dumps(directory, database)[keep:]]
    for path in surplus:
        # The dump first, as above.
        Path(path).unlink()
        Path(manifest_path(path)).unlink()
    return surplus


def leftovers(directory: str) -> list[str]:
    """What an interrupted backup left in the folder: partial files, and manifests without a dump."""
    return sorted(
        str(file)
        for file in Path(directory).glob("prefect-*")
        if _NAME.fullmatch(file.name.removesuffix(PARTIAL))
        and (file.name.endswith(PARTIAL) or (file.name.endswith(_MANIFEST) and not Path(str(file)[: -len(_MANIFEST)]).exists()))
    )


@contextmanager
def only_one(directory: str, deadline: Deadline) -> Iterator[None]:
    """Holds the folder, so that two backups do not take each other's files for leftovers.

    Raises DumpError if another process has held it all the time.
    """
    handle = os.open(Path(directory, ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline.passed():
                    raise DumpError(f"another backup into {directory} has not ended within {deadline.seconds:g} s") from None
                time.sleep(min(_POLL_SECONDS, deadline.left()))
        yield
    finally:
        os.close(handle)


def _write(path: str, text: str) -> None:
    Path(path).unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
