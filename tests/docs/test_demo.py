"""What the README shows of the demo's last lines is what `make demo` prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import demo

ROOT = Path(__file__).parents[2]
SETTINGS = Path("build/lab/lab/client.sh")


def test_the_readme_shows_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```text\n(Prefect answers at .*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    monkeypatch.chdir(tmp_path)
    SETTINGS.parent.mkdir(parents=True)
    SETTINGS.write_text("\n".join(line for line in found[1].splitlines() if line.startswith("export ")) + "\n")
    assert demo.login(SETTINGS) == found[1]
    assert demo.URL in found[1]


def test_without_an_authority_of_its_own(tmp_path: Path) -> None:
    settings = tmp_path / "client.sh"
    settings.write_text("export PREFECT_API_AUTH_STRING='a:b c'\nexport PREFECT_API_URL=https://prefect.example.com/api\n")
    said = demo.login(settings)
    assert said.startswith("Prefect answers at https://prefect.example.com\n\nIn a browser, the login page")
    assert "curl --user 'a:b c' https://prefect.example.com/api/admin/version" in said
