# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether variables have the types that argument specs give them, strictly: nothing is converted that roles use as it is.

And why one of them has no value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.forms import form_problems, settings_problems
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.names import nearest_slip

_WHOLE = re.compile(r"-?[0-9]+\Z")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_SECRET = re.compile(r"(password|secret|token|auth_string)\Z|basic_auth_users")
_UNDEFINED = re.compile(r"'([A-Za-z_]\w*)' is undefined")
# What ansible-core says of a value that no vault password opens, before and since 2.19.
_SEALED = re.compile(r"no vault secrets|vault exception marker|undecryptable", re.IGNORECASE)
_TRUTH = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0"})


def _is_text(value: Any) -> bool:
    """Text, or something that lost no character by being taken for a number; vaulted strings are not ``str`` everywhere."""
    return not isinstance(value, (bool, float, Mapping)) and not _is_list(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and type(value).__name__ != "AnsibleVaultEncryptedUnicode"


def _is_whole(value: Any) -> bool:
    return not isinstance(value, (bool, float, Mapping)) and not _is_list(value) and bool(_WHOLE.match(text(value)))


def _is_number(value: Any) -> bool:
    return not isinstance(value, (bool, Mapping)) and not _is_list(value) and bool(_NUMBER.match(text(value)))


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool) or (not isinstance(value, (float, Mapping)) and not _is_list(value) and text(value).lower() in _TRUTH)


_TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "str": (_is_text, "text"),
    "path": (_is_text, "a path"),
    "int": (_is_whole, "a whole number"),
    "float": (_is_number, "a number"),
    "bool": (_is_truth, "true or false"),
    "dict": (lambda value: isinstance(value, Mapping), "a dictionary of names and values"),
    "list": (_is_list, "a list"),
}


def variable_problems(options: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any], within: str = "") -> list[str]:
    """What is wrong with variables, one sentence each. ``options`` are those of an argument spec; values without one are not looked at."""
    found: list[str] = []
    for name, option in options.items():
        if name in values:
            found += _problems(f"{within}{name}", option, values[name])
    return found


def is_secret(name: str, option: Mapping[str, Any]) -> bool:
    """Whether the value of a variable must not be shown."""
    return bool(option.get("no_log")) or bool(_SECRET.search(name))


def undefined_variable(error: str) -> str | None:
    """The name of the variable that is missing, when that is why a template could not be evaluated."""
    found = _UNDEFINED.findall(error)
    return found[-1] if found else None


def undefined_problem(names: Sequence[str], missing: str, defined: Iterable[str]) -> str:
    """Variables refer to one that is not defined."""
    slip = nearest_slip(missing, defined)
    remedy = "Define it in a file that the inventory loads, such as group_vars/all/vault.yml, or correct the name."
    return (
        f"{' and '.join(names)} {'refers' if len(names) == 1 else 'refer'} to {missing}, which is not defined."
        f" {f'There is {slip}: give both the same name.' if slip else remedy}"
    )


def is_sealed(error: str) -> bool:
    """Whether a variable could not be evaluated because no vault password opens it."""
    return bool(_SEALED.search(error))


def sealed_problem(name: str) -> str:
    """No vault password opens a variable."""
    return (
        f"{name} is encrypted, and no vault password that was given opens it. Run the same command with --ask-vault-pass,"
        " --vault-password-file or --vault-id."
    )


def unevaluated_problem(name: str, option: Mapping[str, Any], error: str) -> str:
    """A variable has no value for any other reason. What Ansible says of it may quote the template, so not of a secret."""
    if is_secret(name, option):
        return f"{name} cannot be evaluated: its template is not valid. Correct it; what it holds is not shown."
    return f"{name} cannot be evaluated: {error.partition(' String: ')[0]}"


def mentions(value: Any, name: str) -> bool:
    """Whether a template, or one within a structure, has a variable's name. Vaulted values are left closed."""
    if isinstance(value, str):
        return bool(re.search(rf"\b{re.escape(name)}\b", value))
    if isinstance(value, Mapping):
        return any(mentions(each, name) for each in value.values())
    return isinstance(value, (list, tuple)) and any(mentions(each, name) for each in value)


def _problems(name: str, option: Mapping[str, Any], value: Any) -> Iterator[str]:
    kind = text(option.get("type") or "str")
    if kind not in _TYPES:
        return
    if value is None:
        # A required one that is missing has a sentence of its own.
        if "default" in option and option["default"] is not None:
            yield f"{name} is empty. Leave it out, or set it to {_wanted(kind, option)}."
        return
    if value is False and "off" in (option.get("choices") or []):  # what YAML makes of the word
        return
    matches, _words = _TYPES[kind]
    if not matches(value):
        quote = " Put it in quotes." if isinstance(value, (bool, float)) and kind in ("str", "path") else ""
        yield f"{name} must be {_wanted(kind, option)}{_not(name, option, value)}.{quote}"
    elif option.get("choices") and kind != "list" and text(value) not in map(text, option["choices"]):
        yield f"{name} must be one of {', '.join(map(text, option['choices']))}{_not(name, option, value)}."
    elif kind == "int" and name.endswith("_port") and not _possible_port(option, int(text(value))):
        yield f"{name} must be a TCP port, 1 to 65535{_not(name, option, value)}."
    elif kind in ("int", "float") and float(text(value)) < 0:
        yield f"{name} must be 0 or more{_not(name, option, value)}."
    elif kind in ("str", "path"):
        yield from form_problems(name, value)
    elif kind == "dict":
        yield from settings_problems(name, value)
        yield from _within_dict(name, option, value)
    elif kind == "list":
        for position, each in enumerate(value):
            yield from _problems(f"{name}[{position}]", {**option, "type": option.get("elements") or "raw", "default": ""}, each)


def _within_dict(name: str, option: Mapping[str, Any], value: Mapping[str, Any]) -> Iterator[str]:
    inner = option.get("options")
    if inner is None:
        return
    for strange in sorted(text(key) for key in value if key not in inner):
        yield f"{name} holds {strange}, which means nothing there. It takes {', '.join(inner)}."
    yield from _lacking(name, option, inner, value)
    for names in option.get("mutually_exclusive") or []:
        both = [each for each in names if value.get(each)]
        if len(both) > 1:
            yield f"{name} has both {' and '.join(both)}. Leave all but one of them out."
    yield from variable_problems(inner, value, f"{name}.")


def _lacking(name: str, option: Mapping[str, Any], inner: Mapping[str, Any], value: Mapping[str, Any]) -> Iterator[str]:
    for each in (each for each, its in inner.items() if its.get("required") and value.get(each) is None):
        yield f"{name} has no {each}. Set it."
    for key, wanted, needed in option.get("required_if") or []:
        if value.get(key, inner[key].get("default")) == wanted:
            yield from (f"{name} has no {each}, which {key} {wanted} needs. Set it." for each in needed if value.get(each) is None)


def _possible_port(option: Mapping[str, Any], port: int) -> bool:
    return 0 < port < 65536 or port == option.get("default")


def _wanted(kind: str, option: Mapping[str, Any]) -> str:
    return f"one of {', '.join(map(text, option['choices']))}" if option.get("choices") else _TYPES[kind][1]


def _not(name: str, option: Mapping[str, Any], value: Any) -> str:
    if is_secret(name, option) or isinstance(value, Mapping) or _is_list(value):
        return f", not {'a dictionary' if isinstance(value, Mapping) else 'a list' if _is_list(value) else type(value).__name__}"
    return f", not {value!r}" if isinstance(value, (bool, int, float)) else f", not {text(value)!r}"
