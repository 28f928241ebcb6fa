"""Greedy maximisation of set functions: exact, lazy and stochastic, always with the order and the gains of the picks.

Nemhauser, Wolsey and Fisher, An analysis of approximations for maximizing submodular set functions, Mathematical
Programming 1978: picking what adds most reaches 1 - 1/e of the best value, where the function is monotone and submodular.
Lazy: Minoux, Accelerated greedy algorithms for maximizing submodular set functions, 1978. Gains never grow, so an old gain
is an upper bound, and only the largest bounds need a fresh look. Here they are looked at in batches, which turns the pops
of a heap into matrix operations. Stochastic: Mirzasoleiman, Badanidiyuru, Karbasi, Vondrak and Krause, Lazier than lazy
greedy, AAAI 2015: the best out of (n / k) ln(1 / eps) random ones, 1 - 1/e - eps in expectation.

Ties go to the lower place in all three.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch

from attar.errors import UsageError, nearest
from attar.method import positive
from attar.seeds import Seeds

OPTIMISERS = ("lazy", "exact", "stochastic")
FEWEST, MOST = 16, 4096
"""Bounds that lazy greedy looks at in one batch."""


class SetFunction(Protocol):
    """A function of sets of n examples that remembers what was picked."""

    def __len__(self) -> int:
        """n."""
        ...

    def bounds(self) -> torch.Tensor:
        """At least the gain of each example while nothing is picked: float64 [n]."""
        ...

    def gains(self, places: torch.Tensor) -> torch.Tensor:
        """What each of some examples would add to the picks so far: int64 [b], ascending, unique -> float64 [b]."""
        ...

    def add(self, place: int) -> None:
        """Picks one."""
        ...


def check_optimiser(name: str, eps: float) -> None:
    """Refuses settings that :func:`maximise` could not use.

    Raises:
        UsageError: an unknown optimiser, or eps outside of (0, 1).
    """
    if name not in OPTIMISERS:
        raise UsageError(f"optimiser '{name}' is unknown; {nearest(name, OPTIMISERS)}")
    positive(eps=eps)
    if eps >= 1:
        raise UsageError(f"eps={eps} must be below 1; try 0.01")


def maximise(
    f: SetFunction, k: int, *, optimiser: str = "lazy", eps: float = 0.01, seeds: Seeds | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """k picks out of n, each of which adds much to those before it.

    Args:
        f: nothing picked yet; holds the picks afterwards.
        k: 1 to n.
        optimiser: exact, lazy (the same picks, where gains never grow) or stochastic.
        eps: of stochastic.
        seeds: of stochastic's samples.

    Returns:
        picks int64 [k], unique; gains float64 [k], what each added to those before it.
    """
    if optimiser == "exact":
        return exact(f, k)
    if optimiser == "lazy":
        return lazy(f, k)
    return stochastic(f, k, eps=eps, seeds=seeds or Seeds())


def exact(f: SetFunction, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Looks at every example before each pick: n k gains."""
    everyone = torch.arange(len(f))
    free = torch.ones(len(f), dtype=torch.bool)
    trace = _Trace(f, k)
    for _ in range(k):
        gain = f.gains(everyone).cpu().masked_fill(~free, -torch.inf)
        place = int(gain.argmax())
        free[place] = False
        trace.pick(place, float(gain[place]))
    return trace.places, trace.gain


def lazy(f: SetFunction, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Looks at the largest bounds until the best fresh gain is above all that is left: n + a few k gains.

    A batch doubles while it does not suffice, and the next pick starts with half of what this one took.
    """
    bound = f.bounds().cpu().clone()  # [n], -inf for picks
    trace, size = _Trace(f, k), FEWEST
    for t in range(k):
        stale, best, place, seen = bound.clone(), -math.inf, len(f), 0
        while seen < len(f) - t:
            look = highest(stale, min(size, len(f) - t - seen))
            gain = f.gains(look).cpu()
            bound[look], stale[look] = gain, -torch.inf
            top = int(gain.argmax())
            value, here = float(gain[top]), int(look[top])
            if value > best or (value == best and here < place):
                best, place = value, here
            seen, size = seen + len(look), min(2 * size, MOST)
            rival = int(stale.argmax())
            left = float(stale[rival])
            if best > left or (best == left and place < rival):
                break
        bound[place] = -torch.inf
        size = max(FEWEST, min(MOST, seen // 2))
        trace.pick(place, best)
    return trace.places, trace.gain


def stochastic(f: SetFunction, k: int, *, eps: float, seeds: Seeds) -> tuple[torch.Tensor, torch.Tensor]:
    """Looks at a fresh random sample before each pick: n ln(1 / eps) gains in all, whatever k is.

    Places are drawn with repetition, as in the proof of the guarantee, so that a draw costs its size and not n.
    """
    size = math.ceil(len(f) / k * math.log(1 / eps))
    left, free = torch.arange(len(f)), len(f)  # the first ``free`` are not picked
    trace = _Trace(f, k)
    for t in range(k):
        here = seeds.generator("sample", t)
        at = torch.randint(free, (size,), generator=here).unique() if size < free else torch.arange(free)
        look, order = left[at].sort()
        gain = f.gains(look).cpu()
        top = int(gain.argmax())
        free -= 1
        left[at[order[top]]] = left[free]  # the last free one takes the place of the pick
        trace.pick(int(look[top]), float(gain[top]))
    return trace.places, trace.gain


def highest(bound: torch.Tensor, size: int) -> torch.Tensor:
    """The places of the largest values, ascending; ties to the lower places: float [n] -> int64 [size]."""
    least = bound.topk(size).values[-1]
    found = torch.nonzero(bound >= least).flatten()
    if len(found) == size:
        return found
    level = bound[found] == least  # more of them than there is room for
    return torch.cat([found[~level], found[level][: size - int((~level).sum())]]).sort().values


class _Trace:
    """The picks of a function in order."""

    def __init__(self, f: SetFunction, k: int) -> None:
        self.f, self.done = f, 0
        self.places = torch.empty(k, dtype=torch.int64)
        self.gain = torch.empty(k, dtype=torch.float64)

    def pick(self, place: int, gain: float) -> None:
        self.places[self.done], self.gain[self.done] = place, gain
        self.done += 1
        self.f.add(place)
