"""What a site puts before and beside the balancer: a proxy that ends TLS, and a firewall that is restarted. All before the upgrade."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from typing import Any

import pytest
from lab import OLD, ROOT, Lab, environment

LAB = Lab("upgrade", 4270)
BALANCER, API, FROZEN = "state1", "api1", "api2"
SERVER = "prefect-api@4200.service"
OUTSIDE = "prefect.example.com"
# A proxy of a company's, as far as it matters: it ends TLS and passes on what it knows. It stands on the balancer's own host.
PROXY = """
server {
    listen 8443 ssl;
    ssl_certificate /etc/nginx/company.pem;
    ssl_certificate_key /etc/nginx/company.key;
    location / {
        proxy_pass https://127.0.0.1:4200;
        proxy_ssl_trusted_certificate /etc/prefect-tls/ca.crt;
        proxy_ssl_verify on;
        # nginx takes no address for a certificate's name.
        proxy_ssl_name localhost;
        proxy_set_header Host %s;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto https;
    }
}
"""

# The proxy's certificate, while there is one.
COMPANY: list[str] = []


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Redirects are what is looked at."""


def ask(url: str, headers: Mapping[str, str] | None = None, body: Any = None) -> tuple[int, Message, Any]:
    """Status, headers and content of an answer."""
    trusting = ssl.create_default_context(cafile=LAB.authority)
    for certificate in COMPANY:
        trusting.load_verify_locations(cadata=certificate)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting), NoRedirects)
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())  # noqa: S310  the lab's own address
    request.add_header("Authorization", "Basic " + b64encode(LAB.auth_string.encode()).decode())
    request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.headers, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, error.headers, None


def address(host: str) -> str:
    return str(LAB.on(host, "hostname -I")).split()[0]


def wait(what: str, seconds: float, is_so: Callable[[], object]) -> float:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return time.monotonic() - begun


@contextmanager
def proxy() -> Iterator[str]:
    """A proxy before the balancer, and that the balancer is told of it."""
    LAB.on(
        BALANCER,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=company"
        f" -addext subjectAltName=IP:{address(BALANCER)}"
        " -keyout /etc/nginx/company.key -out /etc/nginx/company.pem 2>/dev/null;"
        f"cat > /etc/nginx/conf.d/company.conf <<'END'\n{PROXY % OUTSIDE}END\n",
    )
    with owned_by_nginx():
        LAB.play("site", "--tags", "nginx", prefect_version=OLD, nginx_trusted_proxies=["127.0.0.1"])
    COMPANY.append(LAB.on(BALANCER, "cat /etc/nginx/company.pem"))
    try:
        yield f"https://{address(BALANCER)}:8443"
    finally:
        COMPANY.clear()
        LAB.on(BALANCER, "rm /etc/nginx/conf.d/company.conf /etc/nginx/company.*")
        LAB.play("site", "--tags", "nginx", prefect_version=OLD)


@contextmanager
def owned_by_nginx() -> Iterator[None]:
    """The folder in which nginx buffers long answers is its own all the time: a check of its configuration as root may give it away."""
    watch = "while test -e /run/watched; do stat -c %U /var/lib/nginx/proxy; sleep 0.05; done | sort -u > /run/owners"
    LAB.on(BALANCER, f"touch /run/watched; ({watch}) >/dev/null 2>&1 &")
    try:
        yield
    finally:
        found = LAB.on(BALANCER, "rm /run/watched; sleep 1; cat /run/owners").split()
    assert found == ["www-data"]


def client_of(path: str) -> str:
    """Who the log says has asked for a path."""
    lines = [json.loads(line) for line in LAB.on(BALANCER, "tail -n 50 /var/log/nginx/prefect.log").splitlines()]
    return str(next(line["client"] for line in reversed(lines) if line["uri"] == path))


def test_a_proxy_that_ends_tls() -> None:
    """Links and redirects lead to the outside, and the log knows the client; a client that says the same of itself is not believed."""
    forged = {"X-Forwarded-Proto": "http", "X-Forwarded-Host": OUTSIDE, "X-Forwarded-For": "203.0.113.7"}
    direct = f"https://{address(BALANCER)}:4200"
    with proxy() as outside:
        me = f"{address(BALANCER).rpartition('.')[0]}.1"  # this machine, as the hosts see it
        for number in range(3):
            event = {"occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": f"test.{number}"}
            resource = {"prefect.resource.id": f"test.{number}"}
            ask(f"{outside}/api/events", body=[{**event, "resource": resource, "id": f"00000000-0000-4000-8000-00000000000{number}"}])
        wait("three events", 20, lambda: ask(f"{outside}/api/events/filter", body={"limit": 1})[2]["total"] >= 3)
        for base, headers, expected in ((outside, {}, f"https://{OUTSIDE}/"), (direct, forged, f"{direct}/")):
            _status, _headers, page = ask(f"{base}/api/events/filter", headers, {"limit": 1})
            assert page["next_page"].startswith(expected), page["next_page"]
            status, found, _content = ask(f"{base}/api/flows", headers, {"name": "x"})
            assert (status, found["Location"]) == (307, f"{expected}api/flows/")
            ask(f"{base}/api/hello?{base}", headers)
            assert client_of("/api/hello") == me


def rules(host: str, table: str, name: str) -> str:
    """What is in a set of a table, without the times."""
    return str(LAB.on(host, f"nft list set inet {table} {name} 2>/dev/null | grep elements || true"))


def translation(host: str, program: str, rules: str) -> str:
    """Saves or restores the address translation of a container, from this machine."""
    found = subprocess.run(
        ["docker", "inspect", "--format", "{{.State.Pid}}", f"prefect-{LAB.name}-{host}"], capture_output=True, text=True, check=True
    )
    command = ["nsenter", "--net", "--target", found.stdout.strip(), program, *(["--table", "nat"] if program == "iptables-save" else [])]
    return subprocess.run(command, input=rules, capture_output=True, text=True, check=True).stdout


def flushed(host: str, back: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> None:
    """Restarts a host's firewall, as far as it matters; Docker's own rules are put back, as names are looked up by them."""
    # With iptables, whose they are: nft lists them without their targets on Debian 12.
    docker = translation(host, "iptables-save", "")
    LAB.on(host, "nft flush ruleset")
    translation(host, "iptables-restore", docker)
    seconds = wait("the rules", 3, back)
    with capsys.disabled():
        print(f"\nthe rules on {host} are back {seconds:.1f} s after its firewall was flushed")


def lines(host: str, unit: str, words: str) -> int:
    return int(LAB.on(host, f"journalctl --unit {unit} --output cat | grep -c '{words}' || true"))


def test_a_firewall_that_is_flushed_keeps_a_silent_server_out(capsys: pytest.CaptureFixture[str]) -> None:
    silent, unit = address(FROZEN), "prefect-health-check"
    before = lines(BALANCER, unit, "were gone")
    LAB.on(FROZEN, f"kill -STOP $(systemctl show -P MainPID {SERVER})")
    try:
        wait("the silent server is left out", 15, lambda: silent in rules(BALANCER, "prefect_health_check", "v4"))
        flushed(BALANCER, lambda: silent in rules(BALANCER, "prefect_health_check", "v4"), capsys)
        begun = time.monotonic()
        for _request in range(6):
            assert ask(f"{LAB.url}/admin/version")[0] == 200
        assert time.monotonic() - begun < 10
    finally:
        LAB.on(FROZEN, f"kill -CONT $(systemctl show -P MainPID {SERVER})")
    wait("it is in use again", 15, lambda: silent not in rules(BALANCER, "prefect_health_check", "v4"))
    assert lines(BALANCER, unit, "were gone") == before + 1
    assert lines(BALANCER, unit, "nft:") == 0
    counted = LAB.on(BALANCER, "cat /run/prefect-health-check/prefect_health_check.prom")
    assert f'prefect_firewall_rules_restored_total{{table="prefect_health_check"}} {before + 1}' in counted
    assert 'prefect_firewall_rules_in_place{table="prefect_health_check"} 1' in counted


def drain(state: str) -> None:
    command = ["ansible", "-i", LAB.inventory, API, "--become", "-m", "selfhosted.prefect.prefect_drain", "-a", f"port=4200 state={state}"]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=120)


def test_a_firewall_that_is_flushed_keeps_a_drained_server_drained(capsys: pytest.CaptureFixture[str]) -> None:
    LAB.on(API, "mkdir -p /var/lib/prometheus/node-exporter")
    drain("drained")
    try:
        flushed(API, lambda: "4200" in rules(API, "prefect_drain", "ports"), capsys)
        LAB.on(API, "nft flush table inet prefect_drain")
        wait("the rules", 3, lambda: "reject" in LAB.on(API, "nft list table inet prefect_drain"))
    finally:
        drain("active")
    assert LAB.refusing([API]) == []
    assert LAB.on(API, "systemctl is-active prefect-drain-keeper || true") == "inactive\n"
    assert lines(API, "prefect-drain-keeper", "were gone") == 2
    counted = LAB.on(API, "cat /var/lib/prometheus/node-exporter/prefect_drain.prom; rm -r /var/lib/prometheus/node-exporter")
    assert 'prefect_firewall_rules_restored_total{table="prefect_drain"} 2' in counted
