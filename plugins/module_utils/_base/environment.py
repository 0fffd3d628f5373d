# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The format of systemd's ``EnvironmentFile=``, written and read back without loss, and that of a file for a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import setting, text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# systemd drops an assignment that holds a control character other than a tab or a line break. Line breaks
# are legal there, but no setting of Prefect needs one, and each is a way to smuggle in another variable.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SPECIAL = '"\\`$'

# A comment, an assignment, or a line that is neither. A backslash at the end of a line joins it to the next one.
_LINES = re.compile(
    r"""\s*(?:[#;](?:[^\n]*\\\n)*[^\n]*
    |(?P<name>[^=\n]*)=(?P<value>(?:'[^']*(?:'|\Z)|"(?:\\.|[^"\\])*(?:"|\\?\Z)|\\.?|[^\n'"\\])*)
    |[^=\n]*)(?:\n|\Z)""",
    re.DOTALL | re.VERBOSE,
)
_PARTS = re.compile(
    r"""'(?P<single>[^']*)'?|"(?P<double>(?:\\.|[^"\\])*)(?:"|\\?\Z)|\\(?P<escaped>.?)|(?P<blank>\s)|(?P<plain>.)""", re.DOTALL
)
# In double quotes a backslash stays unless it has something to do.
_ESCAPED = re.compile(r"""\\(?:\n|(?P<special>["\\`$]))""")


def format_environment(environment: Mapping[str, Any]) -> str:
    """An ``EnvironmentFile``'s text, one sorted ``NAME="value"`` a line; a value of ``None`` leaves its name out.

    Raises ValueError if a name is not one for an environment variable, or a value holds a control character or is not valid Unicode. Values
    are never part of the message: they may be secret.
    """
    return "".join(f'{name}="{_escaped(value)}"\n' for name, value in _checked(environment))


def format_exports(environment: Mapping[str, Any]) -> str:
    """The text of a file that a POSIX shell can source, one sorted ``export NAME='value'`` a line; as :func:`format_environment`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in _checked(environment))


def parse_environment(content: str) -> dict[str, str]:
    """What systemd would read from an ``EnvironmentFile``'s text."""
    found = ((line["name"].rstrip(), line["value"]) for line in _LINES.finditer(content) if line["name"] is not None)
    return {name: _assigned(value) for name, value in found if _NAME.match(name)}


def _checked(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = sorted((text(name), value) for name, value in environment.items())
    return [(_checked_name(name), _checked_value(name, value)) for name, value in given if value is not None]


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"{name!r} cannot be the name of an environment variable: use letters, digits, underscores")
    return name


def _checked_value(name: str, value: Any) -> str:
    plain = setting(value)
    if _FORBIDDEN.search(plain):
        raise ValueError(f"the value of {name} holds a line break or another control character, which no unit can be given")
    try:
        plain.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the value of {name} is not valid Unicode") from None
    return plain


def _escaped(plain: str) -> str:
    return "".join("\\" + char if char in _SPECIAL else char for char in plain)


def _assigned(raw: str) -> str:
    """What an assignment's right side comes to. Blanks around it count only in quotes or behind a backslash."""
    value, kept = "", 0
    for part in _PARTS.finditer(raw):
        if part.lastgroup == "blank":
            value += part[0] if value else ""
            continue
        if part.lastgroup == "double":
            value += _ESCAPED.sub(lambda found: found["special"] or "", part["double"])
        elif part[0] != "\\\n":
            value += part[part.lastgroup or 0]
        kept = len(value)
    return value[:kept]
