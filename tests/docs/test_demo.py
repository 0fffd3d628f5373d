"""What the README shows of the demo's last lines is what `make demo` prints."""

from __future__ import annotations

import re
import subprocess
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


def test_a_host_is_lost_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is pasted into a shell, where `docker` and `curl` are others here."""
    chosen = demo.DEMOS["demo-ha"]
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    chosen.settings.parent.mkdir(parents=True)
    chosen.settings.write_text("export PREFECT_API_SSL_CERT_FILE='/a b/ca.crt'\nexport PREFECT_API_URL=https://10.0.0.1:4200/api\n")
    line = demo.loss(chosen).splitlines()[-1]
    stubs = 'docker() { echo "docker $*"; }; curl() { printf "%s|" "$@"; echo; SECONDS=30; }; sleep() { :; }; '
    said = subprocess.run(["bash", "-euc", stubs + line], capture_output=True, text=True, check=True).stdout.splitlines()
    assert (said[0], said[-1]) == ("docker kill prefect-lab-ha-state1", "docker start prefect-lab-ha-state1")
    asked = said[1].split("|")
    assert {"/a b/ca.crt", "https://10.0.0.1:4200/api/ready"} < {*asked}
    assert "second 0: %{http_code}\\n" in asked


def test_without_an_authority_of_its_own(tmp_path: Path) -> None:
    settings = tmp_path / "client.sh"
    settings.write_text("export PREFECT_API_AUTH_STRING='a:b c'\nexport PREFECT_API_URL=https://prefect.example.com/api\n")
    said = demo.login(settings)
    assert said.startswith("Prefect answers at https://prefect.example.com\n\nIn a browser, the login page")
    assert "curl --user 'a:b c' https://prefect.example.com/api/admin/version" in said
