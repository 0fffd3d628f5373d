from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._journal import last_lines


@pytest.mark.parametrize(
    ("ended", "shown"),
    [
        (Finished(0, "one\ntwo hidden\nthree\n"), "two ********\nthree"),
        (Finished(0, ""), "(the journal of a.service is empty)"),
        (Finished(1, "No permission\n"), "(the journal of a.service cannot be read: No permission)"),
        (Finished(-9, "", timed_out=True), "(the journal of a.service cannot be read: no answer within 10 s)"),
        (Finished(0, "x" * 395 + "hidden"), "x" * 395 + "*****..."),
    ],
)
def test_last_lines(ended: Finished, shown: str) -> None:
    asked: list[Any] = []

    def command(argv: Any, timeout: float, **_: Any) -> Finished:
        asked.append((argv, timeout))
        return ended

    assert last_lines(["a.service"], 2, ["hidden"], command) == shown
    argv, timeout = asked[0]
    assert argv[0] == "journalctl"
    assert {"--lines=2", "--unit=a.service", "--no-pager"} <= set(argv)
    assert timeout <= 10
