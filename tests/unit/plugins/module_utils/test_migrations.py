from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.history import Release, ReleaseError, Revision, load_release


def revisions(*edges: tuple[str, tuple[str, ...]]) -> dict[str, Revision]:
    return {name: Revision(name, down, f"builds {name}") for name, down in edges}


LINE = Release("/r", "3.8.8", revisions(("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ("c",))))
# a - b - d - e, and c beside b
MERGED = Release("/r", "3.8.8", revisions(("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("b", "c")), ("e", ("d",))))


@pytest.mark.parametrize(
    ("release", "current", "target", "pending"),
    [
        (LINE, [], "d", ["a", "b", "c", "d"]),
        (LINE, ["b"], "d", ["c", "d"]),
        (LINE, ["d"], "d", []),
        (LINE, ["d"], "b", []),
        (LINE, ["a"], "b", ["b"]),
        (MERGED, ["b"], "e", ["c", "d", "e"]),
        (MERGED, ["b", "c"], "e", ["d", "e"]),
    ],
)
def test_pending(release: Release, current: list[str], target: str, pending: list[str]) -> None:
    assert release.pending(current, target) == pending


def test_every_revision_comes_after_those_it_builds_on() -> None:
    ordered = MERGED.pending([], "e")
    assert sorted(ordered) == ["a", "b", "c", "d", "e"]
    for name in ordered:
        assert all(ordered.index(down) < ordered.index(name) for down in MERGED.revisions[name].down)


@pytest.mark.parametrize(
    ("release", "current", "target", "undone"),
    [
        (LINE, ["d"], "b", ["d", "c"]),
        (LINE, ["b"], "b", []),
        (LINE, ["a"], "c", []),
        (LINE, [], "b", []),
        (MERGED, ["e"], "d", ["e"]),
    ],
)
def test_undone(release: Release, current: list[str], target: str, undone: list[str]) -> None:
    assert release.undone(current, target) == undone


def test_undone_comes_before_what_it_builds_on() -> None:
    order = MERGED.undone(["e"], "a")
    assert (sorted(order), order[:2]) == (["b", "c", "d", "e"], ["e", "d"])


SOURCE = '''
"""Nothing here touches the table variable."""
INDEX: str = "ix_artifact"
TABLES = ["deployment", "gone"]
UNUSED = "configuration"

def _add(table):
    """Not block_type either."""
    op.add_column(table, "created")
    op.execute("ALTER TABLE log SET (fillfactor = 90)")

def upgrade():
    """Nor worker."""
    for table in TABLES:
        _add(table)
    op.create_index(op.f("ix_flow__name"), "flow_run", ["name"])
    op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS\\n{INDEX} ON artifact (key)")
    op.execute("DROP INDEX CONCURRENTLY ix_old; CREATE INDEX ix_events ON events (a)")

def downgrade():
    op.drop_index("ix_flow__name")
    with op.batch_alter_table("work_queue") as batch:
        batch.create_index("ix_old", ["name"])
'''
REVISION = Release("/r", "3.8.8", {"a": Revision("a", (), SOURCE)})
TABLES = ["artifact", "block_type", "configuration", "deployment", "events", "flow", "flow_run", "log", "variable", "work_queue", "worker"]


@pytest.mark.parametrize(
    ("functions", "touched"),
    [
        (["upgrade"], ["artifact", "deployment", "events", "flow_run", "log"]),
        (["downgrade"], ["work_queue"]),
        (["upgrade", "downgrade"], ["artifact", "deployment", "events", "flow_run", "log", "work_queue"]),
        (["none"], []),
    ],
)
def test_touched(functions: list[str], touched: list[str]) -> None:
    assert REVISION.touched(["a"], functions, TABLES) == touched


@pytest.mark.parametrize(
    ("index", "function", "builds"),
    [
        ("ix_flow__name", "upgrade", True),
        ("ix_events", "upgrade", True),
        ("ix_old", "upgrade", False),
        ("ix_old", "downgrade", True),
        ("ix_flow__name", "downgrade", False),
    ],
)
def test_builds(index: str, function: str, builds: bool) -> None:
    assert REVISION.revisions["a"].builds(index, function) is builds


def test_find() -> None:
    assert (LINE.find("head"), LINE.find("b")) == ("d", "b")
    with pytest.raises(ReleaseError, match=r"Prefect 3\.8\.8 in /r has no migration x; its newest is d"):
        LINE.find("x")


def test_two_heads() -> None:
    with pytest.raises(ReleaseError, match="2 newest migrations, not one: b, c"):
        Release("/r", "1", revisions(("a", ()), ("b", ("a",)), ("c", ("a",)))).head()


@pytest.mark.parametrize(("version", "older"), [("3.7.8", True), ("3.8.0", False), ("3.10.1", False), ("2.20.0", True)])
def test_older_than(version: str, older: bool) -> None:
    assert Release("/r", version, {}).older_than(3, 8) is older


def install(root: Path, version: str, folder: str = "_migrations", **sources: str) -> None:
    packages = root / "lib" / "python3.11" / "site-packages"
    (packages / f"prefect-{version}.dist-info").mkdir(parents=True)
    (packages / "prefect_redis-0.3.0.dist-info").mkdir()
    versions = packages / "prefect" / "server" / "database" / folder / "versions" / "postgresql"
    versions.mkdir(parents=True)
    for name, source in sources.items():
        (versions / f"{name}.py").write_text(source)


@pytest.mark.parametrize("folder", ["_migrations", "migrations"])
def test_load(tmp_path: Path, folder: str) -> None:
    install(
        tmp_path,
        "3.8.8",
        folder,
        one='"""Revises: nothing"""\nimport gone\nrevision = "a"\ndown_revision = None\n',
        two='revision: str = "b"\ndown_revision: str | None = "a"\nbranch_labels = None\n',
        three='revision = "c"\ndown_revision = ("a",\n  "b")\n\ndef upgrade():\n    raise SystemExit\n',
        helper="def index(): ...\n",
    )
    release = load_release(str(tmp_path))
    assert release.version == "3.8.8"
    assert {name: each.down for name, each in release.revisions.items()} == {"a": (), "b": ("a",), "c": ("a", "b")}
    assert release.head() == "c"


def test_load_nothing(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"is no installed release: it has no lib/python3\*/site-packages"):
        load_release(str(tmp_path))
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    with pytest.raises(ReleaseError, match="holds no Prefect"):
        load_release(str(tmp_path))


def test_load_broken(tmp_path: Path) -> None:
    install(tmp_path, "3.8.8", one="revision = \n")
    with pytest.raises(ReleaseError, match=r"one\.py cannot be read"):
        load_release(str(tmp_path))
