"""Put the user interface's files in place before an API server starts, with those of the version before that open pages still load.

When its version has changed Prefect removes the files of the one before and copies its own. A page that was loaded a moment earlier then
asks for files that no server has any more, and so does one that is open and goes to another view. This does the same before, and leaves
the earlier version's hashed files (`assets/`) beside the new ones, until the next version comes. Prefect finds its files in place and
copies nothing.

Should a release of Prefect take no notice, it copies as ever.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from selfhosted_prefect.settings import Settings

PLACEHOLDER = b"/PREFECT_UI_SERVE_BASE_REPLACE_PLACEHOLDER"
KEY = "UI_SERVE_BASE"  # the file in which Prefect writes down what it has copied
TEXTS = (".txt", ".html", ".css", ".js", ".json")
SOURCES = {"v1": "ui", "v2": "ui-v2"}
OFF = ("0", "false", "f", "no", "n", "off")


def bases(environment: Mapping[str, str]) -> dict[str, str]:
    """Below which path each user interface is served, as Prefect works it out."""
    given = environment.get("PREFECT_SERVER_UI_SERVE_BASE") or environment.get("PREFECT_UI_SERVE_BASE") or ""
    base = ("/" + given.removeprefix("/")).rstrip("/") or "/"
    if base.endswith("/v2"):
        return {"v1": base.removesuffix("/v2") or "/", "v2": base}
    return {"v1": base, "v2": f"{base.rstrip('/')}/v2"}


def read(path: Path) -> str:
    """A file's text; nothing when it is not there."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def assets(folder: Path) -> set[str]:
    """The files with hashes in their names, by name. Source maps are for debugging the version that is there."""
    if not (folder / "assets").is_dir():
        return set()
    return {path.name for path in (folder / "assets").iterdir() if path.is_file() and path.suffix != ".map"}


def link(source: Path, target: Path) -> None:
    """One more name for a file, or a copy of it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def build(source: Path, target: Path, base: str, key: str) -> int | None:
    """Puts one user interface in place; how many files of the version before it has. None when it was in place."""
    if read(target / KEY) == key:
        return None
    # What the folder has from earlier still is not taken over again.
    listed = target.with_name(f".{target.name}_files_before")
    own = assets(target) - set(read(listed).split("\n"))
    aside, old = (target.with_name(f".{target.name}.{word}") for word in ("new", "old"))
    for folder in (aside, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, aside)
    for path in aside.rglob("*"):
        if path.suffix in TEXTS and PLACEHOLDER in (content := path.read_bytes()):
            path.write_bytes(content.replace(PLACEHOLDER, b"" if base == "/" else base.encode()))
    before = sorted(own - assets(aside))
    for name in before:
        link(target / "assets" / name, aside / "assets" / name)
    (aside / KEY).write_text(key, encoding="utf-8")
    listed.write_text("\n".join(before), encoding="utf-8")
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return len(before)


def put_in_place(environment: Mapping[str, str], package: Path, release: str) -> int:
    """Puts both user interfaces in place. Returns the exit status."""
    root = environment.get("PREFECT_SERVER_UI_STATIC_DIRECTORY", "")
    enabled = environment.get("PREFECT_SERVER_UI_ENABLED") or environment.get("PREFECT_UI_ENABLED") or "true"
    if not root or enabled.strip().lower() in OFF:
        return 0
    for name, base in bases(environment).items():
        source = package / "server" / SOURCES[name]
        if not source.is_dir():
            continue
        target = Path(root) / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = build(source, target, base, f"{name}:{release}:{base}")
        except OSError as error:
            print(f"ui-files: {target} cannot be put in place ({error}); Prefect tries to do it by itself", file=sys.stderr)
            return 1
        if kept is not None:
            print(f"ui-files: user interface {name} of {release} is in place, with {kept} files of the version before")
    return 0


def main(arguments: Sequence[str], settings: Settings) -> int:
    """The same for the Prefect of this interpreter."""
    argparse.ArgumentParser(description="Put the files of Prefect's user interface in place.").parse_args(arguments)
    found = find_spec("prefect")
    return put_in_place(settings.environment, Path(found.origin).parent, version("prefect")) if found and found.origin else 1
