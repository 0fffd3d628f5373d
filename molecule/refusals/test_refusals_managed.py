"""A managed database that will not do is found on bare hosts as soon as a release can ask it, and before anything is configured."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from test_refusals import HERE, ROOT, ansible, old_postgres, on_host, without

SAYS = (
    "Packages and releases are in place, and no service was touched",
    "PostgreSQL at 172.28.4.11:5432 is version 14.8",
    "Prefect needs 14.9 or newer",
)


def test_refused_before_anything_is_configured(tmp_path: Path) -> None:
    inventory = yaml.safe_load((HERE / "inventory" / "hosts.yml").read_text())
    without("postgres")(inventory)
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")
    # It speaks no TLS, which would be refused first.
    plain = {"prefect_database_host": "172.28.4.11", "prefect_database_tls": {}}
    variables = json.dumps({"lab_checkout": str(ROOT), **plain})
    with old_postgres():
        result = ansible("ansible-playbook", "-i", str(tmp_path), "site.yml", "-e", variables)
    output = result.stdout + result.stderr
    assert result.returncode != 0, output
    message = " ".join(output[output.index("[ERROR]") :].split())
    assert [words for words in SAYS if words not in message] == [], output
    for host in ("api1", "api2"):
        left = on_host(host, "ls /etc/prefect/prefect.env /opt/prefect/current /etc/systemd/system/prefect-* 2>/dev/null || true")
        assert left == "", output
