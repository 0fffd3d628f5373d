from __future__ import annotations

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import version_number


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("15.18 (Debian 15.18-0+deb12u1)", (15, 18)), ("14.8", (14, 8)), ("16beta1", (16,)), ("9.6.24", (9, 6, 24)), ("", ()), ("x", ())],
)
def test_version_number(version: str, numbers: tuple[int, ...]) -> None:
    assert version_number(version) == numbers
