#!/usr/bin/env python3
"""From a bare machine to a proven cluster: hosts, deployment, proof, and how long each phase took.

Run by ``make demo`` and ``make demo-ha`` from the checkout's virtual environment. A second run changes nothing and is quick.
"""

from __future__ import annotations

import argparse
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
URL = "https://127.0.0.1:4200"


@dataclass(frozen=True)
class Demo:
    """A deployment to show: its inventory, how many hosts that has, and where it is reached if not at its own address."""

    name: str
    hosts: int
    url: str = ""
    # The host whose loss is worth to be seen.
    loses: str = ""

    @property
    def settings(self) -> Path:
        """Where the settings of Prefect's client are."""
        return ROOT / "build" / "lab" / self.name / "client.sh"


DEMOS = {"demo": Demo("lab", 7, url=URL), "demo-ha": Demo("lab-ha", 8, loses="state1")}


@dataclass(frozen=True)
class Phase:
    """One step of the demonstration, and the command that takes it."""

    name: str
    command: Sequence[str]


def phases(demo: Demo) -> list[Phase]:
    """The steps in their order."""
    playbook = [_tool("ansible-playbook"), "-i", f"inventories/{demo.name}"]
    settings = f"client_settings_file={demo.settings}" + (f" client_settings_url={demo.url}/api" if demo.url else "")
    return [
        Phase("Docker Engine", ["tools/docker-engine"]),
        Phase("image of the test hosts", ["tools/host-image", "bookworm"]),
        Phase(f"{demo.hosts} hosts", [*playbook, "molecule/shared/create.yml"]),
        Phase("deployment", [*playbook, "playbooks/site.yml"]),
        Phase("proof", [*playbook, "molecule/shared/verify.yml"]),
        Phase("status", [*playbook, "playbooks/status.yml"]),
        Phase("login", [*playbook, "playbooks/client_settings.yml", "-e", settings]),
    ]


def run(phase: Phase, target: str) -> float:
    """Runs one phase of the target, its output going to the terminal, and returns its seconds. Exits when the phase fails."""
    print(f"\n=== {phase.name} ===", flush=True)
    start = time.monotonic()
    result = subprocess.run(list(phase.command), cwd=ROOT, env=_environment(), check=False)
    if result.returncode != 0:
        print(f"\nmake {target} stopped at '{phase.name}': {' '.join(phase.command)} ended with {result.returncode}.", file=sys.stderr)
        print(f"The reason is above. Run `make {target}` again to go on, or `make clean` to remove everything.", file=sys.stderr)
        raise SystemExit(1)
    return time.monotonic() - start


def main(arguments: Sequence[str]) -> int:
    """Runs all phases and prints where the service answers, and how to log in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", nargs="?", choices=DEMOS, default="demo", help="which of them (demo)")
    target: str = parser.parse_args(arguments).target
    demo = DEMOS[target]
    seconds = {phase.name: run(phase, target) for phase in phases(demo)}
    width = max(map(len, seconds))
    print(f"\n{login(demo.settings)}\n")
    if demo.loses:
        print(f"{loss(demo)}\n")
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


def loss(demo: Demo) -> str:
    """How to lose a host and watch the service meanwhile, on one line that can be pasted."""
    values = dict(word.split("=", 1) for word in shlex.split(demo.settings.read_text(encoding="utf-8")) if "=" in word)
    host = f"prefect-{demo.name}-{demo.loses}"
    asking = [
        "curl",
        "--silent",
        "--noproxy",
        "*",
        "--max-time",
        "2",
        "--cacert",
        values["PREFECT_API_SSL_CERT_FILE"],
        "--output",
        "/dev/null",
    ]
    status = f'{shlex.join(asking)} --write-out "second $SECONDS: %{{http_code}}\\n" {values["PREFECT_API_URL"]}/ready'
    return f"""\
Any one host may be lost. This kills one, shows for half a minute whether the API reaches its database, and starts the host again:
docker kill {host}; SECONDS=0; while [ $SECONDS -lt 30 ]; do {status}; sleep 1; done; docker start {host}"""


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
    sys.exit(main(sys.argv[1:]))
