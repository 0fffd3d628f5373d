# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.lookup import host_program

FIRST = {"sitecustomize.py": "a", "selfhosted_prefect/__init__.py": "", "selfhosted_prefect/watchdog/program.py": "b"}


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The lookup, in a collection that has these files beside a lock file and a compiled module."""
    monkeypatch.setattr(host_program, "_FILES", tmp_path)

    def run(files: dict[str, str]) -> Any:
        for name, text in {**files, "locks/3.8.8.txt": "lock", "selfhosted_prefect/__pycache__/__init__.pyc": "compiled"}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        plugin = host_program.LookupModule()
        monkeypatch.setattr(plugin, "set_options", lambda **_: None)
        return plugin.run([])[0]

    return run


def test_every_module_of_the_program(read: Any) -> None:
    assert read(FIRST)["files"] == FIRST


def test_the_digest_is_that_of_names_and_texts(read: Any) -> None:
    digest = read(FIRST)["digest"]
    assert len(digest) == 12
    assert read(FIRST)["digest"] == digest
    assert read({**FIRST, "sitecustomize.py": "b"})["digest"] != digest
    assert read(FIRST)["digest"] == digest
    assert read({**FIRST, "selfhosted_prefect/more.py": ""})["digest"] != digest
