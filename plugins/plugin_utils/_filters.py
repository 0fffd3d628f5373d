# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""What the collection's filters share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError


def filters(name: str, function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """A filter plugin's table with one filter, whose complaints about its input name the filter."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise AnsibleFilterError(f"selfhosted.prefect.{name}: {error}") from error

    return {name: wrapper}
