from __future__ import annotations

import os
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.selfhosted.prefect.plugins.action import prefect_deployment_lock as plugin
from ansible_collections.selfhosted.prefect.plugins.module_utils._deployment_lock import Holder, from_values

Answer = dict[str, Any]
GRANTED: Answer = {"changed": False, "held": True}


class Controller:
    """The action plugin with a clock of its own, and a module that answers from a list, the last answer again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Answer] = []
        self.at: dict[float, Any] = {}
        self.running = {os.getppid()}
        monkeypatch.setattr(plugin, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))
        monkeypatch.setattr(plugin, "process_runs", lambda pid, _started: pid in self.running)
        monkeypatch.setattr(plugin, "Display", lambda: SimpleNamespace(display=lambda _text: None))
        monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()

    def run(self, **arguments: Any) -> Answer:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(args=arguments)
        action._execute_module = self.execute
        return action.run()

    def execute(self, module_name: str, module_args: dict[str, Any], task_vars: Any) -> Answer:
        assert (module_name, task_vars, module_args["wait"]) == ("selfhosted.prefect.prefect_deployment_lock", None, 0)
        self.asked.append(module_args)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]

    def after(self) -> list[str]:
        return [each["_after"] for each in self.asked]


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Controller:
    return Controller(monkeypatch)


def other(**values: Any) -> Holder:
    return replace(from_values({**plugin.this_run(), "pid": 4711, "started": 5}), **values)


def refused(holder: Holder) -> Answer:
    return {"failed": True, "msg": "Another run", "held": False, "holder": {**asdict(holder), "token": holder.token}}


def test_every_task_of_a_run_is_the_same_run(controller: Controller) -> None:
    controller.answers = [GRANTED]
    assert controller.run(state="held") == GRANTED
    controller.run(state="released")
    holders = [from_values(each["_holder"]) for each in controller.asked]
    assert holders[0].token == holders[1].token
    assert holders[0].pid == os.getppid()
    assert holders[0].started > 0


def test_one_that_died_here_does_not_block(controller: Controller) -> None:
    controller.answers = [refused(other()), GRANTED]
    assert controller.run() == GRANTED
    assert controller.after() == ["", other().token]
    assert controller.now == 0


@pytest.mark.parametrize("where", [{"machine": "elsewhere"}, {"boot": "another boot"}, {}])
def test_others_do(controller: Controller, where: dict[str, str]) -> None:
    if not where:
        controller.running.add(4711)
    controller.answers = [refused(other(**where))]
    assert controller.run()["failed"]
    assert controller.after() == [""]


def test_another_run_was_faster(controller: Controller) -> None:
    first, second = other(), other(pid=4712)
    controller.running.add(4712)
    controller.answers = [refused(first), refused(second)]
    assert controller.run()["holder"]["pid"] == 4712
    assert controller.after() == ["", first.token]


def test_a_module_that_still_says_no_is_not_asked_for_ever(controller: Controller) -> None:
    controller.answers = [refused(other())]
    assert controller.run()["failed"]
    assert len(controller.asked) == 2


def test_waiting_for_its_end(controller: Controller) -> None:
    controller.running.add(4711)
    controller.answers = [refused(other())] * 4 + [GRANTED]
    assert controller.run(wait="60") == GRANTED
    assert controller.now == 8


def test_it_dies_meanwhile(controller: Controller) -> None:
    controller.running.add(4711)
    controller.at = {5.0: lambda: controller.running.discard(4711)}
    controller.answers = [refused(other())] * 4 + [GRANTED]
    assert controller.run(wait=600) == GRANTED
    assert controller.after() == ["", "", "", "", other().token]
    assert controller.now == 6


def test_waiting_in_vain(controller: Controller) -> None:
    controller.running.add(4711)
    controller.answers = [refused(other())]
    assert controller.run(wait=5)["failed"]
    assert controller.now == 5


def test_one_that_was_killed_while_it_waited_does_not_get_it(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    controller.running.add(4711)
    controller.at = {3.0: lambda: monkeypatch.setattr(os, "getppid", lambda: 1)}
    controller.answers = [refused(other())]
    assert controller.run(wait=600)["failed"]
    assert controller.now == 4


def test_no_number(controller: Controller) -> None:
    with pytest.raises(AnsibleActionFail, match="wait must be a number of seconds, not 'soon'"):
        controller.run(wait="soon")
    assert controller.asked == []


@pytest.mark.parametrize("error", [KeyError("uid"), OSError("no name")])
def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nameless)
    assert plugin.this_run()["user"] == str(os.getuid())
