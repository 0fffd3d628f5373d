"""The queries of the dashboards and the metrics of the alerts, in the form in which Prometheus itself is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "roles/monitoring/files/dashboards").glob("*.json"))
RULES = sorted((ROOT / "roles/monitoring/files/rules").glob("*.yml"))
# What Grafana puts in place of its variables, when a panel is as narrow as an hour.
VARIABLES = {"__rate_interval": "1m", "__range": "1h"}
TEXT = re.compile(r"\"[^\"]*\"")
METRIC = re.compile(r"\b(?:prefect|pg|redis|node|nginx|prometheus|alertmanager)_[a-z0-9_]+\b|\bup\b")


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    dashboard: str
    panel: str
    number: int
    expr: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel} ({self.number})"


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those inside folded rows included."""
    for panel in dashboard.get("panels", []):
        yield from panels(panel)
        if panel["type"] != "row":
            yield panel


def queries() -> Iterator[Query]:
    """Every query of every panel, with all values of the dashboard's variables selected."""
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        values = {each["name"]: ".*" for each in dashboard["templating"]["list"]} | VARIABLES
        for panel in panels(dashboard):
            for number, target in enumerate(panel["targets"], 1):
                yield Query(path.stem, panel["title"], number, Template(target["expr"]).safe_substitute(values))


def rules(topic: Path) -> Iterator[dict[str, Any]]:
    """The rules of one file."""
    for group in yaml.safe_load(topic.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def metrics_of_rules() -> list[str]:
    """Every metric that a rule reads from a target."""
    return sorted({name for path in RULES for rule in rules(path) for name in METRIC.findall(TEXT.sub("", rule["expr"]))})


def lab_prometheus(inventory: str) -> str:
    """Where the Prometheus of a lab is reached from this machine: at its host's own address."""
    data = yaml.safe_load((ROOT / inventory / "hosts.yml").read_text())["all"]
    host = next(iter(data["children"]["monitoring"]["hosts"]))
    hosts = data.get("hosts", {}) | {
        name: values for group in data["children"].values() for name, values in group.get("hosts", {}).items() if values
    }
    return f"https://{hosts[host]['ansible_host'].replace('{{ lab_network }}', data['vars']['lab_network'])}:9090"
