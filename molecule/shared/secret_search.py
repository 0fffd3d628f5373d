"""Searches a machine for secrets that are where they have no business, for molecule/shared/secrets.yml.

On standard input it takes what to look for, and where, as JSON (`Wanted`): never as arguments, which every user can read. It prints the
findings as a list of JSON, each with the place, the name of the secret and the form it had. It never prints a secret.

Only the standard library, and grep, are needed: it runs on hosts that have nothing else.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import os
import pwd
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

# What is shorter is found everywhere.
SHORTEST = 8
# So long a run of letters and digits of a secret is looked for by itself: it stays as it is, however the rest is escaped.
CORE = 12
# Of a private key each line is a secret.
KEY_LINE = 40
FILES_A_TIME = 400
VIRTUAL = ("/proc", "/sys", "/dev")


def unprivileged() -> str:
    """The user that no file belongs to."""
    return pwd.getpwuid(65534).pw_name


@dataclass(frozen=True)
class Wanted:
    """What to look for, by name, and where. `key_files` are patterns of private keys, whose lines are secrets, too.

    `outputs` are searched with the rights of the user that runs this, `roots` with those of `reader`. With `processes` the command lines
    and the environments of all processes are searched: `owners` may have secrets in their environments. With `journal` systemd's journal
    is.
    """

    secrets: Mapping[str, str]
    key_files: Sequence[str] = ()
    outputs: Sequence[str] = ()
    roots: Sequence[str] = ()
    reader: str = field(default_factory=unprivileged)
    processes: bool = False
    owners: Sequence[str] = ()
    journal: bool = False


@dataclass(frozen=True, order=True)
class Finding:
    """A secret where it has no business, in one of its forms."""

    where: str
    secret: str
    form: str


@dataclass
class Patterns:
    """Byte strings, with the secret and the form that each stands for."""

    found: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    def add(self, name: str, secret: str) -> None:
        for form, pattern in forms(secret):
            for line in pattern.splitlines():
                if len(line) >= SHORTEST:
                    self.found.setdefault(line, (name, form))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.found)

    def within(self, where: str, content: bytes) -> set[Finding]:
        """The findings in a text, each secret once, in the first of its forms."""
        found: dict[str, str] = {}
        for pattern, (secret, form) in self.found.items():
            if secret not in found and pattern in content:
                found[secret] = form
        return {Finding(where, secret, form) for secret, form in found.items()}


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """A secret as it can be written; those that come first name a finding."""
    plain = secret.encode()
    yield "plain", plain
    yield "percent-encoded", quote(secret, safe="").encode()
    yield "percent-encoded", quote(secret).encode()
    yield "percent-encoded", quote_plus(secret).encode()
    once = json.dumps(secret)[1:-1]
    for written in (once, json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(once)[1:-1]):
        yield "JSON", written.encode()
    yield "Python", repr(secret)[1:-1].encode()
    yield "shell", shlex.quote(secret).encode()
    yield "YAML", secret.replace("'", "''").encode()
    yield "systemd", re.sub(r'(["\\`$])', r"\\\1", secret).encode()
    yield "HTML", html.escape(secret).encode()
    yield "hexadecimal", plain.hex().encode()
    core = max(re.findall(r"[A-Za-z0-9]+", secret), key=len, default="")
    if len(core) >= CORE:
        yield "in part", core.encode()
    for part in {secret, core} if len(core) >= CORE else {secret}:
        yield from (("base64", pattern) for pattern in within_base64(part.encode()))


def within_base64(part: bytes) -> Iterator[bytes]:
    """What base64 has of a part in any case, whatever stands before and after it: in front may be 0, 1 or 2 bytes of a group of three."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + part)
        # The first characters depend on what stands before, the last on what comes after.
        start, end = (0, 2, 3)[before], len(encoded) - (0, 2, 3)[-(before + len(part)) % 3]
        yield encoded[start:end]
        yield encoded[start:end].replace(b"+", b"-").replace(b"/", b"_")


def patterns(wanted: Wanted) -> Patterns:
    """Everything to look for."""
    made = Patterns()
    for name, secret in wanted.secrets.items():
        made.add(name, secret)
    for pattern in wanted.key_files:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            for name, line in key_lines(path):
                made.found.setdefault(line.encode(), (name, "plain"))
    return made


def key_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a private key's body."""
    lines = itertools.dropwhile(lambda line: "PRIVATE KEY" not in line, path.read_text(errors="replace").splitlines())
    return ((f"the private key {path}", line) for line in lines if len(line) >= KEY_LINE and re.fullmatch(r"[A-Za-z0-9+/=]+", line))


def grep(wanted: Patterns, *, files: Sequence[str] = (), stdin: Any = None) -> list[str]:
    """The files that have one of the patterns, or a name for standard input if that has."""
    descriptor = os.memfd_create("patterns")
    try:
        os.write(descriptor, b"".join(pattern + b"\n" for pattern in wanted))
        command = [
            "grep",
            "--text",
            "--files-with-matches",
            "--null",
            "--fixed-strings",
            f"--file=/proc/self/fd/{descriptor}",
            "--",
            *files,
        ]
        done = subprocess.run(
            command,
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            check=False,
            pass_fds=[descriptor],
            env={**os.environ, "LC_ALL": "C"},
        )
    finally:
        os.close(descriptor)
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def search_files(wanted: Patterns, paths: Iterable[str]) -> set[Finding]:
    """The findings in files, as far as this process may read them."""
    found: set[Finding] = set()
    left = iter(paths)
    while batch := list(itertools.islice(left, FILES_A_TIME)):
        for path in grep(wanted, files=batch):
            found |= wanted.within(path, Path(path).read_bytes())
    return found


def readable(roots: Sequence[str]) -> Iterator[str]:
    """The regular files below folders that this process may read; links are not followed."""
    for root in roots:
        if Path(root).is_file():
            yield root
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if not os.path.join(folder, name).startswith(VIRTUAL)]  # noqa: PTH118  faster, over every file of a host
            for path in (os.path.join(folder, name) for name in names):  # noqa: PTH118  faster, over every file of a host
                if not os.path.islink(path) and os.path.isfile(path) and os.access(path, os.R_OK):  # noqa: PTH113, PTH114  faster, over every file of a host
                    yield path


def search_processes(wanted: Patterns, kinds: Sequence[str], owners: Sequence[str] = ()) -> set[Finding]:
    """The findings in what /proc says of processes, as far as this process may read it, but for those of some users."""
    found: set[Finding] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        for kind in kinds:
            try:
                if owner(folder) not in owners:
                    found |= wanted.within(f"{folder / kind} ({(folder / 'comm').read_text().strip()})", (folder / kind).read_bytes())
            except OSError:
                continue
    return found


def owner(path: Path) -> str:
    """The name of the user that a process runs as, or the number of one without a name."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def search_journal(wanted: Patterns) -> set[Finding]:
    """The findings in systemd's journal, with every field of it."""
    journal = subprocess.run(["journalctl", "--output=export", "--no-pager", "--all"], stdout=subprocess.PIPE, check=True)
    return wanted.within("the journal", journal.stdout)


def as_user(name: str, search: Callable[..., set[Finding]], *arguments: Any) -> set[Finding]:
    """What a search finds with the rights of a user, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork"), initializer=become, initargs=(name,)) as pool:
        return pool.submit(search, *arguments).result()


def become(name: str) -> None:
    """Gives up all rights but those of a user."""
    user = pwd.getpwnam(name)
    if os.getuid() != user.pw_uid:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def search_readable(wanted: Patterns, roots: Sequence[str], processes: bool) -> set[Finding]:
    """What a user without rights finds."""
    found = search_files(wanted, readable(roots))
    return found | (search_processes(wanted, ("cmdline", "environ")) if processes else set())


def search(wanted: Wanted) -> list[Finding]:
    """All findings; a secret that cannot be told from other text is one of them."""
    made = patterns(wanted)
    found = {Finding("too short to be looked for", name, "") for name, secret in wanted.secrets.items() if len(secret) < SHORTEST}
    found |= search_files(made, readable(wanted.outputs))
    if wanted.roots or wanted.processes:
        found |= as_user(wanted.reader, search_readable, made, list(wanted.roots), wanted.processes)
    if wanted.processes:
        # Of the units' own users the environment holds what EnvironmentFile gives them.
        found |= search_processes(made, ["cmdline"]) | search_processes(made, ["environ"], wanted.owners)
    if wanted.journal:
        found |= search_journal(made)
    return sorted(found)


if __name__ == "__main__":
    print(json.dumps([vars(finding) for finding in search(Wanted(**json.load(sys.stdin)))]))
