"""Write Grafana's dashboards from roles/monitoring/dashboards/*.yml into roles/monitoring/files/dashboards/*.json.

Usage: python tools/generate_dashboards.py [--check] [--root FOLDER]

The sources say what a panel is about: its queries, their unit, and when a value is good or bad. Grafana's own library, made from the
types of Grafana itself, turns that into what Grafana reads. With ``--check`` nothing is written: the exit code is 1 when a file is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = "roles/monitoring/dashboards"
TARGET = "roles/monitoring/files/dashboards"
DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 8
HEIGHT = 8
STAT_HEIGHT = 4
PANEL_KEYS = {"title", "description", "type", "width", "height", "unit", "decimals", "steps", "values", "stack", "show", "queries"}
QUERY_KEYS = {"expr", "legend", "unit"}


class SourceError(Exception):
    """A source is not as it has to be; the text says which and why."""


def timeseries_panel(source: Mapping[str, Any]) -> timeseries.Panel:
    """Lines over time, stacked areas with `stack`."""
    panel = timeseries.Panel().line_width(1).fill_opacity(10).min(0)
    panel = panel.tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
    panel = panel.legend(common.VizLegendOptions().show_legend(True).placement(common_model.LegendPlacement.BOTTOM))
    if source.get("stack"):
        panel = panel.fill_opacity(60).stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    return panel


def stat_panel(source: Mapping[str, Any]) -> stat.Panel:
    """The newest value in large letters; with `show: name` the legend instead."""
    panel = stat.Panel().color_mode(common_model.BigValueColorMode.BACKGROUND).graph_mode(common_model.BigValueGraphMode.NONE)
    if source.get("show") == "name":
        panel = panel.text_mode(common_model.BigValueTextMode.NAME)
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))


def timeline_panel(_source: Mapping[str, Any]) -> statetimeline.Panel:
    """A bar for each series, coloured by its value."""
    return statetimeline.Panel().show_value(common_model.VisibilityMode.NEVER).merge_values(True)


def table_panel(source: Mapping[str, Any]) -> table.Panel:
    """One row for each set of labels, one column for each query, under the query's legend."""
    queries = source["queries"]
    names = {"Value" if len(queries) == 1 else f"Value #{ref(index)}": query["legend"] for index, query in enumerate(queries)}
    panel = table.Panel().with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    panel = panel.with_transformation(
        model.DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": names})
    )
    for query in queries:
        panel = panel.override_by_name(query["legend"], [model.DynamicConfigValue(id_val="unit", value=query["unit"])])
    return panel


KINDS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "timeseries": timeseries_panel,
    "stat": stat_panel,
    "timeline": timeline_panel,
    "table": table_panel,
}


def ref(index: int) -> str:
    """Grafana's name for the query at this place of a panel: A, B, C."""
    return chr(ord("A") + index)


def query_of(source: Mapping[str, Any], index: int, kind: str) -> prometheus.Dataquery:
    """One query of a panel of this kind."""
    unknown = set(source) - QUERY_KEYS
    if unknown:
        raise SourceError(f"a query has {', '.join(sorted(unknown))}: it may have {', '.join(sorted(QUERY_KEYS))}")
    query = prometheus.Dataquery().expr(source["expr"]).ref_id(ref(index)).datasource(DATASOURCE)
    query = query.instant() if kind in ("stat", "table") else query.range()
    if kind == "table":
        return query.format(PromQueryFormat.TABLE)
    return query.legend_format(source["legend"]) if "legend" in source else query


def panel_of(source: Mapping[str, Any]) -> Builder[model.Panel]:
    """One panel."""
    unknown = set(source) - PANEL_KEYS
    if unknown or not source.get("queries"):
        raise SourceError(f"it has {', '.join(sorted(unknown)) or 'no queries'}: it may have {', '.join(sorted(PANEL_KEYS))}")
    kind = source.get("type", "timeseries")
    panel = KINDS[kind](source).title(source["title"]).datasource(DATASOURCE)
    panel = panel.span(source.get("width", WIDTH)).height(source.get("height", STAT_HEIGHT if kind == "stat" else HEIGHT))
    for name in ("description", "unit", "decimals"):
        if name in source:
            panel = getattr(panel, name)(source[name])
    if "steps" in source:
        steps = [model.Threshold(value=value or None, color=color) for value, color in source["steps"].items()]
        panel = panel.thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        if kind != "timeseries":
            panel = panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    if "values" in source:
        texts = {str(value): model.ValueMappingResult(text=text) for value, text in source["values"].items()}
        panel = panel.mappings([model.ValueMap(options=texts)])
    for index, query in enumerate(source["queries"]):
        panel = panel.with_target(query_of(query, index, kind))
    return cast("Builder[model.Panel]", panel)


def variables_of(source: Mapping[str, Any]) -> Iterator[Any]:
    """The selectors at the top: which Prometheus, and those of the source, each with all its values selected."""
    yield dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    for name, variable in source.get("variables", {}).items():
        query = dashboard.QueryVariable(name).label(variable["label"]).query(variable["query"]).datasource(DATASOURCE)
        query = query.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
        chosen = model.VariableOption(selected=True, text="All", value="$__all")
        yield query.multi(True).include_all(True).all_value(".*").current(chosen)


def dashboard_of(source: Mapping[str, Any]) -> dashboard.Dashboard:
    """One dashboard, with links to the others."""
    built = dashboard.Dashboard(source["title"]).uid(source["uid"]).tags(["prefect"]).readonly()
    built = built.time("now-3h", "now").refresh("30s").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    built = built.link(dashboard.DashboardLink("Prefect").type(model.DashboardLinkType.DASHBOARDS).tags(["prefect"]).keep_time(True))
    for variable in variables_of(source):
        built = built.with_variable(variable)
    for row in source["rows"]:
        built = built.with_row(dashboard.Row(row["title"]))
        for panel in row["panels"]:
            try:
                built = built.with_panel(panel_of(panel))
            except (SourceError, KeyError) as error:
                raise SourceError(f"panel {panel.get('title')!r} of row {row['title']!r}: {error}") from error
    return built


def dashboards(root: Path) -> dict[Path, str]:
    """Every dashboard of the checkout at `root`, path to content."""
    result = {}
    for path in sorted((root / SOURCE).glob("*.yml")):
        try:
            built = dashboard_of(yaml.safe_load(path.read_text(encoding="utf-8"))).build()
        except (yaml.YAMLError, SourceError) as error:
            raise SourceError(f"{path}: {error}") from error
        for number, panel in enumerate(built.panels or [], 1):
            panel.id_val = number
        result[root / TARGET / f"{path.stem}.json"] = JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"
    return result


def main(arguments: list[str] | None = None) -> int:
    """Write or check the dashboards; 0 when they are up to date, 1 when stale, 2 when a source is unusable."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a dashboard is stale")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the checkout")
    options = parser.parse_args(arguments)
    try:
        expected = dashboards(options.root)
    except SourceError as error:
        print(f"generate_dashboards: {error}", file=sys.stderr)
        return 2
    found = {path: path.read_text(encoding="utf-8") for path in (options.root / TARGET).glob("*.json")}
    stale = sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
    for path in stale:
        name = path.relative_to(options.root)
        if options.check:
            print(f"generate_dashboards: {name} is stale; run `make dashboards` and commit the result", file=sys.stderr)
        elif path in expected:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(expected[path], encoding="utf-8")
            print(f"wrote {name}")
        else:
            path.unlink()
            print(f"removed {name}, which has no source")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
