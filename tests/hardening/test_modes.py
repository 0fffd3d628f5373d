"""Files that roles write: what others than their owner and group may do with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WRITERS = ("copy", "template", "file")
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml"), *ROOT.glob("playbooks/**/*.yml")])
# What all users may read, and why.
PUBLIC = {
    r"unit|drop_in|^/etc/systemd/system/": "systemd tells all users anyway, and complains of units that it alone can read",
    r"textfile_directory|certificate_metrics": "the node exporter reads what others write",
    r"health_check_program|mtail_program|keepalived_program": "a program without settings",
    r"postgres_config_directory|^/etc/postgresql-common": "Debian's tools, psql among them, read it for all users; it has no secret",
    r"scrape_config_file|status_page": "pages where Ansible runs, for others",
    r"^\{\{ tls_directory \}\}|common_tls_ca_file|client_settings_ca|\.crt$": "for all users, with the way to them; keys are not",
}


def tasks(found: Any) -> Iterator[dict[str, Any]]:
    """Every task, those of plays and blocks included."""
    for each in found or []:
        if isinstance(each, dict):
            yield each
            for part in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers"):
                yield from tasks(each.get(part))


def writes(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The tasks that write files, each with its module's arguments."""
    for task in tasks(yaml.safe_load(path.read_text(encoding="utf-8"))):
        for name in WRITERS:
            given = task.get(f"ansible.builtin.{name}")
            # The folder of a report, where Ansible runs, may be one that the user has.
            if given and given.get("state") not in ("absent", "link") and "dirname" not in str(given.get("path")):
                yield task, given


def problem(task: dict[str, Any], given: dict[str, Any]) -> str:
    """What is wrong with the mode of what a task writes; empty for nothing."""
    target, mode = str(given.get("dest") or given.get("path")), given.get("mode")
    if not isinstance(mode, str) or not re.fullmatch("[0-7]{4}", mode):
        return f"{target}: its mode is {mode}, which is not four digits in quotes"
    others = int(mode, 8) & 0o7
    if others & 0o2:
        return f"{target}: all users may write it"
    if others and ("no_log" in task or task.get("diff") is False or target.endswith(".key")):
        return f"{target}: holds secrets, and all users may read it"
    if others and not any(re.search(public, target) for public in PUBLIC):
        return f"{target}: why may all users read it?"
    return ""


def test_files_are_as_tight_as_they_can_be() -> None:
    found = [(path, *each) for path in FILES for each in writes(path)]
    assert len(found) > 30
    wrong = [(path, problem(task, given)) for path, task, given in found]
    assert [f"{path.relative_to(ROOT)}: {text}" for path, text in wrong if text] == []


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        ({}, {"dest": "/etc/x", "mode": "0640"}, ""),
        ({}, {"dest": "/etc/systemd/system/x.service", "mode": "0644"}, ""),
        ({}, {"dest": "{{ tls_directory }}/ca.crt", "mode": "0644"}, ""),
        ({}, {"dest": "/etc/x", "mode": "0644"}, "why may all users"),
        ({}, {"dest": "/etc/x"}, "not four digits"),
        ({}, {"dest": "/etc/x", "mode": 0o640}, "not four digits"),
        ({}, {"dest": "/etc/x", "mode": "preserve"}, "not four digits"),
        ({}, {"path": "/etc/systemd/system", "mode": "0777"}, "all users may write"),
        ({"diff": False}, {"dest": "/etc/systemd/system/x.service", "mode": "0644"}, "holds secrets"),
        ({"no_log": True}, {"dest": "/etc/systemd/system/x.service", "mode": "0644"}, "holds secrets"),
        ({}, {"dest": "{{ tls_directory }}/x.key", "mode": "0644"}, "holds secrets"),
    ],
)
def test_what_is_wrong_with_a_mode(task: dict[str, Any], given: dict[str, Any], said: str) -> None:
    text = problem(task, given)
    assert said in text
    assert bool(said) == bool(text)
