"""Has Prefect's processes reach the deployment itself directly, whatever proxy their environment names.

Prefect's HTTP and websocket clients read HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, so that automations reach what is behind a proxy, and spare
no address by themselves. A proxy may come from where the role prefect cannot see it, such as systemd's DefaultEnvironment. The exceptions
that are there stay.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from urllib.parse import urlsplit

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
EXCEPTIONS = ("NO_PROXY", "no_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def spare(environment: MutableMapping[str, str]) -> None:
    """Adds the loopback and the host of PREFECT_API_URL to the exceptions, when there is a proxy."""
    if not any(value for name, value in environment.items() if name.lower() in PROXIES):
        return
    given = ",".join(environment.get(name, "") for name in EXCEPTIONS).split(",")
    own = urlsplit(environment.get("PREFECT_API_URL", "")).hostname or ""
    found = dict.fromkeys(each.strip() for each in (*given, *LOOPBACK, own) if each.strip())
    for name in EXCEPTIONS:
        environment[name] = ",".join(found)
