"""The search for secrets sees what was planted, in every form, and nothing else."""

from __future__ import annotations

import base64
import getpass
import html
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import secret_search
from hypothesis import given, settings
from hypothesis import strategies as st

PROGRAM = Path(secret_search.__file__)
SECRET = "q7RZk2vXw9LmT4cN8bYd@:/%#?$'\" \\ end"
NAME = "the password"
KEY = "\n".join(["-----BEGIN PRIVATE KEY-----", "MC4CAQAwBQYDK2VwBCIEIDF1Yz5mVn0yQ0Zb1sZ9bTqk3l1T8dWcFq", "-----END PRIVATE KEY-----", ""])
FORMS: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "in the middle of a line": lambda secret: f"password={secret}, port=5432",
    "percent-encoded": lambda secret: quote(secret, safe=""),
    "in a form": quote_plus,
    "JSON": json.dumps,
    "JSON within JSON": lambda secret: json.dumps(json.dumps({"password": secret})),
    "Python": lambda secret: repr({"password": secret}),
    "shell": shlex.quote,
    "HTML": html.escape,
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "basic authentication": lambda secret: base64.b64encode(f"admin:{secret}".encode()).decode(),
    "URL-safe base64": lambda secret: base64.urlsafe_b64encode(f"x{secret}?".encode()).decode(),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "cut off": lambda secret: secret[:20],
}


def found(**wanted: Any) -> list[dict[str, str]]:
    """As the playbook calls it."""
    given = json.dumps({"secrets": {NAME: SECRET}, **wanted})
    done = subprocess.run([sys.executable, "-c", PROGRAM.read_text()], input=given, capture_output=True, text=True, check=True)
    assert SECRET[:20] not in done.stdout + done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_in_an_output(tmp_path: Path, form: str) -> None:
    (tmp_path / "clean.log").write_text("ok: [api1] => {changed: false, password: VALUE_SPECIFIED_IN_NO_LOG_PARAMETER}\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "run.log").write_text(f"fatal: [api1]\n{FORMS[form](SECRET)}\n\0\xff")
    findings = found(outputs=[str(tmp_path)])
    assert {(each["where"], each["secret"]) for each in findings} == {(f"{tmp_path}/deep/run.log", NAME)}


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"cut off"}))
def test_a_secret_of_signs_alone(tmp_path: Path, form: str) -> None:
    """There is no run of letters and digits in it that would be found by itself."""
    secret = "a'b\"c\\d$e`f g&h<i>%j+ü:/"
    (tmp_path / "run.log").write_text(FORMS[form](secret))
    assert found(secrets={NAME: secret}, outputs=[str(tmp_path)])


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "clean.log").write_text("admin logs in with ****, at http://10.0.0.1:4200/api\n" * 1000)
    (tmp_path / "link").symlink_to(tmp_path / "clean.log")
    assert found(outputs=[str(tmp_path), str(tmp_path / "absent")], roots=[str(tmp_path)], reader=getpass.getuser()) == []


def test_a_secret_that_is_found_everywhere_is_one_finding() -> None:
    assert found(secrets={NAME: "short"}) == [{"where": "too short to be looked for", "secret": NAME, "form": ""}]


def test_lines_of_a_private_key(tmp_path: Path) -> None:
    (tmp_path / "nginx.key").write_text(KEY)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "copy").write_text(json.dumps(KEY))
    findings = found(key_files=[f"{tmp_path}/*.key"], outputs=[str(tmp_path / "out")])
    assert findings == [{"where": f"{tmp_path}/out/copy", "secret": f"the private key {tmp_path}/nginx.key", "form": "plain"}]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_only_what_others_can_read() -> None:
    """The folder of pytest is root's alone, so that this one is beside it."""
    shared = Path("/var/tmp") / f"secret-search-{os.getpid()}"
    try:
        (shared / "closed").mkdir(parents=True)
        for folder, mode in ((shared, 0o755), (shared / "closed", 0o750)):
            folder.chmod(mode)
        for name, mode in (("open", 0o644), ("tight", 0o640), ("closed/within", 0o644)):
            (shared / name).write_text(SECRET)
            (shared / name).chmod(mode)
        assert [each["where"] for each in found(roots=[str(shared)])] == [f"{shared}/open"]
    finally:
        subprocess.run(["rm", "-r", str(shared)], check=True)


@pytest.mark.parametrize(("argument", "variable"), [(True, False), (False, True)])
def test_processes(argument: bool, variable: bool) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", *[SECRET] * argument]
    environment = {**os.environ, **({"PASSWORD": SECRET} if variable else {})}
    with subprocess.Popen(command, env=environment) as process:
        try:
            kind = "cmdline" if argument else "environ"
            findings = found(processes=True, reader=getpass.getuser())
            assert {each["where"].partition(" ")[0] for each in findings} == {f"/proc/{process.pid}/{kind}"}
        finally:
            process.kill()


def test_users_whose_environment_may_have_it() -> None:
    made = secret_search.Patterns()
    made.add(NAME, SECRET)
    with subprocess.Popen(["sleep", "60"], env={"PASSWORD": SECRET}) as process:
        try:
            assert secret_search.search_processes(made, ["environ"])
            assert not secret_search.search_processes(made, ["environ"], [getpass.getuser()])
        finally:
            process.kill()


@pytest.mark.parametrize("field", ["MESSAGE", "_CMDLINE"])
def test_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{field}=password {SECRET}\nE\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert {each["where"] for each in found(journal=True)} == {"the journal"}
    program.write_text("#!/bin/sh\necho MESSAGE=started\n")
    assert found(journal=True) == []


@settings(deadline=None, derandomize=True, database=None, max_examples=200)
@given(st.binary(min_size=8, max_size=40), st.binary(max_size=7), st.binary(max_size=7))
def test_base64_whatever_is_around_it(part: bytes, before: bytes, after: bytes) -> None:
    whole = before + part + after
    patterns = list(secret_search.within_base64(part))
    assert any(pattern in base64.b64encode(whole) for pattern in patterns)
    assert any(pattern in base64.urlsafe_b64encode(whole) for pattern in patterns)
    assert min(map(len, patterns)) >= secret_search.SHORTEST
