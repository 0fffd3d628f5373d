"""The audit of the lock files: what services answer, and what comes of it. No service is asked but one of this test's own."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tools import audit

TODAY = date(2026, 12, 1)
PINS = {
    ("jinja2", "2.10"): ["3.9.1.txt", "dev.txt"],
    ("jinja2", "3.1.6"): ["3.7.8.txt"],
    ("uvicorn", "0.40"): ["3.9.1.txt"],
}
ADVISORY = {"id": "GHSA-aaaa", "aliases": ["CVE-2026-1"], "fix_versions": ["2.11", "3.0"], "description": "long"}


def service(
    advisories: dict[str, list[dict[str, Any]]], unknown: Sequence[str] = (), silent: Sequence[str] = ()
) -> Callable[[str, Sequence[str]], list[dict[str, Any]]]:
    """Answers as pip-audit does: with advisories for requirements, without knowing some, or not at all."""

    def answer(name: str, requirements: Sequence[str]) -> list[dict[str, Any]]:
        if name in silent:
            raise audit.UnansweredError("no route to host")
        found: list[dict[str, Any]] = []
        for requirement in requirements:
            package, version = requirement.split("==")
            told = {"skip_reason": "?"} if requirement in unknown else {"version": version, "vulns": advisories.get(requirement, [])}
            found.append({"name": package, **told})
        return found

    return answer


def test_nothing_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.report(PINS, [], TODAY, question=service({})) == 0
    assert capsys.readouterr().out == "audit: 3 packages checked with PyPI: 0 advisories\n"


def test_a_finding_is_a_line_with_its_lock_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.report(PINS, [], TODAY, question=service({"jinja2==2.10": [ADVISORY]})) == 1
    header, line, summary = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "PACKAGE"
    assert line.split() == ["jinja2", "2.10", "GHSA-aaaa", "CVE-2026-1", "2.11,", "3.0", "3.9.1.txt,", "dev.txt"]
    assert "1 advisories" in summary


def test_without_a_network_nothing_is_checked_and_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    silent = service({}, silent=["pypi", "osv"])
    assert audit.report(PINS, [], TODAY, question=silent) == 0
    assert "not checked" in capsys.readouterr().out
    assert audit.report(PINS, [], TODAY, question=silent, strict=True) == 1


def test_the_other_service_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.report(PINS, [], TODAY, question=service({"jinja2==2.10": [ADVISORY]}, silent=["pypi"])) == 1
    assert "checked with OSV" in capsys.readouterr().out


def test_packages_that_the_service_does_not_know_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    some = service({}, unknown=["uvicorn==0.40"])
    assert audit.report(PINS, [], TODAY, question=some) == 0
    assert "not checked: PyPI does not know uvicorn 0.40" in capsys.readouterr().out
    assert audit.report(PINS, [], TODAY, question=some, strict=True) == 1
    # A mirror that has no advisories at all must not look like a good answer.
    none = service({}, unknown=["uvicorn==0.40", "jinja2==2.10", "jinja2==3.1.6"])
    assert audit.report(PINS, [], TODAY, question=none, strict=True) == 1
    assert "it knows none of the packages" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "package", "until", "code"),
    [
        pytest.param("CVE-2026-1", "jinja2", TODAY, 0, id="by another name, on its last day"),
        pytest.param("GHSA-aaaa", "jinja2", date(2026, 11, 30), 1, id="expired"),
        pytest.param("GHSA-aaaa", "uvicorn", TODAY, 1, id="of another package"),
        pytest.param("GHSA-bbbb", "jinja2", TODAY, 1, id="another advisory"),
    ],
)
def test_allowed_advisories(capsys: pytest.CaptureFixture[str], name: str, package: str, until: date, code: int) -> None:
    exceptions = [audit.Allowed(name, package, "not called", until)]
    assert audit.report(PINS, exceptions, TODAY, question=service({"jinja2==2.10": [ADVISORY]})) == code
    said = capsys.readouterr().out
    assert ("was allowed until 2026-11-30 only" in said) == (until < TODAY)
    assert ("1 passed over" in said) == (code == 0)


@pytest.mark.parametrize(
    "entry",
    [
        "{advisory: A, package: b, reason: c}",
        "{advisory: A, package: b, reason: c, until: soon}",
        "{advisory: A, package: b, reason: '', until: 2027-01-31}",
        "{advisory: A, package: b, reason: c, until: 2027-01-31, more: 1}",
    ],
)
def test_a_bad_entry_is_refused(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "audit.yml"
    path.write_text(f"allowed: [{entry}]\n")
    with pytest.raises(audit.AuditError, match=r"audit\.yml"):
        audit.allowed(path)


def test_the_committed_list_is_valid() -> None:
    audit.allowed(audit.ALLOWED)


def test_every_lock_file_is_read() -> None:
    found = audit.pins()
    locks = {name for names in found.values() for name in names}
    assert locks == {path.name for path in audit.LOCKS.glob("*.txt")} | {"dev.txt", "uv.json"}
    assert [name for name in locks if ("prefect", name.removesuffix(".txt")) in found]


def test_each_batch_has_a_package_once() -> None:
    assert audit.batches(PINS) == [["jinja2==2.10", "uvicorn==0.40"], ["jinja2==3.1.6"]]


class Osv(http.server.BaseHTTPRequestHandler):
    """As OSV answers to one package at a time."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        affected = {"package": {"ecosystem": "PyPI", "name": "jinja2"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "2.11"}]}]}
        advisory = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "summary": "x", "affected": [affected], "published": "2026-01-01T00:00:00Z"}
        body = json.dumps({"vulns": [advisory]} if asked["package"]["name"] == "jinja2" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def osv(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{server.server_port}/v1/query")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield
        server.shutdown()


@pytest.mark.usefixtures("osv")
def test_through_pip_audit_itself() -> None:
    """The one that sees whether pip-audit's own format is what is read here."""
    found = audit.audit({("jinja2", "2.10"): ["a.txt"], ("uvicorn", "0.40"): ["a.txt"]}, "osv")
    assert [(each.package, each.fixed, each.locks) for each in found.findings] == [("jinja2", ("2.11",), ("a.txt",))]
    assert {"PYSEC-1", "CVE-2026-1"} <= set(found.findings[0].names)


def test_pip_audit_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", "http://127.0.0.1:9/v1/query")
    with pytest.raises(audit.UnansweredError):
        audit.ask("osv", ["jinja2==2.10"])
