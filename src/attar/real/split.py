"""Holding out: a seeded stratified part of a set, groups kept together where asked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from attar.budget import largest_remainder
from attar.errors import DataError, UsageError, nearest
from attar.real.realset import RealSet
from attar.seeds import Seeds

Parts = tuple[torch.Tensor, torch.Tensor]
"""Positions (kept, held out), int64 and ascending; together all N."""


def hold_out(labels: torch.Tensor, n_classes: int, *, fraction: float, seeds: Seeds) -> Parts:
    """Holds out ``fraction`` of the rows, of every class by largest remainder.

    A class of at least two rows has at least one on either side; a class of one row is kept.

    Args:
        labels: int64 [N] in 0..K-1.
        fraction: share to hold out, in (0, 1).
        seeds: the stream that shuffles each class.
    """
    _check(fraction)
    members = [torch.nonzero(labels == k).flatten() for k in range(n_classes)]
    sizes = [len(m) for m in members]
    counts = _quota(fraction, sizes)
    held = [
        m[torch.randperm(len(m), generator=seeds.generator(k))[:c]] for k, (m, c) in enumerate(zip(members, counts))
    ]
    return _parts(len(labels), torch.cat(held))


def hold_out_groups(
    labels: torch.Tensor, n_classes: int, groups: Sequence[Any], *, fraction: float, seeds: Seeds
) -> Parts:
    """Like :func:`hold_out`, but rows of one group stay together.

    Greedy: groups from the largest down, ties in random order; a group is held out where that brings the class counts of
    the held-out part nearer to their quota (squared distance), unless it is the last group of a class on the kept side.
    Where no group does, the smallest that may go is held out.

    Args:
        groups: N group names of any kind.

    Raises:
        DataError: every group is the only one of some class.
    """
    _check(fraction)
    _, code = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    members = _by_code(code)
    tallies = [np.unique(labels.numpy()[m], return_counts=True) for m in members]
    want = np.asarray(_quota(fraction, torch.bincount(labels, minlength=n_classes).tolist()))
    order = torch.randperm(len(members), generator=seeds.generator("groups")).tolist()
    held = _greedy(tallies, want, sorted(order, key=lambda g: -len(members[g])))
    if not held:
        raise DataError(
            f"no test split can be held out: each of the {len(members)} groups is the only one of some class; "
            "give more groups, or a test split of its own"
        )
    return _parts(len(labels), torch.from_numpy(np.concatenate([members[g] for g in held])))


def _greedy(tallies: Sequence[tuple[np.ndarray, np.ndarray]], want: np.ndarray, order: Sequence[int]) -> list[int]:
    """The groups to hold out, from the (classes, counts) of each group and the wanted counts [K]."""
    have, left = np.zeros_like(want), np.zeros_like(want)  # rows held out, groups kept; int64 [K]
    for classes, _n in tallies:
        left[classes] += 1
    held: list[int] = []
    for g in order:
        classes, n = tallies[g]
        nearer = (n * (2 * (have[classes] - want[classes]) + n)).sum() < 0  # |have + n - want|^2 < |have - want|^2
        if nearer and (left[classes] > 1).all():
            held.append(g)
            have[classes] += n
            left[classes] -= 1
    spare = (g for g in reversed(order) if (left[tallies[g][0]] > 1).all())
    return held or list(itertools.islice(spare, 1))


def divide(
    real: RealSet, *, fraction: float, seed: int, group: str | None = None, key: str = "held-out"
) -> tuple[RealSet, RealSet]:
    """A set as (kept, held out), with their ids; pixels are shared.

    Args:
        group: a column whose equal values stay together.
        key: names the stream, so that a test and a validation part are drawn independently.
    """
    seeds = Seeds(seed).at(key)
    one = torch.zeros(len(real), dtype=torch.int64)  # examples without one class each are divided as those of one
    labels, k = (real.labels, real.n_classes) if real.labelled else (one, 1)
    if group is None:
        kept, held = hold_out(labels, k, fraction=fraction, seeds=seeds)
    else:
        names = group_column(real, group)
        kept, held = hold_out_groups(labels, k, names, fraction=fraction, seeds=seeds)
    return real.subset(kept), real.subset(held)


def group_column(real: RealSet, group: str) -> list[Any]:
    """The N values of a group column, none of them null."""
    if group not in real.table.column_names:
        raise UsageError(
            f"{real.name} has no column '{group}' to keep groups together; {nearest(group, real.table.column_names)}"
        )
    values = real.table[group].to_pylist()
    if None in values:
        raise DataError(f"{real.name}: row {values.index(None)} has no value in the group column '{group}'; fill it in")
    return values


def _check(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise UsageError(f"test fraction {fraction} is not between 0 and 1; try 0.2")


def _quota(fraction: float, sizes: Sequence[int]) -> list[int]:
    counts = largest_remainder(round(fraction * sum(sizes)), sizes)
    return [min(max(c, 1), n - 1) if n >= 2 else 0 for c, n in zip(counts, sizes)]


def _parts(n: int, held: torch.Tensor) -> Parts:
    mask = torch.zeros(n, dtype=torch.bool)
    mask[held] = True
    return torch.nonzero(~mask).flatten(), torch.nonzero(mask).flatten()


def _by_code(code: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(code, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(code[order])) + 1)
