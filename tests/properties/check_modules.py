"""Whatever a parameter of a module holds, the module gets that; and what is made of it for PostgreSQL, Redis, a shell or systemd says that.

A module that is new is tested without another line here.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import consumers, house
from tests.properties.check_templates import NASTY

house.loader()

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import format_environment, format_exports  # noqa: E402
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import database_url, redis_url  # noqa: E402
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import literal, quoted  # noqa: E402

MODULES = sorted(path.stem for path in (house.ROOT / "plugins" / "modules").glob("*.py"))
TEXTS = st.text(min_size=1, max_size=20) | st.sampled_from(NASTY)
SECRET = re.compile(r"password|passphrase|auth_string|token|secret(?!s?_)")
often = settings(deadline=None, derandomize=True, database=None, max_examples=100)


class SpecError(Exception):
    """Ends a module when it has said what it takes."""


def spec(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The argument spec of a module, whose own work is not begun."""
    code = importlib.import_module(f"ansible_collections.selfhosted.prefect.plugins.modules.{module}")
    seen: dict[str, Any] = {}

    def take(argument_spec: dict[str, Any], **_: Any) -> None:
        seen.update(argument_spec)
        raise SpecError

    if not hasattr(code, "AnsibleModule"):
        return {}
    monkeypatch.setattr(code, "AnsibleModule", take)
    with pytest.raises(SpecError):
        code.main()
    return seen


def shaped(option: dict[str, Any], text: str) -> Any:
    """A value of an option that has the text wherever a text can be."""
    kind, inner = option.get("type", "str"), option.get("options")
    if option.get("choices"):
        return option["choices"][:1] if kind == "list" else option["choices"][0]
    if kind == "list":
        return [shaped({**option, "type": option.get("elements", "str")}, text)]
    if kind == "dict":
        return {name: shaped(each, text) for name, each in inner.items()} if inner else {"key": text}
    # A path is expanded: that is its type.
    return {"int": 1, "float": 1.0, "bool": True, "path": "/"}.get(kind, text)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_gets_what_was_given(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = spec(module, monkeypatch)
    for text in NASTY:
        wanted = {name: shaped(option, text) for name, option in options.items()}
        taken = ArgumentSpecValidator({name: {**option, "required": False} for name, option in options.items()}).validate(wanted)
        assert taken.error_messages == []
        assert {name: taken.validated_parameters[name] for name in wanted} == wanted


def hidden(options: dict[str, Any], within: str = "") -> list[str]:
    """The options whose names are those of secrets, and that a verbose run would show."""
    found = []
    for name, option in options.items():
        if option.get("options"):
            found += hidden(option["options"], f"{within}{name}.")
        elif SECRET.search(name) and option.get("type", "str") == "str" and "no_log" not in option:
            found.append(f"{within}{name}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_hides_secrets(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hidden(spec(module, monkeypatch)) == []


def encodable(text: str) -> bool:
    return not any(0xD800 <= ord(char) < 0xE000 for char in text)


@often
@given(TEXTS.filter(encodable), TEXTS.filter(encodable), TEXTS.filter(encodable))
def test_urls(user: str, password: str, name: str) -> None:
    made = urlsplit(redis_url({"host": "r", "username": user, "password": password}))
    assert (unquote(made.username or ""), unquote(made.password or ""), made.hostname, made.path) == (user, password, "r", "/0")
    made = urlsplit(database_url({"host": "d", "user": user, "password": password, "name": name}))
    assert (unquote(made.username or ""), unquote(made.password or ""), made.hostname) == (user, password, "d")
    assert unquote(made.path[1:]) == name


@often
@given(TEXTS)
def test_a_host_stays_one(host: str) -> None:
    """It is not quoted: what would be more than a host is refused."""
    try:
        made = urlsplit(redis_url({"host": host, "password": "p"}))
    except ValueError:
        return
    assert (made.password, made.path, made.query, made.fragment) == ("p", "/0", "", "")


@often
@given(TEXTS)
def test_sql(text: str) -> None:
    """As PostgreSQL's scanner takes them."""
    assert re.fullmatch(r'"(?:[^"]|"")*"', quoted(text), re.DOTALL)
    assert quoted(text)[1:-1].replace('""', '"') == text
    taken = re.fullmatch(r" E'((?:[^'\\]|''|\\.)*)'", literal(text), re.DOTALL)
    assert taken
    assert re.sub(r"''|\\(.)", lambda each: each[1] or "'", taken[1], flags=re.DOTALL) == text


@pytest.mark.parametrize("text", NASTY)
def test_environment(text: str) -> None:
    """Of a systemd unit, and of a shell: the real one."""
    try:
        made, exports = format_environment({"A": text, "B": "after"}), format_exports({"A": text, "B": "after"})
    except ValueError as error:
        assert "A" in str(error)
        return
    assert dict(consumers.environment_file(made)) == {"A": text, "B": "after"}
    assert consumers.shell(exports) == {"A": text, "B": "after"}


def test_the_shell_is_a_real_one(tmp_path: Path) -> None:
    assert consumers.shell(f"export A=$(touch {tmp_path}/ran)\n") == {"A": ""}
    assert (tmp_path / "ran").exists()
