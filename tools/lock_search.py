"""Find a set of packages that passes the proof, when the newest set does not.

The search knows neither the resolver nor the prover: both are given to it. It goes from dates to packages to versions:

1. Older days are resolved until a set passes, and the days between are halved, to the first day whose set fails.
2. Of the packages that changed on that day, the fewest are found that must stay as they were.
3. Of the versions of each of these that came that day, the first that fails is found. Everything before it is the new bound.

The newest set within the bounds is then proved as a whole, and the search goes on if it fails for another reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from packaging.version import Version

# How far back an older set is looked for: each step is about twice as far as the one before.
STEPS = tuple(timedelta(days=days) for days in (7, 14, 30, 60, 120, 240))
DAY = timedelta(days=1)


class SearchError(Exception):
    """The search ended without a set that passes; the message says what was tried."""


@dataclass(frozen=True)
class Candidate:
    """A resolved set: the version of each package, and the body of its lock file."""

    pins: Mapping[str, str]
    body: str = ""

    @property
    def key(self) -> frozenset[tuple[str, str]]:
        """Equal for equal sets."""
        return frozenset(self.pins.items())


@dataclass(frozen=True)
class Bound:
    """An upper bound that the search found, and why."""

    requirement: str
    reason: str


@dataclass(frozen=True)
class Found:
    """A set that passed the whole proof, and the bounds that it needed."""

    candidate: Candidate
    bounds: tuple[Bound, ...]
    tries: int
    seconds: float


@dataclass
class Limits:
    """What a search may cost."""

    tries: int = 40
    seconds: float = 3600


# (day, requirements) -> a set as of that day within the requirements, or none if nothing resolves.
Resolver = Callable[[datetime, Sequence[str]], Candidate | None]
# (set, names of checks, or none for all) -> what failed: by the name of the check, its message.
Prover = Callable[[Candidate, tuple[str, ...]], Mapping[str, str]]


def series(version: str) -> str:
    """A version as a bound names it, without the zeros at its end: 2.1.0 is 2.1."""
    parsed = Version(version)
    numbers = list(parsed.release)
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return ".".join(map(str, numbers)) if parsed.release == Version(parsed.base_version).release and not parsed.is_postrelease else version


def moved(old: Candidate, new: Candidate) -> list[str]:
    """The packages that both sets have, in another version."""
    return sorted(name for name, version in new.pins.items() if old.pins.get(name, version) != version)


@dataclass
class Search:
    """One search: its resolver and prover, what it knows already, and what it has cost."""

    resolve: Resolver
    prove: Prover
    versions: Callable[[str], Sequence[str]]
    direct: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    say: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    tries: int = 0
    bounds: list[Bound] = field(default_factory=list)
    _only: tuple[str, ...] = ()
    _known: dict[tuple[frozenset[tuple[str, str]], tuple[str, ...]], Mapping[str, str]] = field(default_factory=dict)
    _started: float = 0.0

    def run(self, as_of: datetime) -> Found:
        """The newest set that passes, as of a day. Raises SearchError."""
        self._started = self.clock()
        while True:
            named = " and ".join(bound.requirement for bound in self.bounds)
            newest = self._set(as_of)
            if newest is None:
                raise SearchError(f"nothing resolves as of {as_of:%Y-%m-%d}{named and f' with {named}'}")
            self._only = ()
            failed = self._judged(newest, f"the newest set{named and f' with {named}'}")
            if not failed:
                return Found(newest, tuple(self.bounds), self.tries, self.clock() - self._started)
            # From here on only what failed is tried. At first the same set, as a busy machine fails a check now and then, too.
            self._only = tuple(sorted(failed))
            if not self._judged(newest, "the same set again"):
                self._known.clear()
                continue
            self.bounds += self._search(as_of, newest, "; ".join(f"{check}: {message}" for check, message in failed.items()))

    def _set(self, day: datetime, *more: str) -> Candidate | None:
        """The set as of a day within the bounds, and within more requirements."""
        return self.resolve(day, [*(bound.requirement for bound in self.bounds), *more])

    def _judged(self, candidate: Candidate, what: str) -> Mapping[str, str]:
        """What of the proof fails with a set. Each set is proved once."""
        key = candidate.key, self._only
        if key not in self._known:
            spent = self.clock() - self._started
            if self.tries >= self.limits.tries or spent > self.limits.seconds:
                limits = f"{self.limits.tries} and {self.limits.seconds:.0f} s"
                raise SearchError(f"given up after {self.tries} proofs in {spent:.0f} s; the limits are {limits}")
            self.tries += 1
            begun = self.clock()
            self._known[key] = failed = self.prove(candidate, self._only)
            outcome = "; ".join(f"{name}: {message}" for name, message in failed.items()) or "passes"
            self.say(f"proof {self.tries}, {self.clock() - begun:.0f} s: {what}: {outcome}")
        return self._known[key]

    def _search(self, as_of: datetime, newest: Candidate, why: str) -> list[Bound]:
        """The bounds without which the newest set fails as it does."""
        good, bad, day = self._days(as_of, newest)
        culprits = self._culprits(good, bad, day)
        found = []
        for name in culprits:
            # The others of them stay as they were, or the set would fail whatever this one is.
            held = [f"{other}=={good.pins[other]}" for other in culprits if other != name]
            last, first = self._versions(name, (good.pins[name], bad.pins[name]), day, held)
            found.append(Bound(f"{name}<{series(first)}", f"With {name} {first} the proof fails ({why}), with {last} it passes."))
            self.say(f"bound: {found[-1].requirement}")
        return found

    def _days(self, as_of: datetime, newest: Candidate) -> tuple[Candidate, Candidate, datetime]:
        """The last set that passes and the first that fails, of days next to each other, and the later day."""
        late, bad = as_of, newest
        for step in STEPS:
            early = as_of - step
            good = self._passing(early)
            if isinstance(good, Candidate):
                break
            if good is not None:
                late, bad = early, good.candidate
        else:
            reason = "the cause is not a newer dependency, or nothing older resolves"
            raise SearchError(f"no set passes, as of {STEPS[-1].days} days earlier either: {reason}")
        while late - early > DAY:
            middle = early + timedelta(days=(late - early).days // 2)
            found = self._passing(middle)
            if isinstance(found, Candidate):
                early, good = middle, found
            elif found is not None:
                late, bad = middle, found.candidate
            else:
                early = middle  # what does not resolve is no help; the newer half may be
        return good, bad, late

    def _passing(self, day: datetime) -> Candidate | _Failing | None:
        """The set as of a day: itself if it passes, wrapped if it fails, none if nothing resolves."""
        candidate = self._set(day)
        if candidate is None:
            self.say(f"as of {day:%Y-%m-%d}: nothing resolves")
            return None
        return _Failing(candidate) if self._judged(candidate, f"as of {day:%Y-%m-%d}") else candidate

    def _culprits(self, good: Candidate, bad: Candidate, day: datetime) -> list[str]:
        """The fewest of the packages that changed which must stay as they were. Direct dependencies are tried first."""
        names = sorted(moved(good, bad), key=lambda name: (name not in self.direct, name))

        def passes(held: Sequence[str]) -> bool:
            pins = [f"{name}=={good.pins[name]}" for name in held]
            candidate = self._set(day, *pins)
            return candidate is not None and not self._judged(candidate, f"as of {day:%Y-%m-%d} with {', '.join(pins)}")

        self.say(f"changed on {day - DAY:%Y-%m-%d}: {', '.join(names) or 'nothing that has another version'}")
        if not names or (len(names) > 1 and not passes(names)):
            raise SearchError(f"the sets before and after {day - DAY:%Y-%m-%d} differ in more than versions, so no upper bound helps")
        return smallest(names, passes)

    def _versions(self, name: str, ends: tuple[str, str], day: datetime, held: Sequence[str]) -> tuple[str, str]:
        """The last version of a package that passes, and the first that fails, of those from one that passes to one that fails."""
        good, bad = map(Version, ends)
        between = sorted({Version(found) for found in self.versions(name)} | {bad})
        steps = [ends[0], *(str(found) for found in between if good < found <= bad and not found.is_prerelease)]
        low, high = 0, len(steps) - 1
        while high - low > 1:
            middle = (low + high) // 2
            pin = f"{name}=={steps[middle]}"
            candidate = self._set(day, *held, pin)
            if candidate is not None and self._judged(candidate, f"as of {day:%Y-%m-%d} with {pin}"):
                high = middle
            else:
                low = middle
        return steps[low], steps[high]


@dataclass(frozen=True)
class _Failing:
    """A set that fails."""

    candidate: Candidate


def smallest(names: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> list[str]:
    """A subset that passes, of a list that does, from which nothing can be left out (delta debugging)."""
    found, parts = list(names), 2
    while len(found) > 1:
        size = max(1, len(found) // parts)
        chunks = [found[at : at + size] for at in range(0, len(found), size)]
        smaller = next((chunk for chunk in chunks if passes(chunk)), None)
        if smaller is not None:
            found, parts = smaller, 2
            continue
        rests = [[name for name in found if name not in chunk] for chunk in chunks] if len(chunks) > 2 else []
        rest = next((rest for rest in rests if passes(rest)), None)
        if rest is not None:
            found, parts = rest, max(parts - 1, 2)
        elif size == 1:
            break
        else:
            parts = min(len(found), parts * 2)
    return found
