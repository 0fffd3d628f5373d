"""What every file of the repository must, and must not, say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.quality import rules

# Where a version would be a setting, not an example in a text; and there, the one place for it with the copy in the
# argument spec that another check compares with it, and the locks, each a record of one version.
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
    return [path for path in files if path.suffix == ".md" and "changelogs" not in path.parts]


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
    rules.require_none(problem for page in pages for problem in rules.names_problems(page, root, known))


def test_every_role_and_playbook_is_documented(root: Path, pages: list[Path]) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages if "roles" not in page.relative_to(root).parts)
    names = [path.name for path in sorted((root / "roles").glob("*/"))]
    names += [path.stem for path in sorted((root / "playbooks").glob("*.yml"))]
    rules.require_none(name for name in names if not any(form.format(name) in text for form in ("`{}`", "{}.yml", "selfhosted.prefect.{}")))
