"""The tarball, installed offline into an empty folder, is complete and works from a user's own folder."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.quality import rules

if TYPE_CHECKING:
    from tests.collection.conftest import Installed
    from tests.conftest import Commands

# What a user needs of the repository: all of these folders, and these files at the root.
SHIPPED_FOLDERS = (
    "changelogs",
    "docs",
    "inventories/ha",
    "inventories/simple",
    "inventories/single",
    "meta",
    "playbooks",
    "plugins",
    "roles",
)
SHIPPED_FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md")
MANIFESTS = {"MANIFEST.json", "FILES.json"}


@pytest.fixture(scope="module")
def packaged(tarball: Path) -> set[str]:
    """The files in the tarball."""
    with tarfile.open(tarball) as archive:
        return {member.name for member in archive.getmembers() if not member.isdir()}


def stems(paths: Iterable[Path]) -> set[str]:
    return {path.stem for path in paths if not path.stem.startswith("_")}


def test_tarball_has_all_a_user_needs(packaged: set[str], tracked: list[Path]) -> None:
    needed = {
        str(path) for path in tracked if str(path) in SHIPPED_FILES or str(path).startswith(tuple(f"{name}/" for name in SHIPPED_FOLDERS))
    }
    assert not sorted(needed - packaged)
    assert {*SHIPPED_FILES} <= packaged
    assert any(name.startswith("roles/prefect/files/locks/") for name in packaged)


def test_tarball_has_nothing_else(packaged: set[str], tracked: list[Path]) -> None:
    """Nothing that git does not know (secrets, build results), and nothing that only developers need."""
    assert not sorted(packaged - MANIFESTS - {str(path) for path in tracked}), "files that are not in git"
    assert not sorted(
        name
        for name in packaged
        if name.startswith((".", "tests/", "molecule/", "inventories/lab", "tools/", "requirements/", "build/", "Makefile"))
    )


def test_install_needs_only_the_tarball(installed: Installed, galaxy: Mapping[str, Any]) -> None:
    folder = installed.collections / "ansible_collections"
    assert [path.name for path in folder.glob("[!.]*/[!.]*") if path.is_dir() and not path.parent.name.endswith(".info")] == [
        galaxy["name"]
    ]


def test_links_resolve_in_the_package(installed: Installed, galaxy: Mapping[str, Any]) -> None:
    """Pages link to nothing that only the repository has."""
    folder = installed.collections / "ansible_collections" / galaxy["namespace"] / galaxy["name"]
    pages = sorted(folder.rglob("*.md"))
    assert folder / "README.md" in pages
    rules.require_none(problem for page in pages for problem in rules.link_problems(page))


@pytest.mark.parametrize(("kind", "files"), [("module", "modules/*.py"), ("filter", "filter/*.yml")])
def test_plugins_are_documented(installed: Installed, root: Path, galaxy: Mapping[str, Any], kind: str, files: str) -> None:
    prefix = f"{galaxy['namespace']}.{galaxy['name']}"
    names = sorted(f"{prefix}.{name}" for name in stems((root / "plugins").glob(files)))
    assert names
    documented = json.loads(installed.run(["ansible-doc", "--json", "-t", kind, *names]))
    assert sorted(documented) == names
    assert not [name for name, entry in documented.items() if not (entry.get("doc") and entry.get("examples") and entry.get("return"))]


def test_roles_are_documented(installed: Installed, root: Path, galaxy: Mapping[str, Any]) -> None:
    prefix = f"{galaxy['namespace']}.{galaxy['name']}"
    listed = json.loads(installed.run(["ansible-doc", "--json", "--list", "-t", "role", prefix]))
    assert sorted(listed) == sorted(f"{prefix}.{path.name}" for path in (root / "roles").glob("*/"))


@pytest.fixture(scope="module")
def inventory(installed: Installed) -> Path:
    """A user's inventory that lacks every secret: all groups on this machine."""
    groups = ("postgres", "redis", "prefect_api", "prefect_services", "nginx")
    data = {
        "all": {
            "hosts": {"box": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}},
            "children": {
                **{group: {"hosts": {"box": None}} for group in groups},
                "prefect": {"children": {"prefect_api": None, "prefect_services": None}},
            },
        }
    }
    path = installed.folder / "inventory.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_every_playbook_is_importable(installed: Installed, root: Path, inventory: Path, galaxy: Mapping[str, Any]) -> None:
    prefix = f"{galaxy['namespace']}.{galaxy['name']}"
    names = sorted(f"{prefix}.{path.stem}" for path in (root / "playbooks").glob("*.yml"))
    assert f"{prefix}.site" in names
    installed.run(["ansible-playbook", *names, "-i", str(inventory), "--syntax-check"])


def test_site_lists_its_tasks(installed: Installed, inventory: Path) -> None:
    listing = installed.run(["ansible-playbook", "selfhosted.prefect.site", "-i", str(inventory), "--list-tasks"])
    for tier in ("postgres", "redis", "prefect_api", "prefect_services", "nginx"):
        assert tier in listing


def test_preflight_refuses_an_inventory_without_secrets(installed: Installed, inventory: Path) -> None:
    output = installed.run(["ansible-playbook", "selfhosted.prefect.preflight", "-i", str(inventory)], expect=2)
    for secret in ("prefect_database_password", "prefect_redis_password", "prefect_auth_string"):
        assert secret in output, output
    assert "Traceback" not in output
    assert "changed=0" in output, output


def test_the_last_host_is_not_removed(installed: Installed, inventory: Path) -> None:
    command = ["ansible-playbook", "selfhosted.prefect.remove_host", "-i", str(inventory), "-e", "prefect_remove_host=box"]
    output = installed.run(command, expect=2)
    assert "box is the last host of the group prefect_api" in " ".join(output.split()), output
    assert "changed=0" in output, output


@pytest.mark.parametrize("inventory", ["inventories/ha", "inventories/simple", "inventories/single"])
def test_checkout_runs_without_installing(commands: Commands, inventory: str) -> None:
    """`ansible-playbook site.yml` in the checkout, as the README has it; every other playbook is parsed above."""
    commands.run(["ansible-playbook", "site.yml", "-i", inventory, "--syntax-check"])
