# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keeps secrets out of what people get to read."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import format_environment, parse_environment

MASK = "********"

# Each begins where a word does: otherwise a line of a million letters would be tried at every one of them.
_URL_LOGIN = re.compile(r"(?P<scheme>(?<![\w+.-])\w[\w+.-]*://[^\s:/@]*):[^\s/]*@")
_ASSIGNMENT = re.compile(r"(?P<name>(?<!\w)\w*(?:PASSWORD|SECRET|TOKEN|AUTH_STRING|API_KEY)\w*)=(?:\"[^\"]*\"|'[^']*'|\S+)")
_HEADER = re.compile(r"(?P<name>authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer))\s+\S+", re.IGNORECASE)

_HIDDEN_WORD = r"(?:passwords?|passwd|passphrase|secrets?|tokens?|auth_string|api[_-]?keys?|private[_-]?key|credentials?|cookies?)"
_SECRET_NAME = re.compile(rf"(?:^|[\W_]){_HIDDEN_WORD}(?:[\W_]|$)", re.IGNORECASE)
_URL_WITH_LOGIN = re.compile(r"://[^\s:/@]*:([^\s/]+)@")
# What looks like a secret in any document, known or not: what is kept stands in "kept", and what ends it in "end".
_LOOKS_SECRET = tuple(
    re.compile(pattern, flags | re.MULTILINE)
    for pattern, flags in (
        # A name and its value, in the ways of shells, units, JSON, YAML and INI. A bare value of YAML goes on to the end of its line.
        (
            rf"(?P<kept>(?<![\w.-])(?!password_encryption)(?:[\w.-]*[_.-])?{_HIDDEN_WORD}(?:[_.-][\w.-]*)?[\"']?[ \t]*[:=][ \t]*)"
            rf"(?!{re.escape(MASK)})(?:\"(?:\\.|[^\"\\\n])*\"?|'(?:''|\\.|[^'\\\n])*'?|(?<=[:][ \t])[^\"'\n]+|[^\s\"',;&]+)",
            re.IGNORECASE,
        ),
        (r"(?P<kept>\bPASSWORD[ \t]+E?)'(?:''|\\.|[^'\\\n])*'?", re.IGNORECASE),
        (r"(?P<kept>\b(?:Basic|Bearer)[ \t]+)(?=\S*[A-Z0-9=])[A-Za-z0-9+/_.=~-]{8,}", 0),
        (r"(?P<kept>^[ \t]*(?:requirepass|masterauth)[ \t]+).+$", re.IGNORECASE),
        (r"(?P<kept>_header[ \t]+\S*(?:auth|key|token|secret|cookie)\S*[ \t]+)(?!\$)[^;\n]+", re.IGNORECASE),
        (r"(?P<kept>SCRAM-SHA-256\$)\S+", 0),
        (r"(?P<kept>\bmd5)[0-9a-f]{32}\b", 0),
        (r"(?P<kept>\$(?:1|2[aby]|5|6|7|y|apr1|argon2\w*)\$)[^\s:\"']+", 0),
        (r"(?P<kept>\b(?:pnu|pnb|pylf_v\d+_\w+?|gh[pousr])_)\w{8,}", 0),
        (r"(?P<kept>-----BEGIN [A-Z ]*PRIVATE KEY-----)[\s\S]*?(?P<end>-----END [A-Z ]*PRIVATE KEY-----|\Z)", 0),
    )
)
# Redis's users: passwords behind > and <, their hashes behind # and !.
_REDIS_USER = re.compile(r"\buser[ \t]+\S+[ \t]+(?=[^\n]*[<>#!])[^\n]*", re.IGNORECASE)
_REDIS_PASSWORD = re.compile(r"(?<=[ \t])(?P<kept>\"?[<>#!])(?:(?<=\"[<>#!])[^\"\n]*|\S+)")
_LONG_PIECE = re.compile(r"[A-Za-z0-9]{12,}")
_SHORTEST_BASE64 = 8


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with each secret masked, in whatever encoding it turns up; logins in URLs and headers as well, known or not."""
    for pattern in _patterns(tuple(sorted({secret for secret in secrets if secret}))):
        text = pattern.sub(MASK, text)
    text = _URL_LOGIN.sub(rf"\g<scheme>:{MASK}@", text)
    text = _ASSIGNMENT.sub(rf"\g<name>={MASK}", text)
    return _HEADER.sub(rf"\g<name> {MASK}", text)


def redact_document(text: str, secrets: Iterable[str] = ()) -> str:
    """As :func:`redact`, for whole files and logs that leave the site: whatever looks like a secret is masked, too.

    Long parts of a secret are, as well: a program that takes an address apart at the wrong place complains of one of them.
    """
    known = [secret for secret in secrets if secret]
    text = redact(text, [*known, *(piece for secret in known for piece in _LONG_PIECE.findall(secret))])
    for pattern in _LOOKS_SECRET:
        text = pattern.sub(_masked, text)
    return _REDIS_USER.sub(lambda line: _REDIS_PASSWORD.sub(_masked, line[0]), text)


def redact_environment(content: str, secrets: Iterable[str] = ()) -> str:
    """An ``EnvironmentFile``, read as systemd does and written anew: values of secret names masked, the others redacted."""
    known = list(secrets)
    return format_environment(
        {name: MASK if is_secret_name(name) else redact_document(value, known) for name, value in parse_environment(content).items()}
    )


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is a secret."""
    return bool(_SECRET_NAME.search(name))


def environment_secrets(content: str) -> list[str]:
    """The secrets within an ``EnvironmentFile``: values of secret names, their parts behind a colon, and passwords in URLs."""
    values = parse_environment(content)
    named = [value for name, value in values.items() if is_secret_name(name) and value]
    parts = [part for name, value in values.items() if name.endswith("AUTH_STRING") for part in auth_secrets(value)]
    return [*named, *parts, *(found for value in values.values() for found in _URL_WITH_LOGIN.findall(value))]


def auth_secrets(auth_string: str) -> list[str]:
    """What is secret in ``user:password``."""
    return [part for part in (auth_string, auth_string.partition(":")[2]) if part]


def _masked(found: re.Match[str]) -> str:
    groups = found.groupdict()
    return f"{groups.get('kept') or ''}{MASK}{groups.get('end') or ''}"


@lru_cache(maxsize=64)
def _patterns(secrets: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """The longest first: one secret may be part of another."""
    forms = {form for secret in secrets for form in _forms(secret)}
    return tuple(re.compile(form) for form in sorted(forms, key=len, reverse=True))


def _forms(secret: str) -> Iterator[str]:
    """Patterns for a secret: character by character in any usual escaping, in base64 at any place, in hexadecimal, hashed."""
    yield "".join(map(_character, secret))
    data = secret.encode("utf-8", "surrogatepass")
    whole = base64.b64encode(data).decode()
    yield re.escape(whole)
    yield re.escape(hashlib.sha256(data).hexdigest())
    if len(data) >= 4:
        yield f"(?i:{data.hex()})"
    for shift in range(3):
        core = _base64_core(data, shift)
        if len(core) >= _SHORTEST_BASE64:
            yield f"{re.escape(core)}[A-Za-z0-9+/=]*"
            yield f"{re.escape(core.translate(_URL_SAFE))}[A-Za-z0-9_=-]*"


_URL_SAFE = str.maketrans("+/", "-_")
_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


def _base64_core(data: bytes, shift: int) -> str:
    """What base64 makes of the data whatever stands before (``shift`` bytes of a group of three) and after."""
    encoded = base64.b64encode(b"\0" * shift + data).decode()
    return encoded[(shift * 8 + 5) // 6 : (shift + len(data)) * 8 // 6]


def _character(char: str) -> str:
    """A pattern for one character of a secret: itself, or as URLs, JSON, programs, shells, SQL, units and HTML write it."""
    if char.isascii() and char.isalnum():
        return char
    code = ord(char)
    data = char.encode("utf-8", "surrogatepass")
    ways = [
        # The percent sign of an encoding may itself be encoded.
        "".join(f"%(?:25)*(?i:{byte:02x})" for byte in data),
        "".join(rf"\\{{1,8}}x(?i:{byte:02x})" for byte in data),
        rf"\\{{1,8}}u(?i:{code:04x})" if code < 0x10000 else rf"\\{{1,8}}U(?i:{code:08x})",
        rf"\\{{1,8}}{code:03o}",
        rf"&(?:amp;)*\#(?:{code}|[xX]0*(?i:{code:x}));",
    ]
    if char in _ENTITIES:
        ways.append(f"&(?:amp;)*{_ENTITIES[char]};")
    if char == " ":
        ways.append(r"\+")
    if char == "'":
        ways += [r"'\"'\"'", r"'\\''"]
    # Backslashes multiply when one text is quoted within another; units and SQL double a character.
    ways.append(r"\\{1,8}" if char == "\\" else rf"\\{{0,8}}{re.escape(char)}{{1,2}}")
    return f"(?:{'|'.join(ways)})"
