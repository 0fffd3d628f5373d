# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Keeps secrets out of what people get to read."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "********"

_URL_LOGIN = re.compile(r"(?P<scheme>\w[\w+.-]*://[^\s:/@]*):[^\s/]*@")
_ASSIGNMENT = re.compile(r"(?P<name>\w*(?:PASSWORD|SECRET|TOKEN|AUTH_STRING|API_KEY)\w*)=(?:\"[^\"]*\"|'[^']*'|\S+)")
_HEADER = re.compile(r"(?P<name>authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer))\s+\S+", re.IGNORECASE)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with each secret masked, in whatever encoding it turns up; logins in URLs and headers as well, known or not."""
    forms = {form for secret in secrets if secret for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    text = _URL_LOGIN.sub(rf"\g<scheme>:{MASK}@", text)
    text = _ASSIGNMENT.sub(rf"\g<name>={MASK}", text)
    return _HEADER.sub(rf"\g<name> {MASK}", text)


def auth_secrets(auth_string: str) -> list[str]:
    """What is secret in ``user:password``."""
    return [part for part in (auth_string, auth_string.partition(":")[2]) if part]


def _forms(secret: str) -> Iterable[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield base64.b64encode(secret.encode()).decode()
