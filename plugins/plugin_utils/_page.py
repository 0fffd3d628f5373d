# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Renders the templates of pages, in which every value is escaped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._drill import drill as _drill
from ansible_collections.selfhosted.prefect.plugins.module_utils._report import parts as _parts
from ansible_collections.selfhosted.prefect.plugins.module_utils._report import plot as _plot
from ansible_collections.selfhosted.prefect.plugins.module_utils._report import report as _report
from jinja2 import Environment, FileSystemLoader, StrictUndefined

SHARED = Path(__file__).resolve().parents[2] / "roles" / "common" / "templates"


def utc(seconds: float, form: str) -> str:
    """A time since the epoch, in the form of ``strftime``."""
    return time.strftime(form, time.gmtime(seconds))


_FILTERS = (
    _drill.shown,
    _parts.parts,
    _plot.runs,
    _plot.scale,
    _plot.spans,
    _plot.value,
    _report.assemble,
    _report.duration,
    _report.files,
    _report.first_to_end,
    _report.holder,
    _report.keeps,
    _report.members,
    _report.proved,
    _report.size,
    _report.switched_off,
    utc,
)
_GLOBALS = {"BALANCER": _report.BALANCER, "MEASURES": _drill.MEASURES, "UP": _plot.UP, "axis": _plot.Axis}


def environment(folders: Iterable[Path] = ()) -> Environment:
    """Templates in these folders, after the shared ones."""
    found = Environment(
        loader=FileSystemLoader([SHARED, *folders]), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters.update({each.__name__: each for each in _FILTERS})
    found.globals.update(_GLOBALS)
    return found


def render(template: str, data: Mapping[str, Any], folders: Iterable[Path] = ()) -> str:
    """The page. ``now`` is the time unless ``data`` has another.

    Raises TemplateError if there is no such template, or it needs what ``data`` does not have.
    """
    return environment(folders).get_template(template).render({"now": time.time(), **data}) + "\n"
