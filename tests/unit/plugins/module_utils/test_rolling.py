# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.rolling import rolling_batches

FOUR = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("hosts", "serial", "total", "batches"),
    [
        pytest.param([], 1, None, [], id="no host to roll"),
        pytest.param(["a"], 1, None, [["a"]], id="the only host there is"),
        pytest.param(FOUR, 1, None, [["a"], ["b"], ["c"], ["d"]], id="one by one"),
        pytest.param(FOUR, "2", None, [["a", "b"], ["c", "d"]], id="two, as text from the command line"),
        pytest.param(FOUR, "50%", None, [["a", "b"], ["c", "d"]], id="a percentage"),
        pytest.param(FOUR, "1%", None, [["a"], ["b"], ["c"], ["d"]], id="a percentage below one host"),
        pytest.param(FOUR, [1, "75%"], None, [["a"], ["b", "c", "d"]], id="a list: the first alone"),
        pytest.param(FOUR, [1, 2], None, [["a"], ["b", "c"], ["d"]], id="the last entry repeats"),
        pytest.param(["a", "b"], "50%", 8, [["a", "b"]], id="a percentage of those that serve, not of those that change"),
        pytest.param(["a", "b"], 2, 3, [["a", "b"]], id="one more goes on serving"),
    ],
)
def test_batches(hosts: list[str], serial: Any, total: int | None, batches: list[list[str]]) -> None:
    assert rolling_batches(hosts, serial, total) == batches


@pytest.mark.parametrize(
    ("hosts", "serial", "total", "message"),
    [
        pytest.param(FOUR, 0, None, "at least 1", id="zero"),
        pytest.param(FOUR, "0%", None, "between 1 and 100", id="zero per cent"),
        pytest.param(FOUR, "many", None, "whole number", id="a word"),
        pytest.param(FOUR, [], None, "empty list", id="an empty list"),
        pytest.param(FOUR, 4, None, "all 4 serving hosts", id="all hosts at once"),
        pytest.param(FOUR, "100%", None, "all 4 serving hosts", id="a hundred per cent"),
        pytest.param([], 0, 3, "at least 1", id="zero, even without a host to roll"),
    ],
)
def test_refused(hosts: list[str], serial: Any, total: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rolling_batches(hosts, serial, total)
