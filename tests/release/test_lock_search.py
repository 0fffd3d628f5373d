"""The search for a set of packages that passes: dates, then packages, then versions, within its limits."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
search = importlib.import_module("lock_search")

TODAY = datetime(2026, 10, 11, tzinfo=UTC)
CHECK, MESSAGE = "scheduled deployment", "no run was scheduled"


@dataclass
class Index:
    """Packages whose versions came so many days ago, a resolver over them, and a prover that knows what is bad."""

    packages: dict[str, dict[str, int]]
    bad: Callable[[Mapping[str, str]], Mapping[str, str]]
    oldest: int = 10_000
    proved: list[tuple[Mapping[str, str], tuple[str, ...]]] = field(default_factory=list)

    def resolve(self, day: datetime, requirements: Sequence[str]) -> Any:
        age = (TODAY - day).days
        if age > self.oldest:
            return None
        pins = {}
        for name, versions in self.packages.items():
            wanted = [Requirement(text).specifier for text in requirements if Requirement(text).name == name]
            fit = [
                Version(v)
                for v, came in versions.items()
                if came > age and not Version(v).is_prerelease and all(v in specifier for specifier in wanted)
            ]
            if not fit:
                return None
            pins[name] = str(max(fit))
        return search.Candidate(pins)

    def prove(self, candidate: Any, only: tuple[str, ...]) -> Mapping[str, str]:
        self.proved.append((candidate.pins, only))
        failed = self.bad(candidate.pins)
        return {name: message for name, message in failed.items() if not only or name in only}

    def search(self, **given: object) -> Any:
        said: list[str] = []
        made = search.Search(self.resolve, self.prove, lambda name: list(self.packages[name]), say=said.append, **given)
        made.said = said
        return made


PACKAGES = {
    "a": {"1.0": 900, "1.1": 40, "1.2": 3},
    "b": {"5.0": 900, "6.0": 17, "6.1": 5},
    "sqlalchemy": {"2.0.50": 900, "2.0.53": 27, "2.0.54": 26, "2.1.0": 17, "2.1.1": 17, "2.1.2": 9, "2.1.4": 4, "2.2b1": 4},
    "z": {"0.1": 900, "0.2": 17},
}


def at_least(**first: str) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """Bad from these versions on, each by itself."""
    return lambda pins: {CHECK: MESSAGE} if any(Version(pins[name]) >= Version(version) for name, version in first.items()) else {}


@pytest.mark.parametrize(
    ("bad", "bounds", "pins"),
    [
        pytest.param(lambda _pins: {}, [], {"sqlalchemy": "2.1.4", "b": "6.1"}, id="the newest passes"),
        pytest.param(at_least(sqlalchemy="2.1.0"), ["sqlalchemy<2.1"], {"sqlalchemy": "2.0.54", "b": "6.1"}, id="a minor version"),
        pytest.param(at_least(sqlalchemy="2.1.1"), ["sqlalchemy<2.1.1"], {"sqlalchemy": "2.1.0", "z": "0.2"}, id="the second of that day"),
        pytest.param(at_least(sqlalchemy="2.1.4"), ["sqlalchemy<2.1.4"], {"sqlalchemy": "2.1.2"}, id="a few days old"),
        pytest.param(at_least(a="1.1"), ["a<1.1"], {"a": "1.0", "sqlalchemy": "2.1.4"}, id="weeks old"),
        pytest.param(at_least(z="0.2"), ["z<0.2"], {"z": "0.1", "b": "6.1"}, id="one of several that came on a day"),
        pytest.param(at_least(b="6.0", z="0.2"), ["b<6", "z<0.2"], {"b": "5.0", "z": "0.1"}, id="two that came on one day"),
        pytest.param(at_least(a="1.2", z="0.2"), ["z<0.2", "a<1.2"], {"a": "1.1", "z": "0.1"}, id="two of different days"),
        pytest.param(
            lambda pins: {"logs": "none"} if pins["b"] == "6.1" else {CHECK: MESSAGE} if pins["a"] == "1.2" else {},
            ["b<6.1", "a<1.2"],
            {"a": "1.1", "b": "6.0"},
            id="another check fails when the first is healed",
        ),
    ],
)
def test_finds_the_newest_set_that_passes(
    bad: Callable[[Mapping[str, str]], Mapping[str, str]], bounds: list[str], pins: dict[str, str]
) -> None:
    index = Index(PACKAGES, bad)
    found = index.search(direct=("sqlalchemy", "b")).run(TODAY)
    assert sorted(bound.requirement for bound in found.bounds) == sorted(bounds)
    assert pins.items() <= found.candidate.pins.items()
    assert bad(found.candidate.pins) == {}
    assert index.proved[-1] == (found.candidate.pins, ()), "what is written has passed the whole proof"
    assert found.tries == len(index.proved) == len({(frozenset(pins.items()), only) for pins, only in index.proved}), "no set twice"


def test_says_what_it_ruled_out_and_why() -> None:
    index = Index(PACKAGES, at_least(sqlalchemy="2.1.0"))
    made = index.search()
    (bound,) = made.run(TODAY).bounds
    assert bound.reason == f"With sqlalchemy 2.1.0 the proof fails ({CHECK}: {MESSAGE}), with 2.0.54 it passes."
    assert made.said[0].endswith(f"the newest set: {CHECK}: {MESSAGE}")
    assert made.said[-1].endswith("the newest set with sqlalchemy<2.1: passes")
    assert len(index.proved) <= 11
    assert {only for _pins, only in index.proved[1:-1]} == {(CHECK,)}, "between, only what failed is tried"


def test_a_check_that_fails_once_is_no_reason_to_search() -> None:
    answers = iter([{CHECK: MESSAGE}, {}])
    index = Index(PACKAGES, lambda _pins: next(answers, {}))
    found = index.search().run(TODAY)
    assert (found.bounds, found.tries, found.candidate.pins["sqlalchemy"]) == ((), 3, "2.1.4")
    assert [only for _pins, only in index.proved] == [(), (CHECK,), ()], "and the whole proof has passed in the end"


@pytest.mark.parametrize(
    ("index", "given", "says"),
    [
        pytest.param(Index(PACKAGES, lambda _pins: {CHECK: MESSAGE}), {}, "no set passes, as of 240 days earlier", id="nothing helps"),
        pytest.param(
            Index(PACKAGES, at_least(a="1.1"), oldest=20), {}, "no set passes, as of 240 days earlier", id="nothing older resolves"
        ),
        pytest.param(
            Index(PACKAGES, at_least(a="1.1")),
            {"limits": search.Limits(tries=3)},
            "given up after 3 proofs in . s; the limits are 3 and 3600 s",
            id="tries",
        ),
        pytest.param(
            Index(PACKAGES, at_least(a="1.1")),
            {"limits": search.Limits(seconds=5), "clock": iter(range(1000)).__next__},
            "given up after . proofs in . s; the limits are 40 and 5 s",
            id="time",
        ),
    ],
)
def test_gives_up(index: Index, given: dict[str, object], says: str) -> None:
    with pytest.raises(search.SearchError, match=says):
        index.search(**given).run(TODAY)


def test_a_day_that_does_not_resolve_is_passed_over() -> None:
    """A dependency that is needed in a version of last week: older days are no help, newer ones are."""
    index = Index(PACKAGES, at_least(sqlalchemy="2.1.4"), oldest=8)
    found = index.search().run(TODAY)
    assert [bound.requirement for bound in found.bounds] == ["sqlalchemy<2.1.4"]


@pytest.mark.parametrize(
    ("version", "named"), [("2.1.0", "2.1"), ("2.1.4", "2.1.4"), ("3.0.0", "3"), ("2026.10.19.post1", "2026.10.19.post1"), ("0.10", "0.10")]
)
def test_series(version: str, named: str) -> None:
    assert search.series(version) == named


@pytest.mark.parametrize("needed", [{"a"}, {"h"}, {"b", "g"}, {"a", "d", "h"}, set("abcdefgh")])
def test_smallest(needed: set[str]) -> None:
    calls: list[Sequence[str]] = []

    def passes(held: Sequence[str]) -> bool:
        calls.append(held)
        return needed <= set(held)

    assert set(search.smallest(list("abcdefgh"), passes)) == needed
    assert len(calls) <= 60


def test_proved_locks_are_those_that_are_here(tmp_path: Path) -> None:
    proof = importlib.import_module("lock_proof")
    lock = tmp_path / "1.2.3.txt"
    lock.write_text("prefect==1.2.3")
    proof.record(lock, ["3.11", "3.13"], tmp_path / "proofs.json")
    assert proof.digest(lock) in (tmp_path / "proofs.json").read_text()
