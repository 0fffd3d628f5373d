"""What every file of the repository must, and must not, say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.quality import rules

# Files that may repeat the version of Prefect: its default and the copies that other checks compare with it,
# locks and history (records of one version), and unit tests (sample data).
PIN_EXEMPT = (
    "roles/prefect/defaults/",
    "roles/prefect/meta/argument_specs.yml",
    "roles/prefect/README.md",
    "roles/prefect/files/locks/",
    "docs/variables.md",
    "changelogs/",
    "CHANGELOG",
    "tests/unit/",
)

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
    assert not rules.text_problems(files, rules.private_hosts(machine_configuration()))


def test_the_version_of_prefect_is_pinned_once(root: Path, tracked: list[Path]) -> None:
    version = rules.load(root / "roles" / "prefect" / "defaults" / "main.yml")["prefect_version"]
    candidates = [root / path for path in tracked if not str(path).startswith(PIN_EXEMPT)]
    assert not rules.pin_problems(version, candidates)


def test_no_path_of_one_machine(root: Path, files: list[Path]) -> None:
    assert not rules.local_path_problems((path for path in files if path.name != "test_rules.py"), root)


def test_links_in_the_documentation_resolve(pages: list[Path]) -> None:
    assert not [problem for page in pages for problem in rules.link_problems(page)]


def test_the_documentation_names_what_exists(root: Path, pages: list[Path]) -> None:
    known = rules.known_names(root)
    assert not [problem for page in pages for problem in rules.names_problems(page, root, known)]


def test_every_role_and_playbook_is_documented(root: Path, pages: list[Path]) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages if "roles" not in page.relative_to(root).parts)
    names = [path.name for path in sorted((root / "roles").glob("*/"))]
    names += [path.stem for path in sorted((root / "playbooks").glob("*.yml"))]
    assert not [name for name in names if not any(form.format(name) in text for form in ("`{}`", "{}.yml", "selfhosted.prefect.{}"))]
