# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The values of a host's variables, each evaluated when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader
from jinja2 import Undefined


class Values(Mapping[str, Any]):
    """What the variables of a host, as a lookup gets them, come to."""

    def __init__(self, loader: Any, templar: Any, variables: dict[str, Any]) -> None:
        self._variables = variables
        # Between versions of ansible-core the way to evaluate a variable differs; its own lookup knows it.
        self._own = lookup_loader.get("vars", loader=loader, templar=templar)

    def __getitem__(self, name: str) -> Any:
        if name not in self._variables:
            raise KeyError(name)
        # Those of all hosts are not evaluated for the sake of one.
        return self._variables[name] if name == "hostvars" else _evaluated(self._own.run([name], self._variables)[0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def _evaluated(value: Any) -> Any:
    """The value with everything within it, which since ansible-core 2.19 is evaluated when it is looked at."""
    if isinstance(value, Undefined):
        raise AnsibleError(getattr(value, "_undefined_message", None) or "a variable in it is undefined")
    if isinstance(value, Mapping):
        return {key: _evaluated(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_evaluated(each) for each in value]
    # What is of another type is a date, or encrypted and opened now.
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
