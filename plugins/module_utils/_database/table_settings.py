# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Storage parameters of tables: what PostgreSQL has, and the statements that bring it to what is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import setting
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import Postgres, quoted

OWNED = "autovacuum_"
"""The parameters that are set, and reset when they are no longer wanted, begin so."""

Settings = dict[str, str]

_READ = """
SELECT c.relname, coalesce(array_to_string(c.reloptions, ','), '') FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
"""
_NAME = re.compile(r"autovacuum_[a-z_]+\Z")
_VALUE = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z|true\Z|false\Z")


def settings_problems(wanted: Mapping[str, Any]) -> list[str]:
    """Names and values that are none of autovacuum's storage parameters."""
    problems = [f"{name} is no storage parameter of autovacuum" for name in wanted if not _NAME.match(str(name))]
    strange = {name: value for name, value in wanted.items() if not _VALUE.match(setting(value))}
    return problems + [f"{name} takes a number or a boolean, not {value!r}" for name, value in strange.items()]


def read_settings(session: Postgres, tables: Iterable[str]) -> dict[str, Settings]:
    """The parameters in question of each of the tables that is there."""
    wanted = set(tables)
    found = {str(name): str(options) for name, options in session.query(_READ)}
    return {name: _parsed(options) for name, options in sorted(found.items()) if name in wanted}


def statements(found: Mapping[str, Settings], wanted: Mapping[str, Any]) -> list[str]:
    """One statement for each table and direction that differs."""
    aims = {name: setting(value) for name, value in wanted.items()}
    changes = []
    for table, has in found.items():
        new = ", ".join(f"{name} = {value}" for name, value in sorted(aims.items()) if not _same(has.get(name), value))
        gone = ", ".join(sorted(set(has) - set(aims)))
        changes += [f"ALTER TABLE {quoted(table)} SET ({new})"] * bool(new) + [f"ALTER TABLE {quoted(table)} RESET ({gone})"] * bool(gone)
    return changes


def _parsed(options: str) -> Settings:
    pairs = (option.partition("=") for option in options.split(",") if option.startswith(OWNED))
    return {name: value for name, _equals, value in pairs}


def _same(has: str | None, wanted: str) -> bool:
    if has is None:
        return False
    try:
        return float(has) == float(wanted)
    except ValueError:
        return has == wanted
