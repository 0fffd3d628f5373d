# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What texts have to look like, beyond their type: they get into files whose formats cannot hold everything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

LONGEST = 1024
"""In characters. nginx takes 4096 bytes for a word, and a login there is half as long again."""
LONGEST_SETTING = 16384
"""The same for a value in a dictionary of settings, which may be JSON."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_INDEX = re.compile(r"\[\d+\]")
_Form = tuple["re.Pattern[str]", str]

_ACCOUNT: _Form = (re.compile(r"[a-z_][a-z0-9_-]{0,31}"), "the name of a user or group, of small letters, digits, _ and -")
_USER: _Form = (re.compile(r"[A-Za-z0-9_.@-]*"), "the name of a user, of letters, digits and . _ @ -")
_PATH: _Form = (re.compile(r"(/[A-Za-z0-9._@+-]+)+/?"), "an absolute path, of letters, digits and . _ @ + -")
_PATH_OR_NONE: _Form = (re.compile(rf"({_PATH[0].pattern})?"), _PATH[1])
_ANY_PATH: _Form = (re.compile(r"[-+]*(/[^/\"\\$]+)+/?"), 'an absolute path without any of " \\ $')
_ADDRESS: _Form = (re.compile(r"[A-Za-z0-9_.:%/*\[\]-]*"), "an address or a name, without spaces or quotes")
# Letters beyond ASCII are named with the host by a later check, which knows where they come from.
_HOST_ADDRESS: _Form = (re.compile(r"[\w.:%/*\[\]-]*"), _ADDRESS[1])
_SIZE: _Form = (re.compile(r"[0-9]+([kKmMgG][bB]?)?"), "a number with a unit, such as 512mb")
_DURATION: _Form = (re.compile(r"([0-9]+(ms|[smhdwy]))+"), "a time such as 15s")
_VERSION: _Form = (re.compile(r"[A-Za-z0-9.+!_-]*"), "a version such as 3.8.8")
_URL: _Form = (
    re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._~:/?#\[\]@!&*+,;=%-]+)?"),
    "a URL, with anything special percent-encoded",
)
_NAMES: _Form = (
    re.compile(r"[A-Za-z0-9_.*:\[][A-Za-z0-9_.*:\]-]*( [A-Za-z0-9_.*:\[][A-Za-z0-9_.*:\]-]*)*"),
    "names of servers, with a space between two",
)
_REALM: _Form = (re.compile(r'[^"\\$]*'), 'a text without any of " \\ $')
# Sentinel writes it into its file as it is, and could not read anything else again.
_PLAIN_SECRET: _Form = (re.compile(r"""[^\s"'\\#]*"""), "a text without spaces, quotes, backslashes and #")
_WORDS: _Form = (re.compile(r"[^\"'\\]*"), "words without quotes or backslashes")

FORMS: Mapping[str, _Form] = {
    **dict.fromkeys(("prefect_user", "prefect_group", "prefect_worker_user", "prefect_worker_group"), _ACCOUNT),
    **dict.fromkeys(("prefect_root", "prefect_config_dir", "prefect_home", "prefect_python", "prefect_worker_home"), _PATH),
    **dict.fromkeys(
        ("exporters_textfile_directory", "nginx_metrics_directory", "prefect_api_metrics_directory", "nginx_access_log"), _PATH
    ),
    **dict.fromkeys(("prefect_watchdog_metrics_directory", "tls_directory"), _PATH),
    **dict.fromkeys(("nginx_tls_certificate", "nginx_tls_certificate_key", "tls_certificate", "tls_certificate_key"), _PATH_OR_NONE),
    **dict.fromkeys(("tls_ca_file", "prefect_api_ca_file", "nginx_auth_request_ca_file"), _PATH_OR_NONE),
    **dict.fromkeys(("prefect_address", "nginx_api_servers.address"), _HOST_ADDRESS),
    **dict.fromkeys(("prefect_database_host", "prefect_redis_host", "prefect_api_listen_address"), _ADDRESS),
    **dict.fromkeys(("exporters_listen_address", "monitoring_listen_address", "nginx_listen_addresses", "nginx_trusted_proxies"), _ADDRESS),
    **dict.fromkeys(("prefect_api_forwarded_allow_ips", "redis_bind", "postgres_listen_addresses"), _ADDRESS),
    **dict.fromkeys(("nginx_client_max_body_size", "redis_maxmemory"), _SIZE),
    **dict.fromkeys(("monitoring_retention", "monitoring_scrape_interval"), _DURATION),
    **dict.fromkeys(("prefect_version", "nginx_tls_protocols"), _VERSION),
    **dict.fromkeys(("prefect_api_url", "prefect_logfire_url", "monitoring_external_url"), _URL),
    "prefect_worker_writable_paths": _ANY_PATH,
    **dict.fromkeys(("prefect_redis_lock_username", "prefect_redis_watchdog_username", "exporters_redis_username"), _USER),
    **dict.fromkeys(("redis_acl_rules", "redis_acl_keys"), _WORDS),
    "redis_sentinel_password": _PLAIN_SECRET,
    "nginx_server_name": _NAMES,
    "nginx_basic_auth_realm": _REALM,
}
"""By the name of a variable, an element of a list or a key within it: what the whole of it matches, and that in words."""

# Free dictionaries whose keys and values become lines of a file.
_SETTINGS: Mapping[str, _Form] = {
    "monitoring_external_labels": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "the name of a label"),
    "postgres_settings": (re.compile(r"[A-Za-z_][A-Za-z0-9_.]*"), "the name of a setting"),
    "redis_settings": (re.compile(r"[A-Za-z][A-Za-z0-9-]*"), "the name of a setting"),
    "redis_acl_users": (re.compile(r"[A-Za-z0-9_.@-]+"), "the name of a user"),
    "prefect_settings": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "the name of a setting"),
    "nginx_basic_auth_users": (re.compile(r"[^:#\s][^:\s]*"), "the name of a user"),
}


def form_problems(name: str, value: Any, longest: int = LONGEST) -> Iterator[str]:
    """What is wrong with a text, without the text: it may be a secret."""
    plain = text(value)
    if len(plain) > longest:
        yield f"{name} is {len(plain)} characters long; it may have {longest}."
    elif _CONTROL.search(plain):
        yield f"{name} holds a line break or another control character, which the files that it is for cannot hold."
    else:
        pattern, words = FORMS.get(_INDEX.sub("", name), (None, ""))
        if pattern and not pattern.fullmatch(plain):
            yield f"{name} must be {words}."


def settings_problems(name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the names and the values of a dictionary of settings."""
    if name not in _SETTINGS:
        return
    pattern, words = _SETTINGS[name]
    for key, value in settings.items():
        if not pattern.fullmatch(text(key)):
            yield f"{name} holds {text(key)[:40]!r}, which is not {words}."
        values = value if isinstance(value, (list, tuple)) else [value]
        for each in values:
            if not isinstance(each, Mapping):
                yield from form_problems(f"{name}.{text(key)[:40]}", each, LONGEST_SETTING)
