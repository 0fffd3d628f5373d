#!/usr/bin/env python3
"""From a bare machine to a proven cluster: hosts, deployment, proof, and how long each phase took.

Run by ``make demo`` from the checkout's virtual environment. A second run changes nothing and is quick.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INVENTORY = "inventories/lab"
URL = "https://127.0.0.1:4200"
SETTINGS = ROOT / "build" / "lab" / "lab" / "client.sh"


@dataclass(frozen=True)
class Phase:
    """One step of the demonstration, and the command that takes it."""

    name: str
    command: Sequence[str]


def phases() -> list[Phase]:
    """The steps in their order."""
    playbook = [_tool("ansible-playbook"), "-i", INVENTORY]
    return [
        Phase("Docker Engine", ["tools/docker-engine"]),
        Phase("image of the test hosts", ["tools/host-image", "bookworm"]),
        Phase("7 hosts", [*playbook, "molecule/shared/create.yml"]),
        Phase("deployment", [*playbook, "playbooks/site.yml"]),
        Phase("proof", [*playbook, "molecule/shared/verify.yml"]),
        Phase("status", [*playbook, "playbooks/status.yml"]),
        Phase(
            "login", [*playbook, "playbooks/client_settings.yml", "-e", f"client_settings_file={SETTINGS} client_settings_url={URL}/api"]
        ),
    ]


def run(phase: Phase) -> float:
    """Runs one phase, its output going to the terminal, and returns its seconds. Exits when the phase fails."""
    print(f"\n=== {phase.name} ===", flush=True)
    start = time.monotonic()
    result = subprocess.run(list(phase.command), cwd=ROOT, env=_environment(), check=False)
    if result.returncode != 0:
        print(f"\nmake demo stopped at '{phase.name}': {' '.join(phase.command)} ended with {result.returncode}.", file=sys.stderr)
        print("The reason is above. Run `make demo` again to go on, or `make clean` to remove everything.", file=sys.stderr)
        raise SystemExit(1)
    return time.monotonic() - start


def main() -> int:
    """Runs all phases and prints where the service answers, and how to log in."""
    seconds = {phase.name: run(phase) for phase in phases()}
    width = max(map(len, seconds))
    print(f"\n{login(SETTINGS)}\n")
    for name, taken in seconds.items():
        print(f"  {name:<{width}}  {taken:6.1f} s")
    print(f"  {'in all':<{width}}  {sum(seconds.values()):6.1f} s")
    return 0


def login(settings: Path) -> str:
    """How to log in, from a file of settings for a shell: what is printed can be pasted."""
    exports = settings.read_text(encoding="utf-8")
    values = dict(word.split("=", 1) for word in shlex.split(exports) if "=" in word)
    url, auth_string = values["PREFECT_API_URL"].removesuffix("/api"), values["PREFECT_API_AUTH_STRING"]
    user, _colon, password = auth_string.partition(":")
    authority = values.get("PREFECT_API_SSL_CERT_FILE", "")
    trusting = f" --cacert {shlex.quote(authority)}" if authority else ""
    return f"""\
Prefect answers at {url}
{trust(authority)}
In a browser, the login page has one field for user and password together:
{auth_string}

Other clients of the HTTP API take them apart:
user      {user}
password  {password}
curl{trusting} --user {shlex.quote(auth_string)} {url}/api/admin/version

Prefect's client, in a shell:
. {shlex.quote(str(settings))}

which is the same as:
{exports.rstrip()}"""


def trust(authority: str) -> str:
    """What a browser has to be told of a certificate that is from an authority of our own."""
    if not authority:
        return ""
    return f"""
Its certificate is from this deployment's own authority, which no browser knows yet. Import this file as an authority (in Firefox:
Settings, Certificates, Authorities, Import; in Chrome: chrome://certificate-manager), or accept the warning once:
{authority}
"""


def _tool(name: str) -> str:
    return str(ROOT / ".venv" / "bin" / name)


def _environment() -> dict[str, str]:
    path = re.sub(r"[^:]*/\.pyenv/shims:?", "", os.environ.get("PATH", ""))
    return {**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{path}", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}


if __name__ == "__main__":
    sys.exit(main())
