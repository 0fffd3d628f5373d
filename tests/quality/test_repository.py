"""What every file of the repository must, and must not, say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.quality import rules

# Where a version would be a setting, not an example in a text; and there, the one place for it with the copy in the
# argument spec that another check compares with it, and the lock files, each a record of one version.
SETTINGS = (
    "Makefile",
    "site.yml",
    ".ci/",
    ".config/",
    "inventories/",
    "molecule/",
    "playbooks/",
    "requirements/",
    "roles/",
    "tests/bench/",
)
PIN_EXEMPT = ("roles/common/defaults/", "roles/prefect/meta/argument_specs.yml", "roles/prefect/files/locks/")

CONFIGURATION = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*", "/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")
CONFIGURATION_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "HTTPS_PROXY")


@pytest.fixture(scope="module")
def files(root: Path, tracked: list[Path]) -> list[Path]:
    return [root / path for path in tracked]


@pytest.fixture(scope="module")
def pages(files: list[Path]) -> list[Path]:
    return [path for path in files if path.suffix == ".md"]


@pytest.fixture(scope="module")
def targets(root: Path) -> set[str]:
    return rules.make_targets(root / "Makefile")


def is_history(path: Path, root: Path) -> bool:
    """Whether a file says what was, and may name what is no longer there."""
    return path.relative_to(root).parts[0] in {"CHANGELOG.md", "changelogs"}


def machine_configuration() -> Iterator[str]:
    """How the package tools of this machine are set up: the only place that knows its mirrors' names."""
    for name in CONFIGURATION_VARIABLES:
        yield os.environ.get(name, "")
    for pattern in CONFIGURATION:
        path = Path(pattern).expanduser()
        for found in path.parent.glob(path.name):
            if found.is_file():
                yield found.read_text(encoding="utf-8", errors="replace")


def test_no_secret_and_no_mirror_of_this_machine(files: list[Path]) -> None:
    rules.require_none(rules.text_problems(files, rules.private_hosts(machine_configuration())))


def test_the_version_of_prefect_is_pinned_once(root: Path, tracked: list[Path]) -> None:
    version = rules.load(root / "roles" / "common" / "defaults" / "main.yml")["prefect_version"]
    settings = [path for path in tracked if str(path).startswith(SETTINGS) and path.suffix != ".md"]
    candidates = [root / path for path in settings if not str(path).startswith(PIN_EXEMPT)]
    rules.require_none(rules.pin_problems(version, candidates))


def test_plugins_hold_no_markup(root: Path, tracked: list[Path]) -> None:
    rules.require_none(rules.markup_problems(root / path for path in tracked if path.parts[0] == "plugins"))


def test_no_path_of_one_machine(root: Path, files: list[Path]) -> None:
    rules.require_none(rules.local_path_problems((path for path in files if path.name != "test_rules.py"), root))


def test_links_in_the_documentation_resolve(pages: list[Path]) -> None:
    rules.require_none(problem for page in pages for problem in rules.link_problems(page))


def test_the_documentation_names_what_exists(root: Path, pages: list[Path]) -> None:
    known = rules.known_names(root)
    current = [page for page in pages if not is_history(page, root)]
    rules.require_none(problem for page in current for problem in rules.names_problems(page, root, known))


def test_every_make_target_that_is_named_exists(root: Path, files: list[Path], targets: set[str]) -> None:
    named = [path for path in files if path.name != "test_rules.py" and not is_history(path, root)]
    rules.require_none(rules.make_problems(named, targets))


def test_requirements_name_the_target_that_reads_them(root: Path) -> None:
    rules.require_none(rules.maker_problems(root / "Makefile", sorted((root / "requirements").glob("*.in"))))


def test_code_in_the_documentation_of_roles_and_plugins_is_whole(files: list[Path]) -> None:
    documented = [path for path in files if path.name == "argument_specs.yml" or "plugins" in path.parts]
    rules.require_none(rules.documented_code_problems(documented))


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_every_template_can_be_parsed(files: list[Path]) -> None:
    """But for what hosts get as it is: Prometheus's rules have templates of their own."""
    templates = [path for path in files if path.suffix in {".yml", ".j2"} and "files" not in path.parts]
    assert len(templates) > 300
    rules.require_none(problem for path in templates for problem in rules.unparsable_templates(path))


def test_changelog_fragments_use_the_markup_of_a_changelog(root: Path) -> None:
    rules.require_none(rules.fragment_problems(sorted((root / "changelogs" / "fragments").glob("*.y*ml"))))


def test_workflows(root: Path, targets: set[str]) -> None:
    workflows = sorted((root / ".github" / "workflows").glob("*.y*ml"))
    assert workflows, "no workflow found: the search is broken"
    rules.require_none(problem for path in workflows for problem in rules.workflow_problems(path, targets))


def test_no_variable_of_an_inventory_is_ignored(tracked: list[Path], root: Path) -> None:
    folders = sorted({root / path.parent for path in tracked if path.name == "hosts.yml"})
    assert len(folders) > 20
    rules.require_none(problem for folder in folders for problem in rules.shadowed_variable_problems(folder))


def test_the_readme_leads_to_every_page(root: Path, pages: list[Path]) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    rules.require_none(
        f"README.md does not list docs/{page.name}"
        for page in pages
        if page.parent == root / "docs" and f"](docs/{page.name})" not in readme
    )


def test_the_action_group_has_every_module(root: Path) -> None:
    groups = rules.load(root / "meta" / "runtime.yml")["action_groups"]
    assert groups["prefect"] == sorted(path.stem for path in (root / "plugins" / "modules").glob("*.py"))


def test_playbooks_read_documented_variables(root: Path) -> None:
    rules.require_none(rules.undocumented_variable_problems(sorted((root / "playbooks").rglob("*.yml")), rules.known_names(root)))


def test_every_role_and_playbook_is_documented(root: Path, pages: list[Path]) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages if "roles" not in page.relative_to(root).parts)
    names = [path.name for path in sorted((root / "roles").glob("*/"))]
    names += [path.stem for path in sorted((root / "playbooks").glob("*.yml"))]
    rules.require_none(name for name in names if not any(form.format(name) in text for form in ("`{}`", "{}.yml", "selfhosted.prefect.{}")))
