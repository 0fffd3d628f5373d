"""The roles' metadata agrees with their defaults, and their templates with the design."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.quality import rules

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").glob("*/") if path.is_dir())
each_role = pytest.mark.parametrize("role", ROLES, ids=[role.name for role in ROLES])


def defaults_of_others(role: Path) -> dict[str, Any]:
    return {name: value for other in ROLES if other != role for name, value in rules.load(other / "defaults" / "main.yml").items()}


@each_role
def test_defaults_and_argument_spec_say_the_same(role: Path) -> None:
    rules.require_none(rules.spec_problems(role, defaults_of_others(role)))


@each_role
def test_defaults_begin_with_the_role_name(role: Path) -> None:
    rules.require_none(rules.naming_problems(role))


@each_role
def test_defaults_need_no_facts(role: Path) -> None:
    rules.require_none(rules.fact_problems(role))


@each_role
def test_endpoints_are_variables(role: Path) -> None:
    folders = [role / name for name in ("templates", "defaults", "vars")]
    rules.require_none(rules.group_index_problems(path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()))


def test_no_list_loses_its_order() -> None:
    files = [path for folder in ("playbooks", "roles", "inventories") for path in sorted((ROOT / folder).rglob("*"))]
    rules.require_none(rules.set_filter_problems(path for path in files if path.suffix in {".yml", ".j2"}))


def test_a_default_has_one_place() -> None:
    owners: dict[str, list[str]] = {}
    for role in ROLES:
        for name in rules.load(role / "defaults" / "main.yml"):
            owners.setdefault(name, []).append(role.name)
    rules.require_none(f"{name} is a default of {' and '.join(roles)}" for name, roles in owners.items() if len(roles) > 1)
