"""Pixels: the kept examples are learned directly, in the normalised space and without clamping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.method import State
from attar.optim import Opt
from attar.real.realset import RealSet
from attar.seeds import Seeds

STARTS = ("real", "noise")


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """As many images as the budget names, each learned as it is."""

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, *, kind: str) -> State:
        """``image`` [M, C, H, W] and ``label`` [M], as :func:`start`."""
        return start(real, budget, seeds, kind=kind)

    def learn(self, opt: Opt) -> dict[str, Opt]:
        """The images move."""
        return {"image": opt}

    def decode(self, state: State) -> torch.Tensor:
        """The images themselves: [M, C, H, W]."""
        return state["image"]

    def stored(self, state: State) -> State:
        """Nothing is decoded, so nothing else is kept."""
        return {}

    def counts(self, shape: tuple[int, int, int], asked: Sequence[int]) -> list[int]:
        """As many images of every class as are asked for."""
        return list(asked)


def start(real: RealSet, budget: Budget, seeds: Seeds, *, kind: str) -> dict[str, torch.Tensor]:
    """The first images of a synthetic set, sorted by class.

    Args:
        budget: how many; divided evenly over the classes.
        kind: ``real`` (random real examples of the class) or ``noise`` (standard normal in the normalised space).

    Returns:
        ``image`` float32 [M, C, H, W] and ``label`` int64 [M].

    Raises:
        UsageError: an unknown kind.
        DataError: a set without classes, or a class without examples; a class smaller than its share, for a real start.
    """
    counts = asked(real, budget, kind=kind)
    label = labels(counts)
    if kind == "noise":
        image = torch.randn(len(label), *real.shape, generator=seeds.generator("start"))
    else:
        picks = [
            members[torch.randperm(len(members), generator=seeds.generator("start", k))[:n]]
            for k, (members, n) in enumerate(zip(real.classes, counts))
        ]
        image = real.draw(torch.cat(picks)).cpu()
    return {"image": image.contiguous(), "label": label}


def asked(real: RealSet, budget: Budget, *, kind: str) -> list[int]:
    """Images of every class that a budget names: K numbers.

    Raises:
        UsageError, DataError: as :func:`start`.
    """
    check(kind)
    _check_classes(real)
    return budget.counts(real.sizes, example_bytes=real.example_bytes, names=real.class_names, limited=kind == "real")


def labels(counts: Sequence[int]) -> torch.Tensor:
    """Classes in their order, each as often as ``counts`` says: int64 [sum]."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def drawn(real: RealSet, counts: Sequence[int], seeds: Seeds) -> torch.Tensor:
    """Random examples of every class, sorted by class: positions, int64 [sum]; a small class repeats its examples evenly."""
    return torch.cat(
        [some(members, n, seeds.generator("start", k)) for k, (members, n) in enumerate(zip(real.classes, counts))]
    )


def some(members: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """n positions out of a class, each as often as the others but for one: int64 [n]."""
    rounds = max(1, -(-n // max(1, len(members))))
    return torch.cat([members[torch.randperm(len(members), generator=generator)] for _ in range(rounds)])[:n]


def check(kind: str, *, known: Sequence[str] = STARTS) -> None:
    """Refuses an unknown start; a method may know others."""
    if kind not in known:
        raise UsageError(f"start '{kind}' is unknown; use {', '.join(known[:-1])} or {known[-1]}")


def _check_classes(real: RealSet) -> None:
    if not real.n_classes:
        raise DataError(f"{real.name} has no classes to distil; give labels, or choose examples with attar select")
    for name, size in zip(real.class_names, real.sizes):
        if not size:
            raise DataError(f"class '{name}' of {real.name} has no examples to learn from; remove it or add some")
