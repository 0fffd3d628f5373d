"""The alerts: each one is tested by promtool, says who has to act and on what, and has its page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).parents[2]
RULES = ROOT / "roles/monitoring/files/rules"
CASES = ROOT / "tests/monitoring"
RUNBOOKS = ROOT / "docs/runbooks"
TOPICS = sorted(path.stem for path in RULES.glob("*.yml"))
HEADINGS = ["What it means", "What users notice", "How to look", "What to do", "When it resolves"]


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def alerts(topic: str) -> Iterator[dict[str, Any]]:
    for group in load(RULES / f"{topic}.yml")["groups"]:
        yield from (rule for rule in group["rules"] if "alert" in rule)


ALERTS = {rule["alert"]: (topic, rule) for topic in TOPICS for rule in alerts(topic)}


def promtool(commands: Commands, *arguments: str | Path, expect: int | None = 0) -> str:
    return commands.run([ROOT / "tools/promtool", *arguments], expect=expect)


@pytest.fixture(scope="module", autouse=True)
def _promtool_is_there(commands: Commands) -> None:
    promtool(commands, "--version")


def test_there_are_alerts() -> None:
    assert len(ALERTS) == sum(1 for topic in TOPICS for _rule in alerts(topic)) > 20, "an alert's name is there twice, or none are found"


def test_the_rules_are_valid(commands: Commands) -> None:
    promtool(commands, "check", "rules", "--lint=all", "--lint-fatal", *sorted(RULES.glob("*.yml")))


@pytest.mark.parametrize("topic", TOPICS)
def test_alerts_fire_and_resolve(commands: Commands, topic: str) -> None:
    promtool(commands, "test", "rules", CASES / f"{topic}.yml")


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_has_a_test_for_firing_and_one_for_silence(name: str) -> None:
    topic, _rule = ALERTS[name]
    checks = [check for case in load(CASES / f"{topic}.yml")["tests"] for check in case["alert_rule_test"] if check["alertname"] == name]
    assert [check for check in checks if check["exp_alerts"]], f"no test in {topic}.yml sees {name} fire"
    assert [check for check in checks if not check["exp_alerts"]], f"no test in {topic}.yml sees {name} not fire"


def seconds(text: str) -> int:
    """A time as Prometheus writes it, such as 1h30m."""
    return sum(int(number) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"(\d+)([dhms])", str(text)))


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_is_seen_to_resolve(name: str) -> None:
    """Also those whose windows are longer than any lab lives."""
    topic, _rule = ALERTS[name]
    times = [
        (
            [seconds(check["eval_time"]) for check in checks if check["exp_alerts"]],
            [seconds(check["eval_time"]) for check in checks if not check["exp_alerts"]],
        )
        for case in load(CASES / f"{topic}.yml")["tests"]
        if (checks := [check for check in case["alert_rule_test"] if check["alertname"] == name])
    ]
    assert any(fires and silent and min(fires) < max(silent) for fires, silent in times), (
        f"no case in {topic}.yml has {name} fire and then end"
    )


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_who_acts_on_what(name: str) -> None:
    _topic, rule = ALERTS[name]
    assert re.fullmatch(r"Prefect([A-Z][a-z]+)+", name)
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert re.fullmatch(r"\d+[sm]", rule["for"]), "how long it has to last is stated"
    repository = load(ROOT / "galaxy.yml")["repository"]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{repository}/docs/runbooks/{name}.md"
    assert len(rule["annotations"]["summary"]) < 120, "it has to fit on a telephone"


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_has_its_page(name: str) -> None:
    _topic, rule = ALERTS[name]
    page = RUNBOOKS / f"{name}.md"
    assert page.is_file(), f"docs/runbooks/{name}.md is missing"
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert f"**{rule['labels']['severity']}**, after {rule['for']}." in text, "the page says another severity or time than the rule"


def test_every_page_belongs_to_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)


def test_the_overview_lists_every_alert() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| (\w+) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted((name, name, rule["labels"]["severity"], rule["for"]) for name, (_topic, rule) in ALERTS.items())


INHIBITIONS = yaml.safe_load((ROOT / "roles/monitoring/files/inhibit_rules.yml").read_text(encoding="utf-8"))


def matched(matcher: str) -> set[str]:
    """The alerts that a matcher of names stands for."""
    name, operator, pattern = re.fullmatch(r'(\w+)(=~?)"(.*)"', matcher).groups()  # type: ignore[union-attr]
    assert name == "alertname"
    return {alert for alert in ALERTS if (re.fullmatch(pattern, alert) if operator == "=~" else pattern == alert)}


@pytest.mark.parametrize("rule", INHIBITIONS, ids=lambda rule: rule["source_matchers"][0])
def test_what_is_inhibited_exists_and_is_no_more_urgent(rule: dict[str, Any]) -> None:
    """Whether Alertmanager heeds it is tested in the scenario `monitoring`."""
    (sources, targets) = (matched(rule[key][0]) for key in ("source_matchers", "target_matchers"))
    assert len(sources) == 1
    assert targets
    assert not sources & targets, "an alert would silence itself"
    urgency = {"warning": 0, "critical": 1}
    (source,) = sources
    assert all(urgency[ALERTS[target][1]["labels"]["severity"]] <= urgency[ALERTS[source][1]["labels"]["severity"]] for target in targets)


def test_what_is_inhibited() -> None:
    found = {source: matched(rule["target_matchers"][0]) for rule in INHIBITIONS for source in matched(rule["source_matchers"][0])}
    burns = {name for name in ALERTS if "BudgetBurn" in name}
    assert found == {
        "PrefectErrorBudgetBurnFast": {"PrefectErrorBudgetBurnSlow"},
        "PrefectLatencyBudgetBurnFast": {"PrefectLatencyBudgetBurnSlow"},
        "PrefectNoHealthyApi": {"PrefectApiDown", "PrefectEndpointSlow", *burns},
    }


def broken(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ways in which a rule could be wrong."""
    yield "never fires", {**rule, "expr": "vector(0) > 1"}
    yield "always fires", {**rule, "expr": "vector(1)"}
    yield "fires at once", {**rule, "for": "0s"}
    yield "fires late", {**rule, "for": re.sub(r"\d+", lambda found: str(int(found.group()) * 2), rule["for"])}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ALERTS))
def test_a_broken_alert_is_caught(commands: Commands, tmp_path: Path, name: str) -> None:
    """The tests of an alert fail when its expression or its time is another one."""
    topic, rule = ALERTS[name]

    def passes(what: str, worse: dict[str, Any]) -> str | None:
        folder = tmp_path / what.replace(" ", "-")
        folder.mkdir()
        rules, cases = load(RULES / f"{topic}.yml"), load(CASES / f"{topic}.yml")
        for group in rules["groups"]:
            group["rules"] = [worse if each.get("alert") == name else each for each in group["rules"]]
        # Only this alert's cases: those of the others cost time and say nothing here.
        cases["rule_files"] = ["rules.yml"]
        cases["tests"] = [case for case in cases["tests"] if name in str(case["alert_rule_test"])]
        for case in cases["tests"]:
            case["alert_rule_test"] = [check for check in case["alert_rule_test"] if check["alertname"] == name]
        (folder / "rules.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
        (folder / "cases.yml").write_text(yaml.safe_dump(cases), encoding="utf-8")
        output = commands.run([ROOT / "tools/promtool", "test", "rules", folder / "cases.yml"], expect=None, log=folder / "log")
        return what if "SUCCESS" in output else None

    with ThreadPoolExecutor(2) as pool:
        survived = list(pool.map(lambda each: passes(*each), broken(rule)))
    assert not [what for what in survived if what], f"the tests of {name} pass although it {[what for what in survived if what]}"
