#!/usr/bin/env python3
"""Write the table of a release's settings: every name that it knows each of them by.

`tools/settings_table.py 3.8.8` asks the release itself, installed from its lock file, and writes
roles/prefect/files/settings/3.8.8.json. `make lock` does it for the release that it locks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build" / "collections"))

from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.names import SCRIPT, TABLES  # noqa: E402  found by what is above


def interpreter(version: str) -> str:
    """That of an environment which holds what the lock file of a version says."""
    made = subprocess.run([ROOT / "tools" / "client-venv", version], stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.strip().splitlines()[-1]


def table(python: str) -> dict[str, Any]:
    """What an installed release, by its interpreter, says."""
    # Only names are wanted, and a bad value of this machine's own settings would keep the release from loading.
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("PREFECT")}
    with tempfile.TemporaryDirectory(prefix="prefect-settings-") as folder:
        environment = {**clean, "HOME": folder, "PREFECT_HOME": folder}
        command = [python, "-c", f"{SCRIPT}\nprint(json.dumps(names))"]
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.strip().rpartition("\n")[2]))


def text(found: dict[str, Any]) -> str:
    """A table as its file has it: one setting a line."""
    settings = ",\n".join(f"    {json.dumps(name)}: {json.dumps(older)}" for name, older in found["settings"].items())
    groups = ",\n".join(f"    {json.dumps(name)}" for name in found["groups"])
    return f'{{\n  "groups": [\n{groups}\n  ],\n  "settings": {{\n{settings}\n  }}\n}}\n'


def write(version: str) -> Path:
    """Writes the table of a locked release, and says where."""
    target = TABLES / f"{version}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(text(table(interpreter(version))), encoding="utf-8")
    return target


def main(versions: Sequence[str]) -> int:
    """Writes the tables of these versions, or else of all that have a lock file."""
    known = sorted(path.stem for path in (TABLES.parent / "locks").glob("*.txt") if "-" not in path.stem)
    for version in versions or known:
        print(f"wrote {write(version)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
