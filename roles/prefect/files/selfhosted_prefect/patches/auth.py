"""Has Prefect's API accept further auth strings beside its own, for the processes of Prefect's units.

Prefect knows one. While it is rotated, server by server, clients would be refused by some of the servers whatever they send. And one beyond
ASCII that a client sends is refused, where Prefect answers 500. It is in force (:func:`install`) once a module that compares has been
imported, for requests and for websockets.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

ACCEPTED = "SELFHOSTED_PREFECT_ACCEPTED_AUTH_STRINGS"
"""The environment variable with them, a list in JSON."""


class Comparison:
    """In the place of the module ``hmac``: a value that equals one of the further strings equals the server's own."""

    def __init__(self, accepted: Sequence[str]) -> None:
        self._accepted = [each.encode() for each in accepted]

    def compare_digest(self, received: str, own: str) -> bool:
        """As ``hmac.compare_digest``, which takes as long for each; one beyond ASCII is different instead of an error."""
        value = received.encode()
        return sum(hmac.compare_digest(value, each) for each in (own.encode(), *self._accepted)) > 0


def accepted(environment: Mapping[str, str]) -> list[str]:
    """The further strings. Raises ValueError for what is not a list of strings."""
    found = json.loads(environment.get(ACCEPTED) or "[]")
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise ValueError(f"{ACCEPTED} is not a list of strings")
    return found


def install(compares: Any) -> None:  # noqa: ANN401  a module, whose names are looked up here
    """Patches ``prefect.server.api.server`` or ``prefect.server.utilities.subscriptions``.

    Raises AttributeError if this Prefect is not made as those are that this was tried with; nothing was patched.
    """
    if compares.hmac is not hmac:
        raise AttributeError("hmac is not the module of the standard library")
    compares.hmac = Comparison(accepted(os.environ))
