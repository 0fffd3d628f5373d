# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The variables that the roles of this collection have, read from the roles themselves."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.yaml import yaml_load

_ROLES = Path(__file__).resolve().parents[2] / "roles"
_TOP_LEVEL = re.compile(r"^([A-Za-z_]\w*):", re.MULTILINE)


@cache
def role_options(role: str) -> dict[str, Any]:
    """The options of all entry points of a role's argument spec. Raises AnsibleError if there is no such role."""
    path = _ROLES / role / "meta" / "argument_specs.yml"
    if not path.is_file():
        raise AnsibleError(f"there is no role {role}")
    options: dict[str, Any] = {}
    for entry in yaml_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
        options.update((entry or {}).get("options") or {})
    return options


@cache
def documented_variables() -> frozenset[str]:
    """The variables that users may set: every option of every role."""
    roles = [path.parents[1].name for path in _ROLES.glob("*/meta/argument_specs.yml")]
    return frozenset(name for role in roles for name in role_options(role))


@cache
def computed_variables() -> frozenset[str]:
    """The variables that roles give a value to and that users do not set."""
    files = [path for folder in ("defaults", "vars") for path in _ROLES.glob(f"*/{folder}/**/*.yml")]
    names = {name for path in files for name in _TOP_LEVEL.findall(path.read_text(encoding="utf-8"))}
    return frozenset(names - documented_variables())
