#!/usr/bin/env python3
"""Prove locks on this machine: servers are started from each one, and Prefect's own client does everything that a user does.

`tools/lock_proof.py 3.9.1` proves the lock file of that name on every Python that is here, from 3.11 on, and writes the result to
proofs.json beside the lock files. `make lock` uses the same proof to find a set of packages that passes.

PostgreSQL and Redis run in a container of the lab's image. The servers are processes of this machine, with the settings that the role
`prefect` computes. Everything listens on 127.0.0.1, and all of it is gone afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interpreters import VERSIONS, interpreters
from ports import free_port

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "roles" / "prefect" / "files" / "locks"
PROOFS = LOCKS / "proofs.json"
IMAGE = "selfhosted-prefect-host:bookworm"
START_SECONDS = 120
STEP_SECONDS = 180
CHECK_SECONDS = 120
START = "start"
# A password is not needed: the ports are published on 127.0.0.1, and the container lives for minutes.
SETUP = r"""
printf 'exit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install -qq -y --no-install-recommends postgresql redis-server)
"${install[@]}" >/dev/null 2>&1 || { apt-get update -qq && "${install[@]}" >/dev/null; }
configuration=$(ls -d /etc/postgresql/*/main)
echo 'host all all all trust' >>"$configuration/pg_hba.conf"
printf "listen_addresses = '*'\nfsync = off\nssl = off\nmax_connections = 200\n" >>"$configuration/postgresql.conf"
pg_ctlcluster "$(basename "$(dirname "$configuration")")" main start
redis-server --daemonize yes --protected-mode no --save '' --dir /tmp >/dev/null
"""


class ProofError(Exception):
    """The proof could not be carried out at all; the message says why."""


def run(
    command: Sequence[str | Path], *, seconds: float = STEP_SECONDS, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """The output of a command. Raises ProofError with its last lines if it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds, env=env, cwd=cwd)
    except subprocess.TimeoutExpired as error:
        raise ProofError(f"{' '.join(words[:4])} did not end in {seconds:.0f} s") from error
    if done.returncode:
        raise ProofError(f"{' '.join(words[:4])} failed: {last_lines(done.stderr or done.stdout)}")
    return done.stdout


def last_lines(text: str, count: int = 3) -> str:
    """The end of an output on one line, without what only decorates it."""
    lines = [" ".join(line.split()) for line in text.splitlines() if re.search(r"\w", line)]
    return " | ".join(lines[-count:])[-400:]


@dataclass(frozen=True)
class Subject:
    """What is proved: the lock file of a version, on a Python."""

    version: str
    lock: Path
    interpreter: Path


@dataclass(frozen=True)
class State:
    """A container with PostgreSQL and Redis, and the ports of this machine that they are reached at."""

    name: str
    postgres: int
    redis: int

    def execute(self, script: str) -> str:
        """The output of a script in the container."""
        return run(["docker", "exec", self.name, "bash", "-euc", script])

    def fresh(self) -> None:
        """Empty both."""
        self.execute(
            "redis-cli flushall >/dev/null; cd /; runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 "
            "-c 'DROP DATABASE IF EXISTS prefect WITH (FORCE)' -c 'CREATE DATABASE prefect'"
        )


@contextlib.contextmanager
def state() -> Iterator[State]:
    """PostgreSQL and Redis for as long as the context lasts."""
    run([ROOT / "tools" / "host-image", "bookworm"], seconds=600)
    name = f"prefect-lock-proof-{secrets.token_hex(3)}"
    published = ["-p", "127.0.0.1::5432", "-p", "127.0.0.1::6379"]
    run(["docker", "run", "--detach", "--rm", "--name", name, *published, "--shm-size", "256m", IMAGE, "sleep", "7200"])
    try:
        ports = [int(run(["docker", "port", name, f"{port}/tcp"]).split(":")[-1]) for port in (5432, 6379)]
        found = State(name, *ports)
        found.execute(SETUP)
        yield found
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def settings(subject: Subject, backing: State, home: Path) -> dict[str, str]:
    """What the role `prefect` gives a server, for this machine."""
    variables = {
        "prefect_version": subject.version,
        "prefect_lock_file": str(subject.lock),
        "prefect_database_host": "127.0.0.1",
        "prefect_database_port": backing.postgres,
        "prefect_database_user": "postgres",
        "prefect_database_password": "unused",
        "prefect_redis_host": "127.0.0.1",
        "prefect_redis_port": backing.redis,
        "prefect_redis_username": "default",
        "prefect_redis_password": "",
        "prefect_auth_string": "admin:proof",
        "prefect_home": str(home),
        "settings_file": str(home / "settings.json"),
    }
    ansible = Path(sys.executable).with_name("ansible-playbook")
    env = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(ROOT / "build" / "ansible-home")}
    run([ansible, "-i", "localhost,", ROOT / "tools" / "lock_settings.yml", "-e", json.dumps(variables)], env=env, cwd=ROOT)
    computed = json.loads((home / "settings.json").read_text())
    return {name: str(value) for name, value in computed.items() if not name.startswith("PREFECT_API_") and value is not None}


@dataclass(frozen=True)
class Release:
    """A virtual environment that holds what a lock file says, in a folder of its own."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def install(self, uv: str, subject: Subject) -> None:
        """Install what the lock file says."""
        run([uv, "venv", "--quiet", "--python", subject.interpreter, self.folder / "venv"])
        run([uv, "pip", "install", "--quiet", "--require-hashes", "--python", self.python, "--requirements", subject.lock], seconds=600)

    @contextlib.contextmanager
    def serving(self, environment: Mapping[str, str]) -> Iterator[str]:
        """An API server and the background services, on a migrated database; the server's address."""
        own = {"PATH": os.defpath, "HOME": str(self.folder), **environment}
        prefect = [str(self.python), "-m", "prefect", "server"]
        run([*prefect, "database", "upgrade", "--yes"], env=own, cwd=self.folder)
        port = free_port()
        commands = {
            "the API server": [*prefect, "start", "--no-services", "--host", "127.0.0.1", "--port", str(port)],
            "the background services": [*prefect, "services", "start"],
        }
        with contextlib.ExitStack() as stack:
            running = {name: stack.enter_context(process(command, own, self.folder)) for name, command in commands.items()}
            url = f"http://127.0.0.1:{port}/api"
            end = time.monotonic() + START_SECONDS
            while not healthy(url):
                for name, (child, log) in running.items():
                    if child.poll() is not None or time.monotonic() > end:
                        raise ProofError(f"{name} did not start: {last_lines(log.read_text(errors='replace'))}")
                time.sleep(0.5)
            yield url


@contextlib.contextmanager
def process(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process and its log; its whole group ends with the context."""
    log = folder / f"{command[4]}.log"
    with log.open("wb") as stream:
        child = subprocess.Popen(command, env=environment, cwd=folder, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield child, log
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)


def healthy(url: str) -> bool:
    """Whether a server answers."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def prove(uv: str, subject: Subject, backing: State, only: Sequence[str] = ()) -> dict[str, str]:
    """What fails when servers run from a lock file: by the name of the check, its message. Empty: all is well."""
    folder = Path(tempfile.mkdtemp(prefix="prefect-lock-proof-"))
    try:
        backing.fresh()
        release = Release(folder)
        (folder / "home").mkdir()
        try:
            environment = settings(subject, backing, folder / "home")
            release.install(uv, subject)
            with release.serving(environment) as url:
                return failures(release.python, url, environment["PREFECT_SERVER_API_AUTH_STRING"], folder / "proof.json", only)
        except ProofError as error:
            return {START: str(error)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def failures(python: Path, url: str, auth: str, report: Path, only: Sequence[str]) -> dict[str, str]:
    """What of the proof fails at an address."""
    checks = [name for name in only if name != START]
    if only and not checks:
        return {}
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()} | {"PREFECT_API_AUTH_STRING": auth}
    command = [str(python), str(ROOT / "tests" / "proof" / "prove.py"), f"--url={url}", f"--json={report}", f"--timeout={CHECK_SECONDS}"]
    command += [f"--only={','.join(checks)}"] if checks else []
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)
    if not report.exists():
        return {START: last_lines(done.stderr or done.stdout)}
    answer: dict[str, Any] = json.loads(report.read_text())
    return {check["name"]: check["detail"].split("; the worker said")[0] for check in answer["checks"] if not check["ok"]}


def digest(lock: Path) -> str:
    """What a lock file is known by: a changed one has to be proved again."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def record(lock: Path, versions: Sequence[str], path: Path = PROOFS) -> None:
    """Write down that a lock file was proved."""
    known = json.loads(path.read_text()) if path.exists() else {}
    known[lock.stem] = {"lock": digest(lock), "proved": time.strftime("%Y-%m-%d", time.gmtime()), "pythons": list(versions)}
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def main(arguments: Sequence[str]) -> int:
    """Prove the lock files that were named; 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="a version that has a lock file, such as 3.8.8")
    parser.add_argument("--python", action="append", choices=VERSIONS, help="prove on this Python only; may be given again")
    given = parser.parse_args(arguments)
    uv = str(Path(sys.executable).with_name("uv"))
    found = {version: path for version, path in interpreters().items() if not given.python or version in given.python}
    failed = not found
    try:
        with state() as backing:
            for version in given.versions:
                lock = LOCKS / f"{version}.txt"
                problems = {python: prove(uv, Subject(version.partition("-")[0], lock, path), backing) for python, path in found.items()}
                for python, problem in problems.items():
                    outcome = "; ".join(f"{check}: {message}" for check, message in problem.items())
                    print(f"{version} on Python {python}: {outcome or 'everything works'}", flush=True)
                if any(problems.values()):
                    failed = True
                else:
                    record(lock, list(found))
    except ProofError as error:
        print(f"lock_proof: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
