"""What the scenarios' tests do to a lab: run playbooks on it, run scripts on its hosts, and load it meanwhile."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import yaml
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
NEW: str = yaml.safe_load((ROOT / "roles/common/defaults/main.yml").read_text())["prefect_version"]
OLD: str = yaml.safe_load((ROOT / "molecule/shared/older.yml").read_text())[0]["vars"]["prefect_version"]
PREVIOUS: str = yaml.safe_load((ROOT / "molecule/shared/previous.yml").read_text())[0]["vars"]["prefect_version"]
# What `core` may say, and the minor version of ansible-core that it stands for: of those that the collection is tested with.
CORES = dict(
    zip(
        ("oldest", "newest"),
        (
            sorted((path.stem.partition("-")[2] for path in (ROOT / "requirements").glob("ansible-*.in")), key=Version)[end]
            for end in (0, -1)
        ),
        strict=True,
    )
)
PLAY_SECONDS = 900
# In spite of its name it is a variable of the inventory, and says which characters every password ends with.
SUFFIX = "@:/%#?$'\" \\ end"

# On every host: what its own clients trust.
HOSTS_AUTHORITY = "/etc/prefect-tls/ca.crt"


def opener(authority: Path | None = None) -> Callable[..., Any]:
    """Asks the lab: never through a proxy that the environment names. The authority is what `https` has to be from."""
    handlers = [HTTPSHandler(context=ssl.create_default_context(cafile=authority))] if authority else []
    return build_opener(ProxyHandler({}), *handlers).open


direct = opener()


@dataclass(frozen=True)
class Played:
    """How a playbook ended: its exit code, all of its output, and the seconds that it took."""

    code: int
    output: str
    seconds: float

    @cached_property
    def changed(self) -> int:
        """The hosts' changes in all."""
        return sum(map(int, re.findall(r"changed=(\d+)", self.output)))

    def says(self, *words: str) -> bool:
        """Whether the words are there, wherever lines were broken."""
        text = " ".join(self.output.split())
        return all(" ".join(word.split()) in text for word in words)


@dataclass
class Load:
    """A load in the background; `report` is there when it has ended."""

    report: dict[str, Any] = field(default_factory=dict)
    flow: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lab:
    """The hosts of one scenario; `address` and `port` are where this machine reaches the balancer. Its inventory is below `folder`.

    `tls` is whether that has TLS on.
    """

    name: str
    port: int
    folder: str = "molecule"
    tls: bool = True
    address: str = "127.0.0.1"

    @property
    def inventory(self) -> str:
        return f"{self.folder}/{self.name}/inventory"

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}:{self.port}/api"

    @property
    def authority(self) -> Path | None:
        """The private authority that everything of the lab is from, which Ansible has made on this machine."""
        return ROOT / "build/lab" / self.name / "tls" / "ca.crt" if self.tls else None

    @cached_property
    def open(self) -> Callable[..., Any]:
        """Asks any part of it, by `https` if TLS is on."""
        return opener(self.authority)

    @property
    def client(self) -> dict[str, str]:
        """Settings of Prefect's client but for the address: the login, and the authority to trust."""
        trust = {"PREFECT_API_SSL_CERT_FILE": str(self.authority)} if self.tls else {}
        return {"PREFECT_API_AUTH_STRING": self.auth_string, **trust}

    @property
    def auth_string(self) -> str:
        return f"admin:{(ROOT / 'build/lab' / self.name / 'auth').read_text().strip()}{SUFFIX}"

    def start(self, playbook: str, *arguments: str, callbacks: str = "", core: str = "", **variables: Any) -> subprocess.Popen[str]:
        """Begins a playbook; `variables` win over the inventory's.

        `callbacks` are Ansible's, for more output; `core` is another ansible-core than this checkout's, one of CORES.
        """
        command = [ansible_playbook(core), "-i", self.inventory, f"playbooks/{playbook}.yml", "-e", json.dumps(variables), *arguments]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment() | ({"ANSIBLE_CALLBACKS_ENABLED": callbacks} if callbacks else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def play(
        self, playbook: str, *arguments: str, expect: int | None = 0, seconds: float = PLAY_SECONDS, core: str = "", **more: Any
    ) -> Played:
        """Runs a playbook to its end. The test fails, with the output, unless it ends with `expect` (None: any). `more` is for `start`."""
        begun = time.monotonic()
        process = self.start(playbook, *arguments, core=core, **more)
        output, _errors = process.communicate(timeout=seconds)
        played = Played(process.returncode, output, time.monotonic() - begun)
        assert expect is None or played.code == expect, f"{playbook}.yml ended with {played.code}, not {expect}:\n{output[-12000:]}"
        return played

    def on(self, host: str, script: str, check: bool = True) -> str:
        """Runs a script as root on one of the hosts, and returns what it prints. With `check`, raises CalledProcessError if it fails."""
        command = ["docker", "exec", f"prefect-{self.name}-{host}", "bash", "-euc", script]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=check, timeout=120).stdout
        except subprocess.CalledProcessError as error:
            # Its own message has neither.
            error.add_note(f"{host}: {error.stdout[-2000:]}{error.stderr[-2000:]}")
            raise

    def as_prefect(self, host: str, script: str, *arguments: str, unit: str = "") -> list[str]:
        """The command that runs a Python script on one of the hosts, as Prefect's user and with the servers' settings."""
        properties = ["--property=User=prefect", "--property=EnvironmentFile=/etc/prefect/prefect.env"]
        name = [f"--unit={unit}"] if unit else []
        python = ["/opt/prefect/current/bin/python", "-c", script, *arguments]
        return ["docker", "exec", f"prefect-{self.name}-{host}", "systemd-run", "--quiet", "--wait", "--pipe", *name, *properties, *python]

    def printed(self, host: str, script: str, *arguments: str) -> str:
        """What such a script prints."""
        command = self.as_prefect(host, script, *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    def verified(self, host: str, server: str, authority: str) -> bool:
        """Whether one on a host that trusts the authority connects to a server, given as an address and options of openssl."""
        self.on(host, f"cat >/tmp/trusted.crt <<'END'\n{authority}\nEND")
        command = f"openssl s_client -connect {server} -CAfile /tmp/trusted.crt -verify_return_error </dev/null >/dev/null 2>&1"
        return self.on(host, f"{command} && echo yes || echo no").strip() == "yes"

    def ready(self, host: str) -> bool:
        """Whether an API host's server answers, and reaches its database."""
        trusting = f"urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile='{HOSTS_AUTHORITY}'))" if self.tls else ""
        asking = f"urllib.request.build_opener(urllib.request.ProxyHandler({{}}), {trusting})"
        ask = f"import ssl, urllib.request; print({asking}.open('{self.scheme}://127.0.0.1:4200/api/ready', timeout=2).status)"
        return self.on(host, f'python3 -c "{ask}" 2>/dev/null || true') == "200\n"

    def versions(self, hosts: Sequence[str]) -> list[str]:
        """The version of Prefect that each host points at."""
        return [self.on(host, "basename $(readlink /opt/prefect/current)").strip().rpartition("-")[0] for host in hosts]

    def started(self, hosts: Sequence[str], unit: str = "prefect-api@4200") -> list[str]:
        """The main process of a unit on each host, which changes when it is restarted."""
        return [self.on(host, f"systemctl show -P ExecMainStartTimestampMonotonic -P MainPID {unit}") for host in hosts]

    def refusing(self, hosts: Sequence[str]) -> list[str]:
        """The hosts on which a server is drained."""
        return [host for host in hosts if self.on(host, "nft list table inet prefect_drain 2>/dev/null || true").strip()]

    @contextmanager
    def load(
        self,
        folder: Path,
        flow: str = "",
        rate: float = 40,
        max_p99: float = 0,
        *,
        seconds: float = PLAY_SECONDS,
        browsers: int = 0,
        authority: Path | None = None,
        timeline: bool = False,
    ) -> Iterator[Load]:
        """Loads the balancer for as long as the context lasts; `flow` is a client version whose flow runs all that time, too.

        `browsers` load the pages of the user interface beside that. `authority` is what its requests trust in place of the lab's.
        `timeline` has the report tell of every request.

        The reports are complete afterwards. Whether they are good is for the test to say.
        """
        stop, ready = folder / "stop", folder / "ready"
        env = {**environment(), **self.client}
        common = ["--url", self.url, "--until-file", str(stop), "--max-seconds", str(seconds)]
        limits = ["--rate", str(rate), "--max-p99", str(max_p99), "--browsers", str(browsers), *["--timeline"] * timeline]
        trust = ["--ca-file", str(authority or self.authority)] if self.tls else []
        commands = {
            "report": [sys.executable, "tests/load/load.py", *common, *limits, *trust, "--auth-env", "PREFECT_API_AUTH_STRING"],
        }
        if flow:
            python = subprocess.run(
                ["tools/client-venv", flow], cwd=ROOT, env=env, capture_output=True, text=True, check=True
            ).stdout.strip()
            commands["flow"] = [python, "tests/load/flow.py", *common]
        running = {
            name: subprocess.Popen(
                [*command, "--ready-file", f"{ready}-{name}", "--report", str(folder / f"{name}.json")],
                cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for name, command in commands.items()
        }  # fmt: skip
        load = Load()
        try:
            wait_for([Path(f"{ready}-{name}") for name in running], 60)
            yield load
        finally:
            stop.touch()
            for name, process in running.items():
                try:
                    output, _errors = process.communicate(timeout=120)
                finally:
                    process.kill()
                print(output)
                setattr(load, name, json.loads((folder / f"{name}.json").read_text()))
            stop.unlink()


def ansible_playbook(core: str) -> str:
    """The command of this checkout's ansible-core, or of another if this machine has a Python for it."""
    if not core:
        return "ansible-playbook"
    made = subprocess.run([sys.executable, "tools/ansible_venv.py", CORES[core]], cwd=ROOT, capture_output=True, text=True, check=False)
    print(made.stderr)
    return f"{made.stdout.strip()}/bin/ansible-playbook" if made.returncode == 0 else "ansible-playbook"


def summary(what: str, report: dict[str, Any]) -> str:
    """A load's report on one line, and the first requests that failed."""
    seen = report["pages"]
    pages = f"{seen['broken']} of {seen['loaded']} pages broken, {seen['missing']} of {seen['requests']} of their requests failed"
    lines = [f"\n{what}: {report['requests']} requests, {report['failed']} failed, {report['lost']} lost, {report['latency']}; {pages}"]
    lines += [f"  {each['at'][11:23]} {each['method']} {each['path']}: {each['what'][:80]}" for each in report["failures"][:5]]
    return "\n".join(lines)


def wait_for(files: Sequence[Path], seconds: float) -> None:
    """Waits until all files are there. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not all(path.exists() for path in files):
        if time.monotonic() > end:
            raise TimeoutError(f"not there after {seconds:g} s: {', '.join(str(path) for path in files if not path.exists())}")
        time.sleep(0.1)


def environment() -> dict[str, str]:
    """This process's environment with the checkout's tools first, and its configuration of Ansible."""
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
