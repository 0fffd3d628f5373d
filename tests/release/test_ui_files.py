"""The program that units run before an API server, so that pages of the version before find their files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from selfhosted_prefect import ui_files

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "prefect" / "files"
VERSIONS = sorted(path.stem for path in (FILES / "locks").glob("*.txt") if "-" not in path.stem)


def package(folder: Path, version: str) -> Path:
    """As much of an installed Prefect as is looked at."""
    for name in ("ui", "ui-v2"):
        assets = folder / version / "server" / name / "assets"
        assets.mkdir(parents=True)
        (assets.parent / "index.html").write_text(f'<script src="/PREFECT_UI_SERVE_BASE_REPLACE_PLACEHOLDER/assets/index-{version}.js">')
        (assets / f"index-{version}.js").write_text(f"'/PREFECT_UI_SERVE_BASE_REPLACE_PLACEHOLDER' {version}")
        (assets / f"index-{version}.js.map").write_text("{}")
        (assets / "font-1.woff2").write_bytes(b"\xff\x00")
    return folder / version


def start(folder: Path, version: str, **settings: str) -> set[str]:
    """What the second user interface has in assets/ when a server of a version has been started."""
    environment = {"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "static"), **settings}
    source = folder / version
    assert ui_files.put_in_place(environment, source if source.exists() else package(folder, version), version) == 0
    return ui_files.assets(folder / "static" / "v2")


@pytest.mark.parametrize(
    ("base", "bases"),
    [
        ("", {"v1": "/", "v2": "/v2"}),
        ("/", {"v1": "/", "v2": "/v2"}),
        ("/flows/", {"v1": "/flows", "v2": "/flows/v2"}),
        ("flows", {"v1": "/flows", "v2": "/flows/v2"}),
        ("/v2", {"v1": "/", "v2": "/v2"}),
        ("/flows/v2", {"v1": "/flows", "v2": "/flows/v2"}),
    ],
)
def test_base(base: str, bases: dict[str, str]) -> None:
    assert ui_files.bases({"PREFECT_UI_SERVE_BASE": base}) == bases


def test_files_of_the_version_before_stay_until_the_next(tmp_path: Path) -> None:
    assert start(tmp_path, "1") == {"index-1.js", "font-1.woff2"}
    assert start(tmp_path, "1") == {"index-1.js", "font-1.woff2"}
    assert start(tmp_path, "2") == {"index-1.js", "index-2.js", "font-1.woff2"}
    assert start(tmp_path, "2") == {"index-1.js", "index-2.js", "font-1.woff2"}
    assert start(tmp_path, "3") == {"index-2.js", "index-3.js", "font-1.woff2"}
    # And on the way back.
    assert start(tmp_path, "2") == {"index-3.js", "index-2.js", "font-1.woff2"}
    static = tmp_path / "static"
    assert (static / "v2" / "UI_SERVE_BASE").read_text() == "v2:2:/v2"
    assert (static / "v2" / "assets" / "index-3.js").read_text() == "'/v2' 3"
    assert (static / "v1" / "assets" / "index-3.js").read_text() == "'' 3"
    assert (static / "v1" / "index.html").read_text() == '<script src="/assets/index-2.js">'
    assert sorted(path.name for path in static.iterdir()) == [".v1_files_before", ".v2_files_before", "v1", "v2"]


def test_another_base(tmp_path: Path) -> None:
    start(tmp_path, "1")
    start(tmp_path, "1", PREFECT_SERVER_UI_SERVE_BASE="/flows")
    assert (tmp_path / "static" / "v2" / "index.html").read_text() == '<script src="/flows/v2/assets/index-1.js">'


def test_no_user_interface(tmp_path: Path) -> None:
    environment = {"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(tmp_path / "static"), "PREFECT_SERVER_UI_ENABLED": "False"}
    assert ui_files.put_in_place(environment, package(tmp_path, "1"), "1") == 0
    assert not (tmp_path / "static").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "static").write_text("a file")
    assert ui_files.put_in_place({"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(tmp_path / "static")}, package(tmp_path, "1"), "1") == 1
    assert "Prefect tries to do it by itself" in capsys.readouterr().err


BUILD = """
from prefect.server.api.server import create_ui_app
from starlette.testclient import TestClient
client = TestClient(create_ui_app(ephemeral=False))
print(client.get("/v2/assets/of-before.js").status_code, client.get("/v2/", headers={"accept": "text/html"}).status_code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_release_takes_them_for_its_own(tmp_path: Path, version: str) -> None:
    """What is put in place for Prefect is not replaced by what it would copy itself."""
    python = subprocess.run([ROOT / "tools/client-venv", version], capture_output=True, text=True, check=True).stdout.strip()
    before = tmp_path / "static" / "v2" / "assets"
    before.mkdir(parents=True)
    (before / "of-before.js").write_text("1")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(tmp_path / "static"),
        "PYTHONPATH": str(FILES),
    }
    for command in ([python, "-P", "-m", "selfhosted_prefect", "ui-files"], [python, "-c", BUILD]):
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["200", "200"]
    keys = {name: (tmp_path / "static" / name / "UI_SERVE_BASE").read_text() for name in ("v1", "v2")}
    assert json.dumps(keys) == json.dumps({"v1": f"v1:{version}:/", "v2": f"v2:{version}:/v2"})
