#!/usr/bin/env python3
"""Make a virtual environment with another ansible-core than this checkout's own, and print its folder.

`tools/ansible_venv.py 2.21 [3.13]` takes the pins of requirements/ansible-2.21.in, and the newest Python of this machine that they run on
unless one is named. The result stays in build/, named after the pins and the interpreter, so that a second call costs nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from interpreters import interpreters
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"


class NoPythonError(Exception):
    """This machine has no Python that the pins run on."""


def cores() -> list[str]:
    """The minor versions of ansible-core that have pins, oldest first."""
    return sorted((path.stem.partition("-")[2] for path in FOLDER.glob("ansible-*.in")), key=Version)


def pythons(core: str) -> dict[str, Path]:
    """The Pythons of this machine that the pins say they run on."""
    lines = [line.partition("#")[0].strip() for line in (FOLDER / f"ansible-{core}.in").read_text().splitlines()]
    (marker,) = [found.marker for found in map(Requirement, filter(None, lines)) if found.name == "ansible-core" and found.marker]
    return {version: path for version, path in interpreters().items() if marker.evaluate({"python_version": version})}


def make(core: str, python: str = "") -> Path:
    """The folder of the environment, made unless it is there."""
    usable = pythons(core)
    if python:
        usable = {version: path for version, path in usable.items() if version == python}
    if not usable:
        raise NoPythonError(
            f"this machine has no Python {python or 'that requirements/ansible-' + core + '.in names'}; it has {', '.join(interpreters())}"
        )
    version, interpreter = list(usable.items())[-1]
    pins = FOLDER / f"ansible-{core}.in"
    digest = hashlib.sha256(pins.read_bytes() + str(interpreter).encode()).hexdigest()[:12]
    target = ROOT / "build" / f"ansible-{core}-{version}-{digest}"
    # Not relocatable: the lines that this puts first in a script keep ansible-test 2.17 from starting. The file marks one that is complete.
    whole = target / "whole"
    if not whole.exists():
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or str(ROOT / ".venv" / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", interpreter, target], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", target / "bin" / "python", "--requirements", pins], check=True)
        whole.touch()
    return target


def main(arguments: Sequence[str]) -> int:
    """Make the environment that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("core", choices=cores(), help="a minor version of ansible-core")
    parser.add_argument("python", nargs="?", default="", help="a minor version of Python, such as 3.13")
    given = parser.parse_args(arguments)
    try:
        print(make(given.core, given.python))
    except NoPythonError as error:
        print(f"ansible_venv: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
