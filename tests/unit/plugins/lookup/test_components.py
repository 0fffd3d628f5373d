# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.selfhosted.prefect.plugins.lookup import components

ROLE = {
    "web/defaults/main.yml": 'web_port: 80\nweb_folder: "/srv/{{ web_name }}"\n',
    "web/tasks/install.yml": "[]\n",
    "web/tasks/preflight.yml": "[]\n",
    "web/vars/component.yml": """
web_component:
  units: ["web@*.service"]
  listeners:
    - {port: "{{ web_port }}", units: [web.service], what: the page, setting: web_port}
    - {ports: "{{ web_ports }}", units: ["web@{port}.service"], what: a worker, setting: web_ports}
  files: ["{{ web_folder }}/*.conf"]
""",
    "silent/tasks/main.yml": "[]\n",
}
VARIABLES = {"web_name": "here", "web_ports": [81, 82]}


@pytest.fixture
def roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in ROLE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(components, "_ROLES", tmp_path)


def described(variables: dict[str, Any], *names: str, problems: bool = False) -> list[Any]:
    loader = DataLoader()
    plugin = components.LookupModule(loader=loader, templar=Templar(loader=loader, variables=variables))
    with pytest.MonkeyPatch.context() as patch:
        # Options are those of plugins that Ansible's loader has found.
        patch.setattr(plugin, "set_options", lambda **_: None)
        patch.setattr(plugin, "get_option", {"problems": problems}.get)
        return list(plugin.run(list(names), variables))


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize(("more", "port"), [({}, 80), ({"web_port": 8080}, 8080)])
def test_a_component_describes_itself(more: dict[str, Any], port: int) -> None:
    """The host's variables come before the role's defaults, and what is not said is empty."""
    assert described({**VARIABLES, **more}, "web") == [
        {
            "name": "web",
            "verbs": ["install", "preflight"],
            "units": ["web@*.service"],
            "listeners": [
                {"port": port, "units": ["web.service"], "what": "the page", "setting": "web_port"},
                {"port": 81, "units": ["web@81.service"], "what": "a worker", "setting": "web_ports"},
                {"port": 82, "units": ["web@82.service"], "what": "a worker", "setting": "web_ports"},
            ],
            "certificates": [],
            "disk": [],
            "files": ["/srv/here/*.conf"],
            "environment_files": [],
            "logs": [],
            "secrets": [],
            "after_removal": [],
        }
    ]


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("web", "web"), "common_components lists web more than once. Nothing was changed."),
        (("silent",), "common_components lists silent, and .*vars/component.yml does not describe it"),
        (("gone",), "common_components lists gone, and .*vars/component.yml does not describe it"),
    ],
)
def test_what_is_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(AnsibleError, match=message):
        described(VARIABLES, *names)


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("web",), []),
        (("web", "silent", "web"), ["common_components lists web more than once.", "common_components lists silent, and "]),
        (("gone", "gone"), ["common_components lists gone more than once.", "common_components lists gone, and "]),
    ],
)
def test_what_is_wrong_with_a_list(names: tuple[str, ...], said: list[str]) -> None:
    """Without a look at the descriptions, whose variables only hosts have."""
    problems = described({}, *names, problems=True)
    assert len(problems) == len(said)
    assert all(problem.startswith(words) for problem, words in zip(problems, said, strict=True))
