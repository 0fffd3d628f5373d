"""What the preflight refuses of the odd values: by the variable's name, and no more than it has to."""

from __future__ import annotations

import pytest

from tests.properties import check_templates as templates


def test_what_is_refused() -> None:
    """Where a file can hold anything, nothing is refused but what no file can hold; where it cannot, most is."""
    free = [text for text in templates.NASTY if not templates.refused("prefect_database_password", text)]
    assert set(templates.NASTY) - set(free) == {"line\nbreak", "nul\0", "x" * 10_000}
    assert all(templates.refused("prefect_home", text) for text in templates.NASTY)
    assert [text for text in templates.NASTY if not templates.refused("nginx_server_name", text)] == ["a b"]


@pytest.mark.parametrize("name", templates.NAMES)
def test_a_refusal_names_the_variable(name: str) -> None:
    """Also of variables that no template shows: they become arguments, URLs and names of files."""
    for text in templates.NASTY:
        templates.refused(name, text)
    assert templates.refused(name, "nul\0")
