"""The collection as its users get it: a tarball, an installed copy, and the tree that ansible-test wants."""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

# ansible-test downloads pip's bootstrap script from a host that a closed network does not reach. Every Python
# carries pip anyway, so the same is done from there, on every machine, with the index that this machine uses.
PIP_BOOTSTRAP = """\
import ensurepip, os, subprocess, sys
environment = {key: value for key, value in os.environ.items() if key != "PIP_CONFIG_FILE"}
ensurepip.bootstrap(upgrade=True)
arguments = [item for item in sys.argv[1:] if item not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "-q", *arguments], env=environment))
"""


@dataclass(frozen=True)
class Installed:
    """A collection installed from its tarball, seen from a user's own empty folder."""

    commands: Commands
    collections: Path
    folder: Path

    def run(self, arguments: list[str], *, expect: int = 0) -> str:
        """Run a command in the user's folder, with the installed copy as the only one to be found."""
        env = {"ANSIBLE_COLLECTIONS_PATH": str(self.collections), "ANSIBLE_HOME": str(self.folder / ".ansible")}
        return self.commands.run(arguments, cwd=self.folder, env=env, expect=expect)


@pytest.fixture(scope="session")
def galaxy(root: Path) -> dict[str, Any]:
    """The content of galaxy.yml."""
    data: dict[str, Any] = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))
    return data


@pytest.fixture(scope="session")
def tarball(commands: Commands, galaxy: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection as it would be published."""
    folder = tmp_path_factory.mktemp("tarball")
    commands.run(["ansible-galaxy", "collection", "build", "--output-path", folder])
    return folder / "{namespace}-{name}-{version}.tar.gz".format(**galaxy)


@pytest.fixture(scope="session")
def installed(commands: Commands, tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The tarball installed into an empty folder, without a network."""
    collections = tmp_path_factory.mktemp("collections")
    result = Installed(commands, collections, tmp_path_factory.mktemp("user"))
    result.run(["ansible-galaxy", "collection", "install", str(tarball), "-p", str(collections), "--offline"])
    return result


@dataclass(frozen=True)
class Workspace:
    """A copy of the checkout in the tree that ansible-test wants, and a home folder of its own."""

    commands: Commands
    collection: Path
    home: Path

    def ansible_test(self, *arguments: str) -> str:
        """Run ansible-test in the copy, on the Python that runs this test."""
        path = [part for part in self.commands.environment()["PATH"].split(":") if "pyenv" not in part]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return self.commands.run(
            ["ansible-test", *arguments, "--venv", "--python", version, "--color", "no"],
            cwd=self.collection,
            env={"HOME": str(self.home), "PATH": ":".join(path)},
            timeout=900,
            log=self.commands.root / "build" / "logs" / f"ansible-test-{arguments[0]}.log",
        )


@pytest.fixture(scope="session")
def workspace(commands: Commands, root: Path, checkout_copy: Path, galaxy: Mapping[str, Any]) -> Iterator[Workspace]:
    """The tree for ansible-test below build/, made anew; its home, with the environments built there, is kept.

    Another run of these tests in the same checkout waits until this one has ended.
    """
    base = root / "build" / "ansible-test"
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield make_workspace(commands, base, checkout_copy, galaxy)


def make_workspace(commands: Commands, base: Path, checkout_copy: Path, galaxy: Mapping[str, Any]) -> Workspace:
    """The tree and the home folder below `base`."""
    collections = base / "ansible_collections"
    shutil.rmtree(collections, ignore_errors=True)
    collection = collections / galaxy["namespace"] / galaxy["name"]
    shutil.copytree(checkout_copy, collection, symlinks=True)
    for dependency in galaxy["dependencies"]:
        shutil.copytree(installed_collection(dependency), collections.joinpath(*dependency.split(".")))
    commands.run(["git", "init", "-q"], cwd=collection)
    (collection / ".git" / "info" / "exclude").write_text("/tests/output/\n", encoding="utf-8")
    commands.run(["git", "add", "--all"], cwd=collection)
    bootstrap = base / "home" / ".ansible" / "test" / "cache" / f"get_pip_{pip_version().replace('.', '_')}.py"
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    bootstrap.write_text(PIP_BOOTSTRAP, encoding="utf-8")
    return Workspace(commands, collection, base / "home")


def installed_collection(name: str) -> Path:
    """The folder of a collection that the `ansible` package carries."""
    # By its files: the unit tests put a module of their own in the place of `ansible_collections`.
    folder = Path(str(importlib.metadata.distribution("ansible").locate_file("ansible_collections"))).joinpath(*name.split("."))
    if folder.is_dir():
        return folder
    pytest.fail(f"the collection {name} is not installed: expected beside the `ansible` package; run `make venv`")


def pip_version() -> str:
    """The version of pip that ansible-test asks its bootstrap script for; the script's file name has it."""
    spec = importlib.util.find_spec("ansible_test")
    for location in (spec.submodule_search_locations if spec else None) or []:
        source = (Path(location) / "_internal" / "python_requirements.py").read_text(encoding="utf-8")
        found = re.search(r"default_packages = dict\(\s*pip='([\d.]+)'", source)
        if found:
            return found.group(1)
    pytest.fail("cannot tell which pip ansible-test wants: its python_requirements.py has changed")
