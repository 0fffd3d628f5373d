# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.lock import Pin, normalised, pinned_version, pins, release_id

A, B = "a" * 64, "b" * 64
LOCK = f"""# a comment
prefect==3.8.8 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via something
Async_Timeout[extra]==5.0.1 ; python_full_version < "3.11.3" and sys_platform == "linux" \\
    --hash=sha256:{A}
"""


def test_pins() -> None:
    assert pins(LOCK) == [
        Pin("prefect", "3.8.8", "", frozenset({A, B})),
        Pin("async-timeout", "5.0.1", 'python_full_version < "3.11.3" and sys_platform == "linux"', frozenset({A})),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"prefect>=3 --hash=sha256:{A}", "'prefect>=3 .* is not a pinned requirement, such as prefect==3.8.8"),
        ("-r other.txt", "is not a pinned requirement"),
        ("prefect==3.8.8", "prefect==3.8.8 has no --hash=sha256:"),
        ("prefect==3.8.8 --hash=md5:abcdef", "has no --hash=sha256:"),
    ],
)
def test_no_lock(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pins(line)


def test_names_and_versions() -> None:
    assert pinned_version(LOCK, "prefect") == "3.8.8"
    assert pinned_version(LOCK, "other") == ""
    assert normalised("Async__Timeout.x") == "async-timeout-x"


def test_release_id_follows_the_content() -> None:
    assert release_id(b"", "3.8.8") == "3.8.8-e3b0c44298fc"
    assert release_id(b"x", "3.8.8") != release_id(b"y", "3.8.8")
