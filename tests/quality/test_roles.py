"""The roles' metadata agrees with their defaults, and their templates with the design."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.quality import rules

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").glob("*/") if path.is_dir())
# The deployment as data, without tasks: what it holds is documented where it belongs.
SHARED = ROOT / "roles" / "common"
each_role = pytest.mark.parametrize("role", ROLES, ids=[role.name for role in ROLES])
each_other_role = pytest.mark.parametrize("role", [role for role in ROLES if role != SHARED], ids=lambda role: role.name)


def defaults_of_others(role: Path) -> dict[str, Any]:
    return {name: value for other in ROLES if other != role for name, value in rules.load(other / "defaults" / "main.yml").items()}


@each_other_role
def test_defaults_and_argument_spec_say_the_same(role: Path) -> None:
    rules.require_none(rules.spec_problems(role, defaults_of_others(role)))


@each_other_role
def test_defaults_begin_with_the_role_name(role: Path) -> None:
    rules.require_none(rules.naming_problems(role))


def test_shared_defaults_are_documented() -> None:
    documented = {name for role in ROLES for name in rules.spec_options(role)}
    rules.require_none(f"{name} is in no argument spec" for name in rules.load(SHARED / "defaults" / "main.yml") if name not in documented)


def test_what_roles_share_is_data() -> None:
    folders = {path.name for path in SHARED.iterdir() if path.is_dir()}
    assert folders == {"defaults", "meta", "templates", "vars"}, "the role common has no tasks, or every play would run them"
    rules.require_none(f"{name} does not begin with common_" for name in shared_vars() if not name.lstrip("_").startswith("common_"))


def shared_vars() -> set[str]:
    return {*rules.role_variables(SHARED)} - {*rules.load(SHARED / "defaults" / "main.yml")}


@each_other_role
def test_a_role_reads_its_own_variables_and_the_shared(role: Path) -> None:
    owners = {name: other.name for other in ROLES for name in rules.role_variables(other)}
    rules.require_none(rules.foreign_variable_problems(role, owners, SHARED.name))
    assert rules.load(role / "meta" / "main.yml")["dependencies"] == [{"role": "selfhosted.prefect.common"}]


@each_role
def test_defaults_need_no_facts(role: Path) -> None:
    rules.require_none(rules.fact_problems(role))


@each_role
def test_endpoints_are_variables(role: Path) -> None:
    folders = [role / name for name in ("templates", "defaults", "vars")]
    rules.require_none(rules.group_index_problems(path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()))


@each_role
def test_a_host_that_is_removed_is_in_no_group(role: Path) -> None:
    folders = [role / name for name in ("templates", "defaults", "vars", "tasks", "handlers")]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    # It makes common_groups of them.
    rules.require_none(rules.inventory_groups_problems(path for path in files if path != SHARED / "vars" / "main" / "deployment.yml"))


def test_a_host_that_is_removed_is_in_no_step() -> None:
    rules.require_none(rules.play_hosts_problems(sorted((ROOT / "playbooks" / "steps").glob("*.yml"))))


def test_handlers_have_no_condition_of_an_import() -> None:
    files = [path for folder in ("playbooks", "roles/*/tasks") for path in sorted(ROOT.glob(f"{folder}/**/*.yml"))]
    rules.require_none(rules.conditional_import_problems(files, (path.parts[-3] for path in ROOT.glob("roles/*/handlers/main.yml"))))


@pytest.mark.parametrize("page", sorted(ROOT.glob("roles/*/templates/*.html.j2")), ids=lambda page: page.name)
def test_every_page_has_the_one_style(page: Path) -> None:
    """By the frame that all pages have. What pages import is no page."""
    text = page.read_text(encoding="utf-8")
    own = page.name in ("page.html.j2", "pill.html.j2", "plot.html.j2")
    assert own or '{% extends "page.html.j2" %}' in text
    assert ("<style>" in text) == (page.name == "page.html.j2") == ('{% include "page.css" %}' in text)
    assert "| safe" not in text


def test_every_private_variable_is_defined() -> None:
    folders = ("playbooks", *(f"roles/*/{part}" for part in ("defaults", "handlers", "tasks", "templates", "vars")))
    files = [path for folder in folders for path in sorted(ROOT.glob(f"{folder}/**/*"))]
    rules.require_none(rules.undefined_private_problems(path for path in files if path.suffix in {".yml", ".j2"}))


def test_no_list_loses_its_order() -> None:
    files = [path for folder in ("playbooks", "roles", "inventories") for path in sorted((ROOT / folder).rglob("*"))]
    rules.require_none(rules.set_filter_problems(path for path in files if path.suffix in {".yml", ".j2"}))


def test_no_template_says_what_is_wrong() -> None:
    rules.require_none(rules.worded_problems(path for folder in ("playbooks", "roles") for path in sorted((ROOT / folder).rglob("*.yml"))))


def test_the_oldest_versions_have_one_place() -> None:
    files = [
        path for folder in ("playbooks", "plugins", "roles") for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yml", ".j2"}
    ]
    assert [path.name for path in files if "14.9" in path.read_text(encoding="utf-8")] == ["minimums.py"]


def test_a_default_has_one_place() -> None:
    owners: dict[str, list[str]] = {}
    for role in ROLES:
        for name in rules.load(role / "defaults" / "main.yml"):
            owners.setdefault(name, []).append(role.name)
    rules.require_none(f"{name} is a default of {' and '.join(roles)}" for name, roles in owners.items() if len(roles) > 1)


def test_every_component_describes_itself() -> None:
    """Each one that `common` lists is a role with a description, and no role describes itself without being listed."""
    shared = rules.role_variables(SHARED)
    described = {path.parts[-3] for path in (ROOT / "roles").glob("*/vars/component.yml")}
    assert set(shared["common_components"]) <= described
    # What is on hosts of several components.
    assert described - set(shared["common_components"]) == {"prefect", "exporters", "firewall"}
