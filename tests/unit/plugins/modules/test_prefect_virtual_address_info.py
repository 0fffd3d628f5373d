from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_virtual_address_info


@pytest.mark.parametrize("check", [False, True])
def test_on_this_machine(run_module: Any, check: bool) -> None:
    """The real ip: an address of the documentation's is in no network, and the loopback is no other host."""
    result = run_module(prefect_virtual_address_info.main, check=check, address="203.0.113.9", own="127.0.0.1", peers=["127.0.0.1"])
    assert (result["changed"], result["held"], result["holder"]) == (False, False, "")
    assert [problem for problem in result["problems"] if "leads to this host itself" in problem]
    alone = run_module(prefect_virtual_address_info.main, check=check, address="203.0.113.9", own="127.0.0.1", peers=[])
    assert [problem for problem in alone["problems"] if "203.0.113.9 is outside of the networks of this host: " in problem]


@pytest.mark.parametrize("given", [{"address": "lb"}, {"address": "10.0.0.9/24"}, {}])
def test_an_address_that_is_none(run_module: Any, given: dict[str, str]) -> None:
    assert run_module(prefect_virtual_address_info.main, own="lb1", peers=["lb2"], **given)["failed"] is True
