# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.selfhosted.prefect.plugins.lookup.page import LookupModule

LookedUp = Callable[..., list[Any]]


@pytest.fixture
def looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LookedUp:
    """Renders a template with data, where a role and the playbook have some."""
    for name in ("role", "."):
        (tmp_path / name / "templates").mkdir(parents=True)
        (tmp_path / name / "templates" / "a.html.j2").write_text(f"{name}: {{{{ word }}}}\n", encoding="utf-8")
    (tmp_path / "templates" / "b.html.j2").write_text("{{ now | int > 0 }}\n", encoding="utf-8")

    def run(*terms: str, **data: Any) -> list[Any]:
        plugin = LookupModule()
        monkeypatch.setattr(plugin, "set_options", lambda **_: None)
        monkeypatch.setattr(plugin, "get_option", {"data": data}.get)
        return plugin.run(list(terms), {"ansible_search_path": [str(tmp_path / "role"), str(tmp_path)]})

    return run


def test_a_page_of_the_role_or_beside_the_playbook(looked_up: LookedUp) -> None:
    assert looked_up("a.html.j2", "b.html.j2", word="<b> {{ 7 * 7 }}") == ["role: &lt;b&gt; {{ 7 * 7 }}\n", "True\n"]


@pytest.mark.parametrize(("template", "why"), [("a.html.j2", "'word' is undefined"), ("c.html.j2", "'c.html.j2' not found")])
def test_a_page_that_cannot_be_rendered(looked_up: LookedUp, template: str, why: str) -> None:
    with pytest.raises(AnsibleError, match=f"The page {template} cannot be rendered: {why}.*Nothing was written."):
        looked_up(template)
