# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The names that a release of Prefect knows its settings by: the one of today, the older ones, and those of whole groups."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import setting, text, version_number

TABLES = Path(__file__).resolve().parents[3] / "roles" / "prefect" / "files" / "settings"
# Not a setting of a model, and with an effect all the same.
_OUTSIDE = frozenset({"PREFECT_PROFILE", "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"})
_NEAR = 0.8

SCRIPT = """
import inspect, json
from importlib import import_module
import yaml
from pydantic_settings import BaseSettings
from prefect.logging.configuration import DEFAULT_LOGGING_SETTINGS_PATH
from prefect.settings import Settings

def settings_of(kind):
    prefix = kind.model_config.get("env_prefix") or ""
    for name, field in kind.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseSettings):
            groups.add((prefix + name).upper())
            settings_of(field.annotation)
            continue
        choices = getattr(field.validation_alias, "choices", ())
        names = [choice.upper() for choice in choices if isinstance(choice, str)] or [(prefix + name).upper()]
        settings[names[0]] = names[1:]

def paths(node, path):
    if not isinstance(node, dict):
        yield path
        return
    for name, value in node.items():
        yield from paths(value, [*path, str(name)])

groups, settings, others = set(), {}, []
settings_of(Settings)
# Read by classes of their own, where a release has them.
for module in ("prefect_redis.client", "prefect_redis.messaging", "prefect_redis.cleanup_queue", "prefect._internal.observability"):
    try:
        found = vars(import_module(module)).values()
    except ImportError:
        continue
    for kind in found:
        if inspect.isclass(kind) and issubclass(kind, BaseSettings) and kind.__module__ == module:
            settings_of(kind)
            others.append(kind)
for path in paths(yaml.safe_load(DEFAULT_LOGGING_SETTINGS_PATH.read_text()), []):
    name = "PREFECT_LOGGING_" + "_".join(path).upper().replace(".", "_")
    if name.isidentifier():
        settings.setdefault(name, [])
names = {"groups": sorted(groups), "settings": dict(sorted(settings.items()))}
"""
"""Run by the interpreter of a release: leaves its table in ``names``."""


@dataclass(frozen=True)
class Names:
    """The table of a release: its settings by the names of today, each with its older names, and the names of groups of settings."""

    settings: Mapping[str, Sequence[str]]
    groups: Sequence[str] = ()

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Names:
        """From the form that the release and the files of tables have."""
        return cls({text(name): [text(each) for each in older] for name, older in table["settings"].items()}, list(table["groups"]))

    def canonical(self, name: str) -> str:
        """The name of today. Prefect takes names in any case; those that are not Prefect's are left alone."""
        upper = name.upper()
        if not upper.startswith("PREFECT_"):
            return name
        return _older(self).get(upper, upper)

    def known(self, name: str) -> bool:
        """Whether the release does anything with it."""
        upper = name.upper()
        own_logger = upper.startswith("PREFECT_LOGGING_LOGGERS_")
        outside = upper in _OUTSIDE or upper.startswith("PREFECT__") or own_logger
        return not upper.startswith("PREFECT_") or outside or self.canonical(upper) in self.settings

    def nearest(self, name: str) -> str:
        """The known name that is most like one that is not; empty when none is."""
        found = difflib.get_close_matches(name.upper(), [*self.settings, *_older(self)], 1, _NEAR)
        return self.canonical(found[0]) if found else ""

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those that the release knows nothing of, each with the known name that is most like it."""
        strange = sorted(name for name in names if not self.known(name) and name.upper() not in self.groups)
        nearest = {name: self.nearest(name) for name in strange}
        return [f"{name} (is {nearest[name]} meant?)" if nearest[name] else name for name in strange]

    def problems(self, given: Mapping[str, Any]) -> Iterator[str]:
        """Names that would have another effect than they seem to."""
        for name in sorted(name for name in map(text, given) if name.upper() in self.groups):
            yield f"{name} is the name of a group, and would win over all settings in it. Give its settings one by one."
        yield from conflicts(given, self)


def canonical_settings(given: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Settings by the names of today. Raises ValueError if two names of one setting are given, with different values."""
    for problem in conflicts(given, names):
        raise ValueError(problem)
    return {names.canonical(text(name)): value for name, value in given.items()}


def conflicts(given: Mapping[str, Any], names: Names) -> Iterator[str]:
    """What is given twice under different names, with different values."""
    by_name: dict[str, list[str]] = {}
    for name in given:
        by_name.setdefault(names.canonical(text(name)), []).append(name)
    for name, used in by_name.items():
        if len({setting(given[each]) for each in used}) > 1:
            yield f"{' and '.join(map(text, used))} are names of one setting, and have different values. Use {name} alone."


def names_for(version: str, folder: Path = TABLES) -> Names:
    """The table of a version; of one that has none, that of the newest version before it, or else of the oldest.

    Raises ValueError if the folder holds no table.
    """
    return _load(nearest_table(version, folder))


def nearest_table(version: str, folder: Path = TABLES) -> Path:
    """Where the table for a version is, or the one closest to it."""
    tables = sorted(folder.glob("*.json"), key=lambda path: version_number(path.stem))
    if not tables:
        raise ValueError(f"{folder} holds no table of settings: the collection is not whole")
    before = [path for path in tables if version_number(path.stem) <= version_number(version)]
    return before[-1] if before else tables[0]


@lru_cache
def _load(path: Path) -> Names:
    return Names.parse(json.loads(path.read_text(encoding="utf-8")))


def _older(names: Names) -> dict[str, str]:
    return {each: name for name, older in names.settings.items() for each in older}
