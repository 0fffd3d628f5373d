"""Runs a module's main() in this process, as ansible-core would call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.parameters import PASS_VARS
from ansible.module_utils.common.text.converters import to_bytes

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Calls ``run(main, check=False, **arguments)`` and returns what the module printed."""

    def run(main: Callable[[], None], check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {**arguments, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False}
        # Since ansible-core 2.20 a result holds the arguments only where this is asked for.
        given |= {"_ansible_inject_invocation": True} if "inject_invocation" in PASS_VARS else {}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", to_bytes(json.dumps({"ANSIBLE_MODULE_ARGS": given})))
        # Only ansible-core 2.19 and later have it.
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        warnings: list[str] = []
        # How warnings get into the result is ansible-core's business, and differs between its versions.
        monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _module, text: warnings.append(text))
        with pytest.raises(SystemExit):
            main()
        return {**json.loads(capsys.readouterr().out), "warnings": warnings}

    return run
