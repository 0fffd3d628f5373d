"""Grafana's dashboards: made from their sources, and made of queries that Prometheus understands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dashboards
import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).parents[2]


def test_they_are_up_to_date(commands: Commands) -> None:
    commands.run([sys.executable, "tools/generate_dashboards.py", "--check"])


def test_a_stale_or_forgotten_one_is_found(commands: Commands, tmp_path: Path) -> None:
    source, target = (tmp_path / "roles/monitoring" / name for name in ("dashboards", "files/dashboards"))
    source.mkdir(parents=True)
    target.mkdir(parents=True)
    (source / "one.yml").write_text("title: One\nuid: one\nrows: [{title: R, panels: [{title: P, queries: [{expr: up}]}]}]\n")
    (target / "two.json").write_text("{}")
    program: list[str | Path] = [sys.executable, "tools/generate_dashboards.py", "--root", tmp_path]
    output = commands.run([*program, "--check"], expect=1)
    assert "one.json is stale" in output
    assert "two.json is stale" in output
    commands.run(program)
    assert [path.name for path in target.iterdir()] == ["one.json"]
    commands.run([*program, "--check"])


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        ("{title: P, queries: []}", "no queries"),
        ("{title: P, units: s, queries: [{expr: up}]}", "units"),
        ("{title: P, queries: [{expr: up, label: x}]}", "label"),
        ("{title: P, type: pie, queries: [{expr: up}]}", "pie"),
        ("{queries: [{expr: up}]}", "title"),
    ],
)
def test_an_unusable_source_is_refused_by_name(commands: Commands, tmp_path: Path, panel: str, message: str) -> None:
    source = tmp_path / "roles/monitoring/dashboards"
    source.mkdir(parents=True)
    (source / "one.yml").write_text(f"title: One\nuid: one\nrows: [{{title: R, panels: [{panel}]}}]\n")
    output = commands.run([sys.executable, "tools/generate_dashboards.py", "--root", tmp_path], expect=2)
    assert message in output
    assert "one.yml" in output
    assert "Traceback" not in output


def test_every_expression_parses(commands: Commands, tmp_path: Path) -> None:
    """As a recording rule each, which promtool checks by parsing its expression."""
    queries = list(dashboards.queries())
    assert len(queries) > 50, "the search for queries is broken"
    assert not [query for query in queries if "$" in query.expr], "a variable was not replaced"
    rules = [{"record": f"query:{number}", "expr": query.expr} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    commands.run(["tools/promtool", "check", "rules", path])


def test_uids_and_ids_are_unique() -> None:
    loaded = [json.loads(path.read_text()) for path in dashboards.DASHBOARDS]
    assert len({each["uid"] for each in loaded}) == len(loaded) >= 3
    for each in loaded:
        ids = [panel["id"] for panel in dashboards.panels(each)]
        assert len(set(ids)) == len(ids)


def test_what_is_recorded_is_what_is_shown() -> None:
    """A series that a dashboard takes from a recording rule has one."""
    recorded = {rule["record"] for path in dashboards.RULES for rule in dashboards.rules(path) if "record" in rule}
    shown = {word for query in dashboards.queries() for word in query.expr.split() if word.startswith("prefect:")}
    assert shown
    assert shown <= recorded


def test_provisioning_names_what_exists() -> None:
    folder = ROOT / "roles/monitoring/files/grafana"
    source = yaml.safe_load((folder / "datasources/prefect.yml").read_text())["datasources"][0]
    assert source["type"] == "prometheus"
    provider = yaml.safe_load((folder / "dashboards/prefect.yml").read_text())["providers"][0]
    assert provider["options"]["path"] in (ROOT / "docs/dashboards.md").read_text()
