"""Whatever a variable holds, a file that has it says that, and nothing else; or the preflight refuses it by name.

Each template is rendered with a plain value in each variable that it shows, and with an odd one in all that take it. What the program that
reads the file finds has to be the same, but for the odd value in place of the plain ones. A variable or a template that is new is tested
without another line here, but for what reads the template (`READERS`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import consumers, house

READERS: Mapping[str, Callable[[str], Any]] = {
    "*.service.j2": consumers.systemd_unit,
    "*.timer.j2": consumers.systemd_unit,
    "unit.conf.j2": consumers.systemd_unit,
    "*.env.j2": consumers.environment_file,
    "prometheus.yml.j2": consumers.yaml_file,
    "scrape_configs.yml.j2": consumers.yaml_file,
    "authorization.j2": consumers.nginx,
    "tls.conf.j2": consumers.nginx,
    "main.conf.j2": consumers.nginx,
    "prefect.conf.j2": consumers.nginx,
    "keepalived.conf.j2": consumers.keepalived,
    "users.j2": consumers.users,
    "pg_hba.conf.j2": consumers.pg_hba,
    "postgresql.conf.j2": consumers.postgresql_conf,
    "redis.conf.j2": consumers.redis_conf,
    "users.conf.j2": consumers.redis_conf,
    "sentinel.conf.j2": consumers.sentinel_conf,
    "haproxy.cfg.j2": consumers.haproxy,
}
# Parts of others, and pages, which the lookup `page` renders: test_pages.py.
PARTS = ("access.conf.j2", "access_server.conf.j2")
PAGES = ("*.html.j2", "*.svg.j2", "*.css")
# For a template that is rendered once for each of a list: the variable, or the list itself.
ITEMS: Mapping[str, str] = {
    "exporters/templates/exporter.service.j2": "common_exporters",
    "prefect_worker/templates/prefect-worker@.service.j2": "__prefect_worker_all",
    "prefect_worker/templates/worker.env.j2": "__prefect_worker_all",
}
NASTY = (
    "it's",
    'say "hi"',
    "a b",
    "a;b",
    "# c",
    "a\\",
    "\\n",
    "$(reboot) `id`",
    "${HOME}",
    "$uri",
    "%n %h %%",
    "{{ x }}",
    "a, b: c",
    "<b>&amp;",
    "größe 漢字 \U0001f600",
    "line\nbreak",
    "tab\there",
    "nul\0",
    "x" * 10_000,
    "} server { listen 1;",
    "' OR 1=1 --",
)
TEXTS = st.text(min_size=1, max_size=20)


def role(path: Path) -> str:
    return str(path.relative_to(house.ROLES))


def reader(path: Path) -> Callable[[str], Any] | None:
    return next((read for pattern, read in READERS.items() if path.match(pattern)), None)


RENDERED = [path for path in house.templates() if reader(path)]


def texts(path: Path, **others: Any) -> list[str]:
    """What a template comes to, once or for each of its list."""
    if role(path) not in ITEMS:
        return [house.render(path, **others)]
    return [house.render(path, item=item, **others) for item in house.value(ITEMS[role(path)], **others)]


def found(path: Path, **others: Any) -> list[Any]:
    read = reader(path)
    assert read
    return [read(text) for text in texts(path, **others)]


@cache
def plain(name: str) -> str:
    """A value that the variable can have, and that nothing else has."""
    number = sorted(house.options()).index(name) + 100
    for form in (f"zq{number}", f"/zq/{number}", f"{number}77m", f"http://zq{number}:1/api"):
        if not house.refusals(name, shaped(name, form)):
            return form
    return ""


def shaped(name: str, text: str) -> Any:
    """The value of a variable that has the text in it."""
    option = house.options()[name]
    if option.get("type") == "list":
        return [text]
    if option.get("type") == "dict":
        return {KEYS[name]: text}
    return f"user:{text}" if name == "prefect_auth_string" else text


# Of dictionaries, a key that takes any text.
KEYS = {
    "monitoring_external_labels": "site",
    "nginx_basic_auth_users": "alice",
    "postgres_settings": "application_name",
    "prefect_settings": "PREFECT_SERVER_UI_MESSAGE",
    "redis_settings": "proc-title-template",
    "redis_acl_users": "alice",
}
# Several words, each of which the program takes by itself.
WORDS = {"nginx_server_name"}
# What stands in these is the program's own language, quotes included.
RAW = {"redis_settings", "redis_acl_users", "redis_acl_keys", "redis_acl_rules", "firewall_extra_rules"}
# They name what there is: files where Ansible runs, hosts of the inventory, a lock file.
CHOSEN = {"prefect_lock_file", "prefect_wheelhouse", "prefect_backup_host", "prefect_version"}
EXAMPLES = 5


def is_text(name: str) -> bool:
    option = house.options()[name]
    kind, elements = option.get("type", "str"), option.get("elements", "")
    return not option.get("choices") and (kind in ("str", "path") or (kind == "list" and elements in ("str", "path")) or name in KEYS)


NAMES = sorted(name for name in house.options() if is_text(name) and name not in CHOSEN)
REACHES = re.compile(r"\b[a-z_][a-z0-9_]*\b")


@cache
def reached(path: Path) -> frozenset[str]:
    """The variables that a template's text, or a variable that it has, may depend on."""
    known = {name: str(value) for name, value in house.variables().items() if name not in house.FOUND}
    left, seen = [path.read_text(), str(ITEMS.get(role(path), ""))], set()
    while left:
        for name in REACHES.findall(left.pop()):
            if (name in known or name in house.options()) and name not in seen:
                seen.add(name)
                left.append(known.get(name, ""))
    return frozenset(seen)


@cache
def shown(path: Path) -> tuple[str, ...]:
    """The variables whose plain values are found in what a template comes to."""
    names = [name for name in NAMES if name in reached(path) and name not in RAW and plain(name)]
    text = str(found(path, **{name: shaped(name, plain(name)) for name in names}))
    return tuple(name for name in names if plain(name) in text)


@cache
def baseline(path: Path) -> Any:
    """What is found where all of them have their plain values."""
    return found(path, **{name: shaped(name, plain(name)) for name in shown(path)})


@cache
def refused(name: str, text: str) -> bool:
    """Whether the preflight refuses the text; the test fails if it does not say whose it is."""
    said = house.refusals(name, shaped(name, text))
    assert not said or any(name in problem for problem in said), said
    return bool(said)


def replaced(where: Any, old: str, new: str) -> Any:
    if isinstance(where, str):
        return where.replace(old, new)
    if isinstance(where, dict):
        return {replaced(key, old, new): replaced(each, old, new) for key, each in where.items()}
    return [replaced(each, old, new) for each in where] if isinstance(where, list) else where


def one_line(where: Any) -> str:
    """All words, however they are grouped."""
    return " ".join((where if isinstance(where, str) else " ".join(map(one_line, where))).split())


def test_every_template_is_read() -> None:
    left = [role(path) for path in house.templates() if not reader(path)]
    parts = [name for name in left if Path(name).name in PARTS or any(Path(name).match(pattern) for pattern in PAGES)]
    assert left == parts, "what reads these?"


def test_every_dictionary_has_a_key() -> None:
    assert KEYS.keys() <= house.options().keys()
    assert [name for name in KEYS if house.options()[name].get("type") != "dict"] == []


def test_templates_show_variables() -> None:
    """Without this the others might test nothing."""
    seen = {name for path in RENDERED for name in shown(path)}
    assert len(seen) > 40
    assert {"prefect_auth_string", "prefect_database_password", "nginx_server_name", "postgres_settings"} <= seen


@pytest.mark.parametrize("path", RENDERED, ids=role)
def test_a_value_works_or_is_refused(path: Path) -> None:
    def one(text: str) -> None:
        texts = {name: plain(name) if refused(name, text) else text for name in shown(path)}
        if text not in texts.values():
            return
        expected = baseline(path)
        for name in shown(path):
            expected = replaced(expected, plain(name), texts[name])
        read = found(path, **{name: shaped(name, text) for name, text in texts.items()})
        # The words of some are the program's, however they are grouped.
        assert read == expected or (WORDS & set(shown(path)) and one_line(read) == one_line(expected)), f"{text!r} in {texts.keys()}"

    for text in NASTY:
        one(text)
    settings(deadline=None, derandomize=True, database=None, max_examples=EXAMPLES)(given(TEXTS)(one))()
