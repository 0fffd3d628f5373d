# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether an installed release takes a set of settings, checked by the release itself."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import parse_environment
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import auth_secrets, redact
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings import names as _settings_names
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.names import Names

SCRIPT = (
    f"""
import os
given = dict(os.environ)
# Names are the same whatever the values, and a bad value keeps some modules from loading.
for name in given:
    if name.upper().startswith("PREFECT_") and name != "PREFECT_HOME":
        del os.environ[name]
{_settings_names.SCRIPT}
os.environ.update(given)
"""
    + """
import re
from importlib.util import find_spec
import pydantic
from pydantic_settings.exceptions import SettingsError
from prefect.settings.base import PrefectBaseSettings

def kinds(kind):
    for field in kind.model_fields.values():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, PrefectBaseSettings):
            yield from kinds(field.annotation)
    yield kind

def variable(kind, word):
    prefix = kind.model_config.get("env_prefix") or ""
    for name, field in kind.model_fields.items():
        choices = getattr(field.validation_alias, "choices", ())
        names = [(prefix + name).upper(), *(choice.upper() for choice in choices if isinstance(choice, str))]
        if word.upper() in (name.upper(), *names):
            return next((each for each in names if each in os.environ), names[0])
    return prefix + "*"

def faults(kind):
    try:
        kind()
    except SettingsError as error:
        return [(re.search('field "(.*?)"|$', str(error))[1] or "", "Input should be valid JSON")]
    except pydantic.ValidationError as error:
        parts = error.errors(include_url=False, include_input=False, include_context=False)
        return [("".join(map(str, part["loc"][:1])), part["msg"]) for part in parts if part["type"] != "default_factory_not_called"]
    return []

def groups():
    yield from kinds(Settings)
    for kind in others:
        yield kind
        if kind.__name__ == "LogfireSettings" and not faults(kind) and kind().enabled and not find_spec("logfire"):
            problems["PREFECT_LOGFIRE_ENABLED"] = ["This release was built without the package logfire"]

problems = {}
for kind in groups():
    found = faults(kind)
    while found:
        named = [(variable(kind, word), message) for word, message in found]
        for name, message in named:
            said = problems.setdefault(name, [])
            if message not in (sum(problems.values(), []) if name.endswith("*") else said):
                said.append(message)
        if not [name for name, _message in named if os.environ.pop(name, None) is not None]:
            break
        found = faults(kind)
print(json.dumps({
    "problems": [[name, " / ".join(said)] for name, said in problems.items() if said],
    "names": names,
}))
"""
)
"""Loads Prefect's settings as a server does when it starts, group by group, the innermost first, and without those already found bad.

All at once would say no more than the first, under the name of the group around it.
"""

_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH_STRING|KEY|URL|HEADERS")


class SettingsCheckError(Exception):
    """The release could not be queried; the message says why."""


@dataclass(frozen=True)
class Checked:
    """What the release says: each setting that it does not take, with the reason, and the names that it does not know."""

    problems: Sequence[str]
    unknown: Sequence[str]


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secret values of settings, which no message may show, and the passwords within them."""
    found = [value for name, value in environment.items() if _SECRET_NAME.search(name) and value]
    passwords = re.findall(r"://[^\s:/@]*:([^\s/]+)@", "\n".join(found))
    return [*found, *passwords, *auth_secrets(environment.get("PREFECT_SERVER_API_AUTH_STRING", ""))]


def in_force(release: str, environment: Mapping[str, str], current: str, file: str) -> bool:
    """Whether a host runs with exactly these settings already: what a server was started with needs no check."""
    try:
        written = parse_environment(Path(file).read_text(encoding="utf-8"))
        return Path(current).resolve(strict=True) == Path(release).resolve(strict=True) and written == dict(environment)
    except (OSError, UnicodeDecodeError):
        return False


def check_settings(release: str, environment: Mapping[str, str], timeout: float, command: Run = run) -> Checked:
    """Asks a release, a virtual environment, whether it takes these settings. ``timeout`` is in seconds.

    Raises SettingsCheckError if it cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="prefect-settings-") as folder:
        # An empty folder of its own: Prefect reads files in the one it is started in, and in its home.
        asked = {"PYTHONDONTWRITEBYTECODE": "1", **environment, "HOME": folder, "PREFECT_HOME": folder}
        ended = command([f"{release}/bin/python", "-c", SCRIPT], timeout, env=asked, cwd=folder)
    if ended.timed_out:
        raise SettingsCheckError(f"{release} did not load them within {timeout:g} s")
    try:
        said = json.loads(ended.output.strip().rpartition("\n")[2])
        # A few of Prefect's own checks repeat what they do not like.
        problems = [redact(f"{name}: {reason}", secrets_of(environment)) for name, reason in said["problems"]]
        names = Names.parse(said["names"])
    except (ValueError, KeyError, TypeError):
        raise SettingsCheckError(f"{release} could not load them (exit status {ended.rc})") from None
    return Checked([*names.problems(environment), *problems], names.unknown(environment))
