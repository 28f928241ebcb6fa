"""From scores in parts to a choice: random, top and ccs by thresholds, in passes, exact.

A choice is a few numbers a group; whether a row is kept follows from them and its own id, class and score. Rows of equal
score are ordered by the hash of their ids, so that no shard is preferred; elsewhere the choice is that of the rules of the
same names in :mod:`attar.select.rules`, but for what chance decides, whose seeds are others.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from attar import chance, spec
from attar.budget import level
from attar.errors import UsageError, nearest
from attar.scale.radix import falling, smallest
from attar.scale.work import Work

Score = Callable[[Work, int], np.ndarray]
"""(work, piece) -> float [rows], high = keep."""
Arrays = dict[str, np.ndarray]


def top(*, skip: float = 0.0) -> None:
    """The k highest scores, after a share ``skip`` of the highest is left out."""
    if not 0 <= skip < 1:
        raise UsageError(f"top:skip={skip} is not a share in [0, 1); try skip=0.05")


def ccs(*, strata: int = 50, cutoff: float = 0.1) -> None:
    """The same number of every range of scores, without the share ``cutoff`` of the highest."""
    if strata < 1:
        raise UsageError(f"ccs:strata={strata} must be at least 1; try strata=50")
    if not 0 <= cutoff < 1:
        raise UsageError(f"ccs:cutoff={cutoff} is not a share in [0, 1); try cutoff=0.1")


RULES: dict[str, Callable[..., None]] = {"top": top, "ccs": ccs}
"""Name -> a function that refuses impossible settings and whose defaults are theirs."""


def read(text: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of ``ccs:strata=50:cutoff=0.1``.

    Raises:
        UsageError: an unknown name, setting or value.
    """
    name, *items = text.split(":")
    if name not in RULES:
        raise UsageError(f"there is no rule '{name}' for shards; {nearest(name, RULES)}")
    known = spec.settings_of(RULES[name], ("return",))
    settings = spec.given(f"rule '{name}'", known, items)
    RULES[name](**settings)
    defaults = {k: p.default for k, p in known.items() if p.default is not inspect.Parameter.empty}
    return name, {**defaults, **settings}


def plan(work: Work, text: str, score: Score, sizes: list[int], k: list[int]) -> Arrays:
    """The numbers of a choice by a rule.

    Args:
        text: the rule. score: of each piece. sizes: rows of each group, G numbers. k: how many of each.
    """
    name, settings = read(text)
    many, few = np.array(sizes), np.array(k)
    if name == "top":
        first = np.array([min(int(Fraction(str(settings["skip"])) * n), n - m) for n, m in zip(sizes, k)])
        return {**_named("low", boundary(work, score, first)), **_named("high", boundary(work, score, first + few))}
    drop = np.array([min(math.ceil(Fraction(str(settings["cutoff"])) * n), n - m) for n, m in zip(sizes, k)])
    return covered(work, score, boundary(work, score, drop), settings["strata"], many, few)


def by_chance(work: Work, k: list[int]) -> Arrays:
    """The numbers of a random choice: of each group the threshold of the hash."""
    none = {"score": np.zeros(0, np.uint64), "hash": np.zeros(0, np.uint64), "taken": np.zeros(len(k), bool)}
    return {**_named("low", none), **_named("drawn", drawn(work, lambda u: work.groups(u), np.array(k)))}


def boundary(work: Work, score: Score, k: np.ndarray) -> Arrays:
    """Where the first k of each group end in the ranking from high to low: score key and hash of the last of them."""
    units = range(len(work.job.pieces))

    def scored() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from ((falling(score(work, u)), work.groups(u)) for u in units)

    first = smallest(scored, k)

    def equal(unit: int) -> np.ndarray:
        group = work.groups(unit)
        return np.where(falling(score(work, unit)) == first.key[group], group, -1)

    tied = drawn(work, equal, first.rest)
    return {"score": first.key, "hash": tied["hash"], "taken": first.taken}


def drawn(work: Work, group: Callable[[int], np.ndarray], k: np.ndarray) -> Arrays:
    """The hash below which each group has its k rows: chance decides, nested in k."""
    seed = work.seed("rule")

    def hashed() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from ((chance.keys(work.ids(u), seed), group(u)) for u in range(len(work.job.pieces)))

    found = smallest(hashed, k)
    return {"hash": found.key, "taken": found.taken}


def covered(work: Work, score: Score, drop: Arrays, strata: int, sizes: np.ndarray, k: np.ndarray) -> Arrays:
    """The numbers of ccs: what is left out, the range of the other scores, and the hash threshold of each stratum."""
    units, groups = range(len(work.job.pieces)), len(sizes)
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    for u in units:
        left, s, g = _left(work, u, score, drop)
        np.minimum.at(low, g[left], s[left])
        np.maximum.at(high, g[left], s[left])
    counts = np.zeros((groups, strata), np.int64)
    for u in units:
        left, s, g = _left(work, u, score, drop)
        np.add.at(counts, (g[left], stratum(s[left], low[g[left]], high[g[left]], strata)), 1)
    shares = np.zeros_like(counts)
    for g in range(groups):
        order = np.argsort(-counts[g], kind="stable")  # large ones get what is over
        shares[g, order] = level(int(k[g]), counts[g, order].tolist())

    def of_stratum(unit: int) -> np.ndarray:
        left, s, g = _left(work, unit, score, drop)
        return np.where(left, g * strata + stratum(s, low[g], high[g], strata), -1)

    found = drawn(work, of_stratum, shares.reshape(-1))
    return {**_named("low", drop), **_named("drawn", found), "from": low, "to": high, "strata": np.array([strata])}


def stratum(score: np.ndarray, low: np.ndarray, high: np.ndarray, strata: int) -> np.ndarray:
    """The stratum of each score, of equal width between the lowest and the highest of its group: [n] -> int64 [n]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.floor((score - low) / (high - low) * strata)
    return np.nan_to_num(place, nan=0.0, posinf=0.0, neginf=0.0).clip(0, strata - 1).astype(np.int64)


def _left(work: Work, unit: int, score: Score, drop: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows of a piece are not left out, their scores and groups."""
    s, g = score(work, unit).astype(np.float64), work.groups(unit)
    return ~first(work, unit, s, g, drop), s, g


def first(work: Work, unit: int, score: np.ndarray, group: np.ndarray, end: Arrays) -> np.ndarray:
    """Which rows of a piece come before a :func:`boundary`, or at it: bool [rows]."""
    if not end["taken"].any():
        return np.zeros(len(group), bool)
    key, last = falling(score), end["score"][group]
    tied = chance.keys(work.ids(unit), work.seed("rule")) <= end["hash"][group]
    return end["taken"][group] & ((key < last) | ((key == last) & tied))


def kept(work: Work, unit: int, numbers: Arrays, score: np.ndarray | None) -> np.ndarray:
    """Which rows of a piece a choice keeps: bool [rows].

    Args:
        numbers: of :func:`plan`, :func:`by_chance`; or ``ids``, sorted; or ``least``, the lowest score that is kept.
        score: of the piece, where the choice needs it.
    """
    if "ids" in numbers:
        ids = work.ids(unit)
        place = np.searchsorted(numbers["ids"], ids).clip(max=len(numbers["ids"]) - 1)
        return numbers["ids"][place] == ids
    if "least" in numbers:
        assert score is not None
        return score >= numbers["least"][0]
    group = work.groups(unit)
    s = np.zeros(len(group)) if score is None else score.astype(np.float64)
    after = ~first(work, unit, s, group, _part(numbers, "low"))
    if "high.score" in numbers:
        return after & first(work, unit, s, group, _part(numbers, "high"))
    if "strata" in numbers:
        strata = int(numbers["strata"][0])
        group = group * strata + stratum(s, numbers["from"][group], numbers["to"][group], strata)
    limit = _part(numbers, "drawn")
    key = chance.keys(work.ids(unit), work.seed("rule"))
    return after & limit["taken"][group] & (key <= limit["hash"][group])


def _named(name: str, arrays: Arrays) -> Arrays:
    return {f"{name}.{key}": value for key, value in arrays.items()}


def _part(arrays: Arrays, name: str) -> Arrays:
    return {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
