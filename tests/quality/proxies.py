"""Where code of this repository opens a connection through whatever proxy the environment names.

Whatever speaks to the deployment's own parts must not. A line that means to use the site's proxy, as one that fetches packages does, says
so in a comment with "the site's proxy".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

MEANT = "the site's proxy"
URI_MODULES = {"uri", "get_url", "ansible.builtin.uri", "ansible.builtin.get_url"}
# A program for another machine within a program here is a string, and not seen as code.
IN_STRINGS = re.compile(r"\burlopen\(|\bhttpx\.(?:get|post|request|stream|Client|AsyncClient)\((?!.*trust_env=False)")
URLLIB = {"urlopen", "urlretrieve"}
ANSIBLE = {"open_url", "fetch_url"}
HTTPX = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "Client", "AsyncClient"}
COMMANDS = re.compile(r"(?:^|[\s;&|(/])(curl|wget)\s(?!.*--noproxy)")


def python_problems(path: Path) -> Iterator[str]:
    """Calls in a Python file that read the environment's proxy."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            reason = _call(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and IN_STRINGS.search(node.value):
            reason = "in a program for another machine: give urllib an opener with ProxyHandler({})"
        else:
            continue
        if reason and not any(MEANT in line for line in lines[max(node.lineno - 2, 0) : node.lineno]):
            yield f"{path}:{node.lineno}: {reason}"


def _call(node: ast.Call) -> str:
    owner, name = _name(node.func)
    keywords = {each.arg: each.value for each in node.keywords}
    inner = {_name(each.func)[1] for each in node.args if isinstance(each, ast.Call)}
    # Of websockets: what it connects to is the first argument, and subprotocols are its own.
    websocket = name == "connect" and (owner == "websockets" or "subprotocols" in keywords)
    reasons = {
        "urllib reads the environment's proxy: use build_opener(ProxyHandler({}))": name in URLLIB,
        f"{name} without use_proxy=False": name in ANSIBLE and not _is(keywords.get("use_proxy"), False),
        "build_opener without ProxyHandler({})": name == "build_opener" and "ProxyHandler" not in inner,
        f"httpx.{name} without trust_env=False": owner == "httpx" and name in HTTPX and not _is(keywords.get("trust_env"), False),
        "requests reads the environment's proxy": owner == "requests" and name in HTTPX | {"Session"},
        "a websocket without proxy=None": websocket and not _is(keywords.get("proxy", ...), None),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _name(called: ast.expr) -> tuple[str, str]:
    if isinstance(called, ast.Attribute):
        return (called.value.id if isinstance(called.value, ast.Name) else ""), called.attr
    return "", called.id if isinstance(called, ast.Name) else ""


def _is(node: object, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def yaml_problems(path: Path) -> Iterator[str]:
    """Tasks that ask a URL through the environment's proxy."""
    for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=_Loader):
        yield from (f"{path}: {problem}" for problem in _tasks(document))


class _Loader(yaml.SafeLoader):
    """Takes Ansible's own tags as what they are on."""


_Loader.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None)


def _tasks(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _tasks(each)
    elif isinstance(value, dict):
        for name in URI_MODULES & set(value):
            asked = value[name] if isinstance(value[name], dict) else {}
            if asked.get("use_proxy") is not False:
                yield f"the task {value.get('name')!r} has no use_proxy: false"
        for each in value.values():
            yield from _tasks(each)


def command_problems(path: Path) -> Iterator[str]:
    """Lines of a template, a unit or a shell script that ask by a program which reads the environment's proxy."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found = COMMANDS.search(line)
        if found and not line.lstrip().startswith("#") and MEANT not in line:
            yield f"{path}:{number}: {found[1]} without --noproxy '*'"


def problems(paths: Iterable[Path]) -> list[str]:
    """Every one of them in these files."""
    kinds = {".py": python_problems, ".yml": yaml_problems, ".yaml": yaml_problems, ".j2": command_problems, ".sh": command_problems}
    return [problem for path in sorted(paths) if path.suffix in kinds for problem in kinds[path.suffix](path)]
