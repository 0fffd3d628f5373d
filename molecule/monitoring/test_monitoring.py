"""What is watched, what that costs, and what happens to bad input."""

from __future__ import annotations

import base64
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import HOSTS_AUTHORITY, ROOT, SUFFIX, Lab, direct

LAB = Lab("monitoring", 4310)
STATE, MONITOR, SECOND = "172.28.11.11", "172.28.11.51", "172.28.11.22"
PROMETHEUS = f"https://{MONITOR}:9090"
HOSTS = ("state1", "api1", "api2", "monitor1")
EXPORTERS = {"node": 9100, "postgres": 9187, "redis": 9121, "nginx": 9113, "nginx_access": 3903, "prefect": 9420}
TARGETS = {
    *(("node", host) for host in HOSTS),
    *((job, "state1") for job in EXPORTERS if job != "node"),
    *(("prefect_api", f"{host}:4200") for host in ("api1", "api2")),
    *((job, host) for job in ("prometheus", "alertmanager") for host in ("monitor1", "api2")),
}
MOST_OF_A_CORE = 0.05
PROMETHEUS_FILES = "cd /etc/prometheus && sha256sum prefect.yml prefect-rules.yml prefect-alertmanager.yml"


def get(url: str, user: str = "", body: Any = None, agent: str = "test") -> str:
    """An answer's text; with a body it is a POST. Raises HTTPError for any other answer than a good one."""
    headers = {"User-Agent": agent, "Content-Type": "application/json"}
    if user:
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)  # noqa: S310  the lab's own
    with LAB.open(request, timeout=10) as answer:
        return str(answer.read().decode())


def query(expression: str) -> list[tuple[dict[str, str], float]]:
    """What Prometheus answers: labels and value of each series."""
    answer = json.loads(get(f"{PROMETHEUS}/api/v1/query?query={urllib.parse.quote(expression)}"))
    return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    """What the condition is at last; the test goes on with whatever it is when the time is over."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(1)
    return value


def names(*wanted: str) -> set[str]:
    """Those of the metrics that Prometheus has."""
    return {metric["__name__"] for metric, _value in query('{__name__=~"' + "|".join(wanted) + '"}')}


def test_everything_is_asked_and_answers() -> None:
    until(lambda: all(value for _metric, value in query("up")) and len(query("up")) == len(TARGETS))
    assert {(metric["job"], metric["instance"]): value for metric, value in query("up")} == dict.fromkeys(TARGETS, 1)


def test_several_hosts_of_the_group_watch_the_same_and_each_other() -> None:
    def asked(host: str) -> set[tuple[str, str]]:
        targets = json.loads(get(f"https://{host}:9090/api/v1/targets"))["data"]["activeTargets"]
        return {(target["labels"]["job"], target["labels"]["instance"]) for target in targets if target["health"] == "up"}

    until(lambda: asked(SECOND) == TARGETS)
    assert asked(MONITOR) == asked(SECOND) == TARGETS
    # Each tells both Alertmanagers, and these tell each other what they have sent.
    for host in (MONITOR, SECOND):
        assert len(json.loads(get(f"https://{host}:9090/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]) == 2
        until(lambda host=host: len(cluster(host)["peers"]) == 2)  # type: ignore[misc]
        assert (cluster(host)["status"], len(cluster(host)["peers"])) == ("ready", 2)


def cluster(host: str) -> dict[str, Any]:
    """What an Alertmanager says of the others."""
    answer: dict[str, Any] = json.loads(get(f"https://{host}:9093/api/v2/status"))["cluster"]
    return answer


FAST, SLOW = "PrefectErrorBudgetBurnFast", "PrefectErrorBudgetBurnSlow"


@pytest.mark.parametrize(
    ("source", "inhibited", "heard"),
    [
        (FAST, {SLOW}, {"PrefectLatencyBudgetBurnSlow", "PrefectApiDown"}),
        ("PrefectLatencyBudgetBurnFast", {"PrefectLatencyBudgetBurnSlow"}, {FAST, "PrefectApiDown"}),
        (
            "PrefectNoHealthyApi",
            {"PrefectApiDown", "PrefectEndpointSlow", FAST, SLOW, "PrefectLatencyBudgetBurnFast", "PrefectLatencyBudgetBurnSlow"},
            {"PrefectBalancerDown", "PrefectDatabaseDown", "PrefectTargetDown"},
        ),
    ],
)
def test_an_alert_that_says_nothing_new_is_not_sent(source: str, inhibited: set[str], heard: set[str]) -> None:
    """Alertmanager itself is asked, with alerts that end by themselves."""
    label = f"test of {source}"
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 20))
    names_ = {source, *inhibited, *heard}
    get(f"https://{MONITOR}:9093/api/v2/alerts", body=[{"labels": {"alertname": name, "test": label}, "endsAt": ends} for name in names_])

    def suppressed() -> set[str]:
        alerts = json.loads(get(f"https://{MONITOR}:9093/api/v2/alerts?filter={urllib.parse.quote(f'test={json.dumps(label)}')}"))
        assert {alert["labels"]["alertname"] for alert in alerts} == names_
        return {alert["labels"]["alertname"] for alert in alerts if alert["status"]["inhibitedBy"]}

    # It is found out when a group is about to be sent, ten seconds later.
    until(lambda: suppressed() == inhibited, 15)
    assert suppressed() == inhibited


def test_every_metric_of_the_exporter_of_prefect() -> None:
    wanted = re.findall(
        r'^    "(prefect_\w+)": \(', (ROOT / "roles/prefect/files/selfhosted_prefect/exporter/metrics.py").read_text(), re.MULTILINE
    )
    assert len(wanted) == 26
    # Left out while every part of Prefect is switched on.
    wanted.remove("prefect_switched_off_info")
    # A group of consumers is told of once its stream has an entry.
    get(f"{LAB.url}/flows/", LAB.auth_string, {"name": "monitored"})
    # And of a work pool's slots once it has a limit.
    get(f"{LAB.url}/work_pools/", LAB.auth_string, {"name": "limited", "type": "process", "concurrency_limit": 3})
    until(lambda: names("prefect_.*") >= set(wanted))
    assert set(wanted) - names("prefect_.*") == set()
    assert {metric["target"]: value for metric, value in query("prefect_exporter_target_up")} == {"database": 1, "redis": 1}
    assert [value for _metric, value in query("prefect_redis_writable")] == [1]
    assert [value for _metric, value in query("prefect_certificate_renew_before_seconds")] == [30 * 86400]
    assert [(metric["work_pool"], value) for metric, value in query("prefect_work_pool_slots")] == [("limited", 3)]
    assert [value for _metric, value in query("prefect_schema_behind")] == [0]
    # 2 API processes and 1 of services with 15 connections and one for the vacuum each, one to LISTEN, and one to delete old logs.
    assert [value for _metric, value in query("prefect_database_connections_budget")] == [50]
    assert {metric["kind"]: value for metric, value in query("prefect_retention_seconds")} == {
        "events": 7 * 86400,
        "flow_runs": 90 * 86400,
        "logs": 30 * 86400,
    }
    assert min(value for metric, value in query("prefect_table_size_bytes") if metric["table"] == "events") > 8192
    assert max(value for _metric, value in query("prefect_scheduler_heartbeat_age_seconds")) < 20


def test_the_other_exporters_tell_what_they_are_for() -> None:
    wanted = {
        "node_cpu_seconds_total",
        "node_filesystem_avail_bytes",
        "node_systemd_unit_state",
        "pg_stat_database_numbackends",
        "pg_settings_max_connections",
        "redis_memory_used_bytes",
        "redis_memory_max_bytes",
        "nginx_connections_active",
        "process_cpu_seconds_total",
    }
    assert wanted - names(*wanted) == set()
    assert {value for _metric, value in query("redis_memory_max_bytes")} == {512 * 2**20}
    units = {metric["name"] for metric, value in query('node_systemd_unit_state{instance="api1",state="active"} == 1')}
    assert "prefect-api@4200.service" in units


def test_requests_are_counted_by_endpoint_and_server() -> None:
    def counted() -> dict[str, float]:
        return {
            metric["upstream"]: value
            for metric, value in query('prefect_http_requests_total{method="GET",endpoint="/api/flows/name/:",status="404"}')
        }

    before = sum(counted().values())
    for _request in range(20):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{LAB.url}/flows/name/no-such-flow", LAB.auth_string)
    until(lambda: sum(counted().values()) == before + 20)
    assert sum(counted().values()) == before + 20
    assert set(counted()) <= {"api1:4200", "api2:4200"}
    buckets = query('sum by (le) (prefect_http_request_seconds_bucket{endpoint="/api/flows/name/:"})')
    assert {metric["le"] for metric, _value in buckets} >= {"0.1", "1", "+Inf"}
    assert query("prefect_http_unread_lines_total")[0][1] == 0


def secrets() -> list[str]:
    """What was generated of each password; what follows is the same for all."""
    files = [ROOT / "build/lab/monitoring" / name for name in ("database", "redis", "auth", "exporter")]
    found = [path.read_text().strip() for path in files]
    assert all(len(secret) >= 20 for secret in found)
    return found


def test_nothing_that_is_served_holds_a_secret() -> None:
    pages = [f"https://{STATE}:{port}/{page}" for port in EXPORTERS.values() for page in ("metrics", "", "debug/pprof/cmdline")]
    pages += [f"{PROMETHEUS}/api/v1/{page}" for page in ("status/config", "status/flags", "targets")]
    pages += [f"https://{MONITOR}:9093/api/v2/status"]
    told = ""
    for page in pages:
        try:
            told += get(page)
        except urllib.error.HTTPError:
            continue
    assert len(told) > 100_000
    assert [secret for secret in secrets() if secret in told] == []
    listed = "".join(LAB.on(host, "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '; systemctl show '*' | grep ^Exec") for host in HOSTS)
    assert [secret for secret in secrets() if secret in listed] == []


def test_the_exporter_of_redis_sends_its_password_to_redis_alone() -> None:
    listen = "import socket; s = socket.create_server(('127.0.0.1', 7777)); s.settimeout(30); c, _ = s.accept(); print(c.recv(999))"
    LAB.on("state1", f'systemd-run --quiet --collect --unit=thief -p StandardOutput=file:/run/thief python3 -c "{listen}"; sleep 1')
    get(f"https://{STATE}:9121/scrape?target=redis://127.0.0.1:7777")
    caught = until(lambda: LAB.on("state1", "cat /run/thief"))
    assert "AUTH" not in caught
    assert secrets()[3] not in caught


def test_every_leg_is_tls_and_verified() -> None:
    """The scan of every port says what they speak; this is who asks whom, and that no page is trusted without the authority."""
    for page in ("targets", "alertmanagers"):
        data = json.loads(get(f"{PROMETHEUS}/api/v1/{page}"))["data"]
        found = [one.get("scrapeUrl") or one["url"] for one in data.get("activeTargets") or data["activeAlertmanagers"]]
        assert found
        assert [url for url in found if not url.startswith("https://")] == []
    ports = [(STATE, port) for port in EXPORTERS.values()] + [(MONITOR, 9090), (MONITOR, 9093)]
    for host, port in ports:
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            direct(f"https://{host}:{port}/metrics", timeout=10)
        with pytest.raises((urllib.error.HTTPError, OSError)):
            direct(f"http://{host}:{port}/metrics", timeout=10)
    # Behind the TLS of nginx's exporters, this host alone reaches them.
    listening = LAB.on("state1", "ss -Hltn 'sport = :19113 or sport = :13903'")
    assert sorted(line.split()[3] for line in listening.splitlines()) == ["127.0.0.1:13903", "127.0.0.1:19113"]


def test_certificates_are_told_as_they_are_on_disk_and_as_they_are_shown() -> None:
    shown = {metric["target"]: value for metric, value in query("prefect_served_certificate_expiry_timestamp_seconds")}
    on_disk = {metric["name"]: value for metric, value in query('prefect_certificate_expiry_timestamp_seconds{instance="state1"}')}
    assert {"balancer": on_disk["nginx"], "database": on_disk["postgres"], "redis": on_disk["redis"]} == shown
    assert min(shown.values()) > time.time() + 300 * 86400


def test_a_renewed_certificate_is_served_at_once() -> None:
    """Monitoring takes it by itself, exporters at the next run; none is without an answer then."""
    script = f"openssl s_client -connect {{}} -CAfile {HOSTS_AUTHORITY} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
    ports = [("state1", f"{STATE}:{port}") for port in EXPORTERS.values()] + [("monitor1", f"{MONITOR}:{port}") for port in (9090, 9093)]

    def served() -> list[str]:
        return [LAB.on(host, script.format(address)) for host, address in ports]

    before, watchers = served(), LAB.started(["monitor1"], "prometheus prometheus-alertmanager")
    for host, names_ in (("state1", "exporters prefect_exporter"), ("monitor1", "exporters monitoring")):
        LAB.on(host, f"for n in {names_}; do rm /etc/prefect-tls/$n.crt; done")
    LAB.play("site")
    after = served()
    assert all(after)
    assert [address for (_host, address), old, new in zip(ports, before, after, strict=True) if old == new] == []
    assert LAB.started(["monitor1"], "prometheus prometheus-alertmanager") == watchers
    test_everything_is_asked_and_answers()


def cpu(host: str, *units: str) -> float:
    """Seconds of CPU that the units have used."""
    used = LAB.on(host, f"systemctl show --value -P CPUUsageNSec {' '.join(units)}")
    return sum(int(value) for value in used.split()) / 1e9


def test_what_it_costs_an_api_host(capsys: pytest.CaptureFixture[str]) -> None:
    seconds, scrapes = 60, 60
    begun = cpu("api1", "prometheus-node-exporter")
    time.sleep(seconds)
    node = (cpu("api1", "prometheus-node-exporter") - begun) / seconds
    # What a scrape costs the server itself: many of them, less what it does anyway.
    server, started = "prefect-api@4200", time.monotonic()
    begun = cpu("api1", server)
    for _scrape in range(scrapes):
        get("https://172.28.11.21:4200/api/metrics", LAB.auth_string)
    busy, lasted = cpu("api1", server) - begun, time.monotonic() - started
    begun = cpu("api1", server)
    time.sleep(lasted)
    idle = cpu("api1", server) - begun
    scrape = max(0.0, busy - idle) / scrapes
    # The lab asks every 5 s.
    whole = node + scrape / 5
    with capsys.disabled():
        print(f"\nan API host: its exporter {node:.2%} of a core, each scrape of its server {scrape * 1000:.1f} ms; {whole:.2%} every 5 s")
    assert node > 0
    assert whole <= MOST_OF_A_CORE


def test_who_reads_versions_of_clients_reads_the_log_of_json() -> None:
    get(f"{LAB.url}/health", agent="prefect/9.8.7 (API 0.8.4)")
    line = json.loads(until(lambda: LAB.on("state1", "grep 9.8.7 /var/log/nginx/prefect.log || true")).splitlines()[-1])
    assert (line["method"], line["endpoint"], line["status"], line["uri"]) == ("GET", "/api/health", "200", "/api/health")
    assert line["upstream"] in ("172.28.11.21:4200", "172.28.11.22:4200")
    assert LAB.on("state1", "stat -c '%U %G %a' /var/log/nginx/prefect.log") == "www-data adm 640\n"


def test_the_status_names_who_watches(tmp_path: Path) -> None:
    def found() -> dict[str, Any]:
        (line,) = [line for line in LAB.play("status", output="json").output.splitlines() if line.startswith("{")]
        return dict(json.loads(line))

    watchers = {(host, f"{unit}.service") for host in ("monitor1", "api2") for unit in ("prometheus", "prometheus-alertmanager")}
    assert {(unit["host"], unit["name"]) for unit in found()["processes"]} >= watchers
    with on_host("monitor1", "systemctl stop prometheus-alertmanager", "systemctl start prometheus-alertmanager"):
        assert [problem for problem in found()["problems"] if problem.startswith("prometheus-alertmanager.service on monitor1 is ")]
    assert found()["problems"] == []
    page = tmp_path / "status.html"
    LAB.play("status", output="html", status_page=str(page))
    text = page.read_text()
    assert "no history" not in text
    assert text.count("<svg") > 1


def running() -> list[str]:
    return LAB.started(["monitor1", "api2"], "prometheus prometheus-alertmanager") + LAB.started(
        ["state1"], "mtail prometheus-tls prometheus-redis-exporter"
    )


def test_a_second_run_changes_and_restarts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = running()
    played = LAB.play("site")
    with capsys.disabled():
        print(f"\na second run with monitoring: {played.seconds:.0f} s")
    assert played.changed == 0, played.output
    assert running() == before


def test_a_dry_run_says_what_it_would_do() -> None:
    before = running()
    played = LAB.play("site", "--check", "--tags", "monitoring", monitoring_retention="16d", exporters_node_port=9101)
    assert played.changed >= len(HOSTS) + 1, played.output
    assert "--storage.tsdb.retention.time=15d" in LAB.on("monitor1", "cat /etc/systemd/system/prometheus.service")
    assert running() == before


@contextmanager
def on_host(host: str, do: str, undo: str) -> Iterator[None]:
    LAB.on(host, do)
    try:
        yield
    finally:
        LAB.on(host, undo)


@pytest.fixture
def rules(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "mine.yml"
        path.write_text(text)
        return str(path)

    return write


def test_an_exporter_without_its_password() -> None:
    played = LAB.play("site", expect=2, exporters_redis_password="")
    said = "exporters_redis_password is missing or empty; the exporter of Redis (on state1)", "Nothing was changed"
    assert played.says(*said), played.output
    assert played.changed == 0


BROKEN = """
groups:
  - name: mine
    rules:
      - {alert: MineIsBroken, expr: "sum(up))"}
"""


def test_a_broken_rule(rules: Callable[[str], str]) -> None:
    before = LAB.on("monitor1", PROMETHEUS_FILES), running()
    played = LAB.play("site", "--tags", "monitoring", expect=2, monitoring_rule_files=[rules(BROKEN)])
    assert played.says("MineIsBroken", "the file that was there before was left in place"), played.output[-3000:]
    assert played.changed == 0
    assert (LAB.on("monitor1", PROMETHEUS_FILES), running()) == before


def test_rules_that_are_not_there_and_rules_that_are_no_yaml(rules: Callable[[str], str]) -> None:
    played = LAB.play("preflight", expect=2, monitoring_rule_files=["/no/such/rules.yml"])
    assert played.says("monitoring_rule_files names /no/such/rules.yml"), played.output[-3000:]
    played = LAB.play("site", "--tags", "monitoring", expect=2, monitoring_rule_files=[rules("groups: [")])
    assert played.says("mine.yml"), played.output[-3000:]
    assert played.changed == 0


def test_a_receiver_that_is_wrong_is_refused_without_telling_its_secret() -> None:
    before = LAB.on("monitor1", PROMETHEUS_FILES), running()
    receivers = [{"name": "hook", "webhook_configs": [{"url": "nothttp://user:geheimnis@example.com"}]}]
    played = LAB.play("site", "--tags", "monitoring", expect=2, monitoring_alertmanager_receivers=receivers)
    assert played.says("Write the configuration of Alertmanager", "scheme"), played.output[-3000:]
    assert "geheimnis" not in played.output
    assert played.changed == 0
    assert (LAB.on("monitor1", PROMETHEUS_FILES), running()) == before


def test_a_log_that_cannot_be_read() -> None:
    before = LAB.on("monitor1", PROMETHEUS_FILES), running()
    log = "/var/log/nginx/prefect.log"
    with on_host("state1", f"chmod 600 {log}", f"chmod 640 {log}"):
        played = LAB.play("site", "--tags", "monitoring", expect=2, exporters_nginx_access_port=3904)
    assert played.says("nginx_access on state1 cannot read", log, "Permission denied"), played.output[-3000:]
    assert (LAB.on("monitor1", PROMETHEUS_FILES), running()) == before
    assert "listen 172.28.11.11:3903 ssl;" in LAB.on("state1", "cat /etc/prometheus-tls.conf")


def test_a_foreign_prometheus_is_left_alone() -> None:
    before = running()
    unit = "/etc/systemd/system/prometheus.service"
    with on_host("monitor1", f"mv {unit} /run/kept", f"mv /run/kept {unit}"):
        played = LAB.play("site", "--tags", "install", expect=2)
    assert played.says("A Prometheus is installed on monitor1 already", "scrape_config"), played.output[-3000:]
    assert played.changed == 0
    assert running() == before


def test_an_exporter_that_was_stopped_runs_again() -> None:
    unit = "prometheus-nginx-exporter"
    LAB.on("state1", f"systemctl disable --now --quiet {unit}")
    played = LAB.play("site", "--tags", "monitoring")
    assert played.changed == 1, played.output
    assert LAB.on("state1", f"systemctl is-active {unit}; systemctl is-enabled {unit}") == "active\nenabled\n"


def test_a_prometheus_of_your_own_is_told_what_to_ask(tmp_path: Path) -> None:
    written = tmp_path / "scrape.yml"
    password = "/etc/prometheus/prefect-api.password"
    played = LAB.play("scrape_config", scrape_config_file=str(written))
    assert played.says("job_name: prefect_api", f"password_file: {password}")
    config = written.read_text()
    assert [secret for secret in secrets() if secret in config + played.output] == []
    assert SUFFIX not in config
    encoded = base64.b64encode(config.encode()).decode()
    assert config.count("scheme: https") == config.count('ca_file: "/etc/prometheus/prefect-ca.crt"') == len(EXPORTERS) + 3
    checked = LAB.on("monitor1", f"echo {encoded} | base64 -d > /run/yours.yml && promtool check config /run/yours.yml")
    assert "SUCCESS" in checked


@dataclass(frozen=True)
class Changed(Lab):
    """The same hosts with another inventory."""

    folder: str = ""

    @property
    def inventory(self) -> str:
        return self.folder


def test_turned_off_it_stops_and_turned_on_again_it_runs(tmp_path: Path) -> None:
    """As docs/monitoring.md says: the group leaves the inventory. A host that was nothing else is out of reach then."""
    inventory = yaml.safe_load((ROOT / LAB.inventory / "hosts.yml").read_text())
    del inventory["all"]["children"]["monitoring"], inventory["all"]["hosts"]["monitor1"]
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "group_vars").symlink_to((ROOT / LAB.inventory / "group_vars").resolve())
    without = Changed(LAB.name, LAB.port, str(tmp_path))
    secret = "/etc/prometheus-redis-exporter.json /etc/prometheus/prefect-api.password /etc/prometheus/prefect-alertmanager.yml"
    foreign = "/etc/systemd/system/mtail.service"
    LAB.on("api1", f"printf '[Service]\nExecStart=/bin/sleep infinity\n' >{foreign}; systemctl daemon-reload; systemctl start mtail")

    def alive(host: str) -> set[str]:
        listed = LAB.on(
            host, "systemctl list-units --plain --no-legend --state=active,activating 'prometheus*' mtail.service prefect-exporter.service"
        )
        return {line.split()[0] for line in listed.splitlines()}

    try:
        assert {len(alive(host)) for host in ("state1", "api1", "api2")} == {7, 2, 3}
        played = without.play("site", "--tags", "monitoring", lab_checkout=str(ROOT))
        assert "Could not match supplied host pattern" not in played.output
        assert [alive(host) for host in ("state1", "api1", "api2")] == [set(), {"mtail.service"}, set()]
        assert "enabled" not in LAB.on("state1", "systemctl is-enabled mtail prefect-exporter prometheus-node-exporter || true").split()
        assert "".join(LAB.on(host, f"ls {secret} 2>/dev/null || true") for host in ("state1", "api2")) == ""
        assert without.play("site", "--tags", "monitoring", lab_checkout=str(ROOT)).changed == 0
    finally:
        LAB.on("api1", f"systemctl stop mtail; rm {foreign}; systemctl daemon-reload")
        LAB.play("site", "--tags", "monitoring")
    test_everything_is_asked_and_answers()
