# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of nginx."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.balancer import address_problem, balancer_problems

NEEDED = {
    "/nginx-health": "this collection's own checks",
    "/api/health": "the health checks",
    "/api/ready": "the health checks",
    "/api/csrf-token": "clients",
    "/api/admin/version": "clients, the health checks and the login page",
    "/ui-settings": "the user interface",
}
"""Paths that must not be closed, and what needs them."""

_PATH = r"/[A-Za-z0-9._~/%-]*"
_ADDRESS = r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?"
_QUERY = r"(\?[A-Za-z0-9._~/%&=-]*)?"


def nginx(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__nginx_agreed`` is what has to go with Prefect's settings."""
    if not variables["nginx_api_servers"]:
        yield (
            f"nginx on {variables['inventory_hostname']} has no API server to pass requests to: put hosts into the group prefect_api, or "
            "set nginx_api_servers."
        )
    log = text(variables["nginx_access_log"])
    if not re.fullmatch("(/[A-Za-z0-9._-]+)+", log):
        yield f'nginx_access_log is "{log}"; it has to be the absolute path of a file, of letters, digits and . _ - only.'
    if bool(text(variables["nginx_tls_certificate"])) != bool(text(variables["nginx_tls_certificate_key"])):
        yield "nginx_tls_certificate and nginx_tls_certificate_key go together, and only one of them is set."
    yield from _virtual_address(variables)
    yield from _tls(variables)
    yield from _users(variables)
    yield from _login_limit(variables)
    yield from _allowed(variables)
    yield from _closed(variables)
    if text(variables["nginx_auth_request_url"]):
        yield from _single_sign_on(variables)
    yield from balancer_problems(variables["__nginx_agreed"])


def _virtual_address(variables: Mapping[str, Any]) -> Iterator[str]:
    """nginx cannot listen on an address that its host does not have at that moment."""
    address, listen = text(variables["nginx_virtual_address"]), [text(each).strip("[]") for each in variables["nginx_listen_addresses"]]
    every = "::" if ":" in address else "0.0.0.0"  # noqa: S104  compared, and not listened on
    if address and listen and every not in listen:
        yield (
            f"nginx_listen_addresses is set, and nginx could not listen on nginx_virtual_address ({address}), which another host may have"
            " when it starts. Leave the list empty; firewall_sources (nginx) says which clients may connect."
        )


def _tls(variables: Mapping[str, Any]) -> Iterator[str]:
    tls, redirect = boolean(variables["common_nginx_tls"]), int(variables["nginx_redirect_port"])
    name = text(variables["nginx_api_tls_name"])
    ciphers = [text(cipher) for cipher in variables["nginx_tls_ciphers"]]
    wrong = [cipher for cipher in ciphers if not re.fullmatch("[A-Z0-9-]+", cipher)]
    if tls and not int(variables["nginx_status_port"]):
        yield "nginx_status_port is 0, and with TLS nginx tells only there which configuration it serves. Give it a port."
    if redirect and not tls:
        yield f"nginx_redirect_port is {redirect}, and nginx speaks no TLS that it could redirect to. Leave it out, or leave TLS on."
    if redirect and redirect == int(variables["nginx_listen_port"]):
        yield f"nginx_redirect_port is {redirect}, as is nginx_listen_port, where plain HTTP is redirected anyway. Leave it out."
    if not re.fullmatch("[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?", name) or re.fullmatch("[0-9.]+", name):
        yield f'nginx_api_tls_name is "{name}"; it has to be a name that the certificates of all API servers have, and no address.'
    if not ciphers or wrong:
        yield f"nginx_tls_ciphers holds {', '.join(map(repr, wrong)) or 'nothing'}; it takes names such as ECDHE-ECDSA-AES128-GCM-SHA256."
    if int(variables["nginx_tls_hsts_max_age"]) < 0:
        yield f"nginx_tls_hsts_max_age is {variables['nginx_tls_hsts_max_age']}; it has to be 0, for no such header, or more."


def _users(variables: Mapping[str, Any]) -> Iterator[str]:
    if variables["nginx_basic_auth_users"] is None:
        return
    users = {text(name): text(password) for name, password in variables["nginx_basic_auth_users"].items()}
    if not users:
        yield (
            "nginx_basic_auth_users names no user. Name those who may log in, or leave it out: then nginx asks for no login, and Prefect"
            " alone does."
        )
    bad = [name for name in users if not re.fullmatch(r"[^:#\s][^:\s]*", name)] + [name for name, password in users.items() if not password]
    if bad:
        yield (
            f"nginx_basic_auth_users: {', '.join(bad)} cannot log in. A name must have neither colon nor space, and a password must not be"
            " empty."
        )
    user, _colon, password = text(variables.get("prefect_auth_string")).partition(":")
    if users.get(user, password) != password:
        yield (
            "nginx_basic_auth_users has the user of prefect_auth_string, with another password. Leave it out: that user may log in anyway."
        )


def _login_limit(variables: Mapping[str, Any]) -> Iterator[str]:
    rate = text(variables["nginx_login_rate"])
    if rate not in ("", "0") and not re.fullmatch("[1-9][0-9]{0,5}r/[sm]", rate):
        yield (
            f'nginx_login_rate is {rate!r}; it has to be a number of logins in a second or a minute, such as 10r/m or 2r/s, or "0" for no'
            " limit."
        )


def _allowed(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__nginx_own_addresses`` are those of the deployment's hosts."""
    name, values = "nginx_allowed_addresses", list(map(text, variables["nginx_allowed_addresses"]))
    for value in values:
        problem = address_problem(value)
        if problem:
            yield f"{name} holds {value!r}, {problem}."
        elif ipaddress.ip_network(value).prefixlen == 0:
            yield f"{name} holds {value!r}, which is every address there is. Leave the list empty to allow them all."
    strangers = [text(each) for each in variables["__nginx_own_addresses"] if address_problem(text(each)) and text(each) != "localhost"]
    if values and strangers:
        yield (
            f"{name} is set, and the balancer would refuse {', '.join(strangers)} of this deployment, as it knows requests by their IP"
            " address. Set prefect_address of each such host to its IP address."
        )


def _closed(variables: Mapping[str, Any]) -> Iterator[str]:
    name = "nginx_closed_paths"
    for value in map(text, variables[name]):
        path = value.rstrip("/")
        needed = next((each for each in NEEDED if f"{each}/".startswith(f"{path}/")), "")
        if not re.fullmatch(_PATH, value) or "%" in value or "//" in value:
            yield f"{name} holds {value!r}; a path begins with / and has letters, digits and . _ ~ - between single slashes."
        elif needed:
            yield f"{name} holds {value!r}, which closes {needed} to {NEEDED[needed]}. Name the paths below it that are to be closed."


def _single_sign_on(variables: Mapping[str, Any]) -> Iterator[str]:
    url, sign_in = text(variables["nginx_auth_request_url"]), text(variables["nginx_auth_request_signin_url"])
    ca_file = text(variables["nginx_auth_request_ca_file"])
    if not re.fullmatch("(/[A-Za-z0-9._-]+)+", ca_file):
        yield f"nginx_auth_request_ca_file is {ca_file!r}; it has to be the absolute path of a file, of letters, digits and . _ - only."
    if not text(variables.get("prefect_auth_string")):
        yield (
            "nginx_auth_request_url is set, and prefect_auth_string is not: clients and workers could not be told from strangers. Set"
            " prefect_auth_string."
        )
    if variables["nginx_basic_auth_users"] is not None:
        yield (
            "nginx_auth_request_url and nginx_basic_auth_users are both set: people have to log in at one place. Leave one of them out;"
            " programs go on with prefect_auth_string."
        )
    if not re.fullmatch(_ADDRESS + _PATH + _QUERY, url):
        yield (
            f"nginx_auth_request_url is {_without_login(url)!r}; it has to be http:// or https://, a host, and a path, without a login,"
            " such as http://127.0.0.1:4180/oauth2/auth."
        )
    elif sign_in.startswith("/"):
        yield from _sign_in_path(re.sub("^https?://[^/]*|[^/]*$", "", url.partition("?")[0]), sign_in)
    elif not re.fullmatch(_ADDRESS + "(" + _PATH + ")?" + _QUERY, sign_in):
        yield (
            f"nginx_auth_request_signin_url is {_without_login(sign_in)!r}; it has to be a path, such as /oauth2/start, or to begin with"
            " https:// and name a host."
        )


def _sign_in_path(folder: str, sign_in: str) -> Iterator[str]:
    if folder == "/" or re.match("/(api|v2|assets)/", folder):
        yield (
            f"nginx_auth_request_url is in the folder {folder}, which is Prefect's own. Give the login's pages a folder of their own, such"
            " as /oauth2/, or nginx_auth_request_signin_url an address of its own."
        )
    elif not re.fullmatch(_PATH + _QUERY, sign_in) or not sign_in.startswith(folder) or "//" in sign_in:
        yield (
            f"nginx_auth_request_signin_url is {sign_in!r}, which is not in {folder}, the folder of nginx_auth_request_url that nginx"
            " passes on. Set it to a path there, or to an address that begins with https://."
        )


def _without_login(url: str) -> str:
    return re.sub("//[^/]*@", "//...@", url)
