from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.dumps import (
    DumpError,
    Manifest,
    check_file,
    commit,
    complete_dumps,
    create_partial,
    find_dump,
    leftovers,
    only_one,
    prune,
    read_manifest,
    shown,
    stamp,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline

CONTENT = b"PGDMP and so on"
MANIFEST = Manifest(
    database="prefect",
    created="2026-11-24T08:50:00Z",
    revision="d4a7e1c93f52",
    prefect_version="3.8.8",
    server_version="15.18",
    bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    database_bytes=9_000_000,
    tables={"public.flow_run": 3},
)


def add(folder: Path, hour: int, **changes: Any) -> str:
    """A complete dump of that hour."""
    moment = datetime(2026, 11, 24, hour, tzinfo=UTC)
    path = str(folder / f"prefect-{stamp(moment)}.dump")
    Path(create_partial(path)).write_bytes(CONTENT)
    commit(path, replace(MANIFEST, created=shown(moment), **changes))
    return path


def test_commit_leaves_a_dump_and_its_manifest_for_the_owner_only(tmp_path: Path) -> None:
    path = add(tmp_path, 8)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["prefect-20261124T080000Z.dump", "prefect-20261124T080000Z.dump.json"]
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    assert read_manifest(path) == replace(MANIFEST, created="2026-11-24T08:00:00Z")
    check_file(path, read_manifest(path), Deadline(5))


def test_the_newest_of_a_database_comes_first(tmp_path: Path) -> None:
    older, newer = add(tmp_path, 8), add(tmp_path, 9)
    add(tmp_path, 10, database="other")
    (tmp_path / "prefect-20261124T110000Z.dump").write_bytes(CONTENT)
    assert [dump.path for dump in complete_dumps(str(tmp_path), "prefect")] == [newer, older]
    assert find_dump("newest", str(tmp_path), "prefect") == newer
    assert find_dump(Path(older).name, str(tmp_path), "prefect") == older
    assert find_dump(older, "/elsewhere", "prefect") == older


@pytest.mark.parametrize(
    ("wanted", "message"), [("newest", "holds no complete dump of database prefect"), ("gone.dump", "there is no file .*/gone.dump")]
)
def test_dumps_that_are_not_there(tmp_path: Path, wanted: str, message: str) -> None:
    with pytest.raises(DumpError, match=message):
        find_dump(wanted, str(tmp_path), "prefect")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:-1], "has 14 bytes, but its manifest says 15: it is truncated"),
        (CONTENT + b"!", "something was added"),
        (b"X" + CONTENT[1:], "SHA-256 .* was changed or is damaged"),
    ],
)
def test_damage(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x.dump"
    file.write_bytes(content)
    with pytest.raises(DumpError, match=message):
        check_file(str(file), MANIFEST, Deadline(5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no manifest"),
        ("", "is not the manifest of a dump"),
        ("[]", "is not the manifest of a dump"),
        ("{}", "is not the manifest of a dump"),
        (json.dumps({"format": 1, "database": "prefect"}), "is not the manifest of a dump"),
        (MANIFEST.text().replace("2026-11-24T", "yesterday "), "is not the manifest of a dump"),
        (json.dumps({"format": 2}), "has format 2, but only 1 is known"),
    ],
)
def test_manifests_that_are_none(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "x.dump.json").write_text(text)
    with pytest.raises(DumpError, match=message):
        read_manifest(str(tmp_path / "x.dump"))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    oldest, middle, newest = (add(tmp_path, hour) for hour in (7, 8, 9))
    other = add(tmp_path, 6, database="other")
    (tmp_path / "mine.dump").write_bytes(CONTENT)
    assert prune(str(tmp_path), "prefect", 2) == [oldest]
    names = {str(file) for file in tmp_path.iterdir() if not file.name.endswith(".json")}
    assert names == {middle, newest, other, str(tmp_path / "mine.dump")}
    assert prune(str(tmp_path), "prefect", 2) == []


def test_leftovers(tmp_path: Path) -> None:
    whole = add(tmp_path, 8)
    left = ["prefect-20261124T070000Z.dump.partial", "prefect-20261124T070000Z.dump.json", "prefect-20261124T060000Z.dump.json.partial"]
    for name in [*left, "prefect-mine.dump.partial", "prefect-20261124T050000Z.dump", "notes.partial"]:
        (tmp_path / name).touch()
    assert leftovers(str(tmp_path)) == sorted(str(tmp_path / name) for name in left)
    assert Path(whole).exists()


def test_only_one_at_a_time(tmp_path: Path) -> None:
    with only_one(str(tmp_path), Deadline(5)), pytest.raises(DumpError, match="another backup into"), only_one(str(tmp_path), Deadline(0)):
        pass
    with only_one(str(tmp_path), Deadline(0)):
        pass


def test_time_is_bounded(tmp_path: Path) -> None:
    path = add(tmp_path, 8)
    with pytest.raises(DumpError, match="could not be read within 0 s"):
        check_file(path, MANIFEST, Deadline(0))
