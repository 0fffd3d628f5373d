# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The format of systemd's ``EnvironmentFile=``, written and read back without loss, and that of a file for a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._text import setting, text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# systemd drops an assignment that holds a control character other than a tab or a line break. Line breaks
# are legal there, but no setting of Prefect needs one, and each is a way to smuggle in another variable.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SPECIAL = '"\\`$'


def format_environment(environment: Mapping[str, Any]) -> str:
    """An ``EnvironmentFile``'s text, one sorted ``NAME="value"`` a line; a value of ``None`` leaves its name out.

    Raises:
        ValueError: a name is not one for an environment variable, or a value holds a control character or is not
            valid Unicode. Values are never part of the message: they may be secret.
    """
    return "".join(f'{name}="{_escaped(value)}"\n' for name, value in _checked(environment))


def format_exports(environment: Mapping[str, Any]) -> str:
    """The text of a file that a POSIX shell can source, one sorted ``export NAME='value'`` a line; as :func:`format_environment`."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in _checked(environment))


def parse_environment(content: str) -> dict[str, str]:
    """What systemd would read from an ``EnvironmentFile``'s text."""
    return dict(_assignments(_Reader(content)))


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


class _Reader:
    """A cursor over text."""

    def __init__(self, content: str) -> None:
        self._content = content
        self._at = 0

    def next(self) -> str:
        """The next character, or the empty string at the end."""
        char = self._content[self._at : self._at + 1]
        self._at += 1
        return char

    def line(self) -> str:
        """The rest of the line."""
        end = self._content.find("\n", self._at)
        end = len(self._content) if end < 0 else end
        rest, self._at = self._content[self._at : end], end + 1
        return rest

    def back(self) -> None:
        self._at -= 1

    def more(self) -> bool:
        return self._at < len(self._content)


def _assignments(reader: _Reader) -> Any:
    while reader.more():
        char = reader.next()
        if char.isspace():
            continue
        if char in "#;":
            _skip_comment(reader)
            continue
        reader.back()
        name, found = _name(reader)
        if found:
            value = _value(reader)
            if _NAME.match(name):
                yield name, value


def _skip_comment(reader: _Reader) -> None:
    while reader.line().endswith("\\"):
        pass


def _name(reader: _Reader) -> tuple[str, bool]:
    name = ""
    while reader.more():
        char = reader.next()
        if char == "=":
            return name.rstrip(), True
        if char == "\n":
            return name, False
        name += char
    return name, False


def _value(reader: _Reader) -> str:
    value = ""
    kept = 0  # blanks after this length are trailing ones, which systemd drops
    while reader.more():
        char = reader.next()
        if char == "\n":
            break
        if char in "'\"":
            value += _quoted(reader, char)
            kept = len(value)
        elif char == "\\":
            escaped = reader.next()
            value += "" if escaped == "\n" else escaped
            kept = len(value)
        elif not char.isspace() or value:
            value += char
            kept = kept if char.isspace() else len(value)
    return value[:kept]


def _quoted(reader: _Reader, quote: str) -> str:
    value = ""
    while reader.more():
        char = reader.next()
        if char == quote:
            break
        if char == "\\" and quote == '"':
            escaped = reader.next()
            char = escaped if escaped in _SPECIAL else "" if escaped == "\n" else "\\" + escaped
        value += char
    return value
