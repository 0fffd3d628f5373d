# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Misspelt names of variables and groups, and the names that were meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import SequenceMatcher, get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache

# Variables that begin so are for this collection. Those that begin with redis_, nginx_ and the like may be for another role of the site.
_OWN = "prefect_"
# Internal names, and Ansible's own.
_NEVER = ("_", "ansible_")
# SequenceMatcher's ratio of two words of four letters that differ by one slip, such as prot and port.
_SLIP = 0.75
# Where any name is better than none, because something is wrong for certain.
_LOOSE = 0.6


def is_slip(name: str, right: str) -> bool:
    """Whether a name differs from the right one by nothing but slips: case, a hyphen for an underscore, a plural, a letter in a word."""
    words, wanted = _words(name), _words(right)
    if "".join(words) == "".join(wanted):
        return True
    return len(words) == len(wanted) and all(_is_near(word, other) for word, other in zip(words, wanted))


def nearest_slip(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that a name is most likely a slip of, if there is one."""
    return _nearest(name, [candidate for candidate in candidates if candidate != name and is_slip(name, candidate)])


def similar_group(name: str, groups: Iterable[str]) -> str | None:
    """The group that may have been meant where the group of this name is missing for certain: the threshold is low."""
    others = list(groups)
    slip = nearest_slip(name, others)
    if slip:
        return slip
    longer = [group for group in others if _words(group)[: len(_words(name))] == _words(name)]
    return _nearest(name, longer or get_close_matches(name, others, n=1, cutoff=_SLIP))


def variable_name_problems(
    names: Iterable[str], documented: Collection[str], computed: Collection[str] = (), unchecked: Iterable[str] = ()
) -> list[str]:
    """Names of variables that are likely misspelt, one sentence or two for each.

    ``names`` are those of all variables of a host, ``documented`` those that users may set, ``computed`` those that roles set themselves.
    A name that begins with ``prefect_`` and is in neither is a problem; any other only if it is a slip of a documented one.
    ``unchecked`` are names or patterns (as the shell has them) that are left alone.
    """
    patterns = list(unchecked)
    strange = sorted({*names} - {*documented} - {*computed})
    by_head = _by_head(documented)
    return [problem for name in strange if not _is_exempt(name, patterns) for problem in _variable_problems(name, documented, by_head)]


def _is_exempt(name: str, patterns: Iterable[str]) -> bool:
    # One in capitals is a variable of the environment that the site keeps for itself.
    return name.startswith(_NEVER) or name.isupper() or any(fnmatchcase(name, pattern) for pattern in patterns)


def _variable_problems(name: str, documented: Collection[str], by_head: dict[str, list[str]]) -> Iterator[str]:
    unless = "or list it in prefect_unchecked_variables if it is not for this collection."
    meant = _nearest(name, _slips_of(name, by_head))
    own = name.lower().replace("-", "_").startswith(_OWN)
    similar = None if meant or not own else _similar_variable(name, documented)
    if meant or similar:
        yield f"The variable {name} is not known; the nearest name that is known is {meant or similar}. Correct it, {unless}"
    elif own:
        yield f"The variable {name} is not known. Remove it, correct its name (docs/variables.md has all of them), {unless}"


def _slips_of(name: str, by_head: dict[str, list[str]]) -> list[str]:
    """The documented names that a name is a slip of. Only one part is misspelt: the prefix or what follows it."""
    head, *rest = _words(name) or ("",)
    found: list[str] = []
    for known_head, candidates in by_head.items():
        if head == known_head:
            found += [candidate for candidate in candidates if is_slip(name, candidate)]
        elif _is_near(head, known_head):
            found += [candidate for candidate in candidates if tuple(rest) == _words(candidate)[1:]]
    return found


def _similar_variable(name: str, documented: Collection[str]) -> str | None:
    """The nearest documented name of one that begins with ours. The prefix, which all of them have, does not count."""
    rest = name.lower().replace("-", "_")[len(_OWN) :]
    if rest in documented:  # prefect_nginx_listen_port
        return rest
    own = {candidate[len(_OWN) :]: candidate for candidate in sorted(documented) if candidate.startswith(_OWN)}
    close = get_close_matches(rest, own, n=1, cutoff=_LOOSE)
    return own[close[0]] if close else None


def _by_head(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(_words(name)[0], []).append(name)
    return found


def _nearest(name: str, candidates: Sequence[str]) -> str | None:
    return max(candidates, key=lambda candidate: SequenceMatcher(None, name, candidate).ratio(), default=None)


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[_-]+", name.lower()) if word)


@lru_cache(maxsize=4096)
def _is_near(word: str, other: str) -> bool:
    """Whether two words are one, but for a slip. Words with different numbers are two: redis and redis2."""
    if word == other:
        return True
    shorter, longer = sorted((word, other), key=len)
    if re.sub(r"\D", "", word) != re.sub(r"\D", "", other):
        return False
    if longer in (f"{shorter}s", f"{shorter}es"):
        return True
    return len(longer) - len(shorter) <= 1 and SequenceMatcher(None, word, other).ratio() >= _SLIP
