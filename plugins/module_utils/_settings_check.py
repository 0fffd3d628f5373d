# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Whether an installed release takes a set of settings, asked of the release itself."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.selfhosted.prefect.plugins.module_utils._command import Run, run

SCRIPT = """
import json
import pydantic
from prefect.settings import Settings
from prefect.settings.base import PrefectBaseSettings
from prefect.settings.legacy import _get_valid_setting_names

def kinds(kind):
    return [kind, *(each for below in kind.__subclasses__() for each in kinds(below))]

def name(error, part):
    prefix = next((kind.model_config.get("env_prefix") or "" for kind in kinds(PrefectBaseSettings) if kind.__name__ == error.title), "")
    return (prefix + "_".join(map(str, part["loc"]))).upper()

problems = []
try:
    Settings()
except pydantic.ValidationError as error:
    problems = [[name(error, part), part["msg"]] for part in error.errors(include_url=False, include_input=False, include_context=False)]
print(json.dumps({"problems": problems, "known": sorted(_get_valid_setting_names(Settings))}))
"""
"""Loads Prefect's settings as a server does when it starts. No value is ever part of what it says."""

# Read by the package prefect-redis, and by the logging configuration, which takes any path into its file.
_ELSEWHERE = ("PREFECT_REDIS_", "PREFECT_LOGGING_")


class SettingsCheckError(Exception):
    """The release could not be asked; the message says why."""


@dataclass(frozen=True)
class Checked:
    """What the release says: each setting that it does not take, with the reason, and the names that it does not know."""

    problems: Sequence[str]
    unknown: Sequence[str]


def check_settings(release: str, environment: Mapping[str, str], timeout: float, command: Run = run) -> Checked:
    """Asks a release, a virtual environment, whether it takes these settings. ``timeout`` is in seconds.

    Raises:
        SettingsCheckError: it cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="prefect-settings-") as folder:
        # An empty folder of its own: Prefect reads files in the one it is started in, and in its home.
        asked = {"PYTHONDONTWRITEBYTECODE": "1", **environment, "HOME": folder, "PREFECT_HOME": folder}
        ended = command([f"{release}/bin/python", "-c", SCRIPT], timeout, env=asked, cwd=folder)
    if ended.timed_out:
        raise SettingsCheckError(f"{release} did not load them within {timeout:g} s")
    try:
        said = json.loads(ended.output.strip().rpartition("\n")[2])
        problems = [f"{name}: {reason}" for name, reason in said["problems"]]
        known = set(said["known"])
    except (ValueError, KeyError, TypeError):
        raise SettingsCheckError(f"{release} could not load them (exit status {ended.rc})") from None
    strangers = [name for name in environment if name.startswith("PREFECT_") and not name.startswith(_ELSEWHERE)]
    return Checked(problems, sorted(name for name in strangers if name not in known))
