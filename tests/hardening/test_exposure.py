"""How much the units may do, by systemd's own measure; what is taken back of the common hardening has its reason beside it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

# It makes the imports of the collection below work.
from tests.load import collection  # noqa: F401  # pylint: disable=unused-import

from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.gate import HARDENING  # isort: skip

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "hardening.md"
ROLES = ("postgres", "redis", "prefect_api", "prefect_services", "nginx", "monitoring", "prefect_worker")
LIMIT = 2.5
# The closest that works, for the reasons in the unit.
EXCEPTIONS = {"keepalived.service": 2.6, "nginx.service": 2.6}
# What a drop-in of ours goes on top of, as far as it counts.
DISTRIBUTION = {
    "nginx.service": "[Service]\nExecStart=/usr/sbin/nginx\n",
    "postgresql@15-main.service": "[Service]\nExecStart=-/usr/bin/pg_ctlcluster --skip-systemctl-redirect %i start\n",
    "redis-server.service": "[Service]\nUser=redis\n",
    "etcd.service": "[Service]\nUser=etcd\nExecStart=/usr/bin/etcd\n",
    "patroni.service": "[Service]\nUser=postgres\nExecStart=/usr/bin/patroni /etc/patroni/config.yml\n",
    "keepalived.service": "[Service]\nExecStart=/usr/sbin/keepalived --dont-fork\n",
    "redis-sentinel.service": "[Service]\nUser=redis\n",
    "haproxy.service": "[Service]\nExecStart=/usr/sbin/haproxy\n",
}
KEEPER = "prefect-drain-keeper.service"
UNITS = {
    "prefect-api@4200.service",
    "prefect-services.service",
    "prefect-retention.service",
    "prefect-watchdog.service",
    "prefect-worker@heavy-heavy.service",
    "prefect-exporter.service",
    "prometheus-node-exporter.service",
    "prometheus-postgres-exporter.service",
    "prometheus-redis-exporter.service",
    "prometheus-nginx-exporter.service",
    "prometheus-tls.service",
    "mtail.service",
    "prometheus.service",
    "prometheus-alertmanager.service",
    "prefect-health-check.service",
    "prefect-firewall.service",
    "patroni-etcd-leader.service",
    KEEPER,
    *DISTRIBUTION,
}
hardening: str = yaml.safe_load((ROOT / "roles/common/vars/main/units.yml").read_text(encoding="utf-8"))["common_unit_hardening"]
OPTIONS = {line.partition("=")[0] for line in hardening.splitlines()}


def exposure(unit: Path) -> float:
    """What `systemd-analyze security` says of a unit."""
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    shown = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", shown.stdout)
    assert found, shown.stdout + shown.stderr
    return float(found[1])


@pytest.fixture(scope="module")
def units(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every unit of a host that has everything, drop-ins on top of what they change."""
    folder = tmp_path_factory.mktemp("units")
    host: dict[str, Any] = {"hosts": {"state1": {}}}
    more = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "ansible_host": "192.0.2.1",
        "folder": str(folder),
        "variables": [str(path) for name in ("defaults", "vars") for path in ROOT.glob(f"roles/[!c]*/{name}/main.yml")],
        "prefect_workers": [{"name": "heavy", "pool": "heavy"}],
        "prefect_database_password": "x",
        "prefect_redis_password": "x",
        "prefect_auth_string": "admin:x",
        "nginx_virtual_address": "192.0.2.9",
        "__keepalived_found": {"address": "192.0.2.9", "source": "192.0.2.1", "peers": ["192.0.2.2"]},
    }
    inventory = {"all": {"vars": more, "children": dict.fromkeys(ROLES, host)}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    commands.run(
        ["ansible-playbook", "-i", folder / "hosts.yml", "tests/hardening/units.yml"], env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    )
    for name, below in DISTRIBUTION.items():
        (folder / name).write_text(below + (folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / KEEPER).write_text("\n".join(["[Service]", "ExecStart=/usr/bin/python3", *HARDENING, ""]), encoding="utf-8")
    return {path.name: path for path in folder.glob("*.service")}


def test_every_unit_is_measured(units: dict[str, Path]) -> None:
    templates = {path.name.removesuffix(".j2") for path in ROOT.glob("roles/*/templates/*.service.j2")} - {"exporter.service"}
    families = {re.sub(r"@[^.]*", "@", name) for name in units} | {"health-check.service"}
    assert templates <= families
    assert len(list(ROOT.glob("roles/*/templates/unit.conf.j2"))) == len(DISTRIBUTION)
    assert units.keys() == UNITS


@pytest.mark.parametrize("name", sorted(UNITS))
def test_exposure(units: dict[str, Path], name: str) -> None:
    measured = exposure(units[name])
    assert measured < EXCEPTIONS.get(name, LIMIT)
    written = dict(re.findall(r"^\| `([^`]+)` \| ([0-9.]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert float(written[re.sub(r"@[^.]*", "@", name)]) == measured, f"{PAGE.name} says otherwise"


def exceptions(text: str) -> list[tuple[str, str]]:
    """The lines after the common hardening that take something of it back, each with the comment that it belongs to."""
    found, comment = [], ""
    for line in text.partition(hardening)[2].splitlines():
        if line.startswith("#"):
            comment = line
        elif line.partition("=")[0] in OPTIONS:
            found.append((line, comment))
        else:
            comment = ""
    return found


@pytest.mark.parametrize("name", sorted(UNITS - {KEEPER}))
def test_every_exception_has_its_reason(units: dict[str, Path], name: str) -> None:
    text = units[name].read_text(encoding="utf-8")
    assert hardening in text, "not from common_unit_hardening"
    assert [line for line, comment in exceptions(text) if not comment] == []


def test_the_keeper_of_a_drain_has_all_of_it() -> None:
    """It is started by a module, which has no templates."""
    assert {line.partition("=")[0] for line in HARDENING} == OPTIONS - {"PrivateUsers", "RemoveIPC"}
    changed = {"CapabilityBoundingSet", "ProtectHome", "ProtectSystem", "RestrictAddressFamilies", "PrivateUsers", "RemoveIPC"}
    assert [line for line in hardening.splitlines() if line not in HARDENING and line.partition("=")[0] not in changed] == []


def test_units_are_correct(units: dict[str, Path]) -> None:
    """No option that systemd does not know."""
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *(str(path) for path in units.values())]
    shown = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in shown.stderr.splitlines() if re.search(r"Unknown|Failed to parse|Invalid|ignoring", line)] == []
