"""Pixels: the kept examples are learned directly, in the normalised space and without clamping."""

from __future__ import annotations

import torch

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.real.realset import RealSet
from attar.seeds import Seeds

STARTS = ("real", "noise")


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
    check(kind)
    _check_classes(real)
    counts = budget.counts(real.sizes, example_bytes=real.example_bytes, names=real.class_names, limited=kind == "real")
    label = torch.repeat_interleave(torch.arange(real.n_classes), torch.tensor(counts))
    if kind == "noise":
        image = torch.randn(len(label), *real.shape, generator=seeds.generator("start"))
    else:
        picks = [
            members[torch.randperm(len(members), generator=seeds.generator("start", k))[:n]]
            for k, (members, n) in enumerate(zip(real.classes, counts))
        ]
        image = real.draw(torch.cat(picks)).cpu()
    return {"image": image.contiguous(), "label": label}


def check(kind: str) -> None:
    """Refuses an unknown start."""
    if kind not in STARTS:
        raise UsageError(f"start '{kind}' is unknown; use {' or '.join(STARTS)}")


def _check_classes(real: RealSet) -> None:
    if not real.n_classes:
        raise DataError(f"{real.name} has no classes to distil; give labels, or choose examples with attar select")
    for name, size in zip(real.class_names, real.sizes):
        if not size:
            raise DataError(f"class '{name}' of {real.name} has no examples to learn from; remove it or add some")
