"""ccs: coverage of all difficulties. Haizhong Zheng, Rui Liu, Fan Lai and Atul Prakash, Coverage-centric coreset selection
for high pruning rates, ICLR 2023, arXiv 2210.15809.

Leave out the hardest, which are mostly mislabelled; cut the range of the other scores into strata of equal width; keep the
same number of every stratum, all of those that have fewer.

    pool_j = { i : min + j w <= s_i < min + (j + 1) w },  w = (max - min) / strata
    k_j    = min(|pool_j|, x)  with the level x for which sum_j k_j = k
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch

from attar.budget import level
from attar.errors import UsageError
from attar.select.pick import Picks
from attar.select.rules.pool import Pool


def ccs(pool: Pool, k: int, *, strata: int = 50, cutoff: float = 0.1) -> Picks:
    """Equal numbers of strata of equal width in the score, without the hardest. Nested while the cutoff holds.

    Args:
        pool: n examples.
        k: 1 to n.
        strata: how many.
        cutoff: share of the n that is left out, the hardest; less of it where too few would be left. The
            paper tunes it for each amount: 0.3 on CIFAR-10 where a tenth is kept.

    Differs from the official code, which cuts at 1.0001 times the maximum and so loses the top example where scores are
    negative, and returns fewer than k where the cutoff leaves fewer. What does not divide evenly goes to the larger strata
    in both.

    Raises:
        UsageError: no stratum, ``cutoff`` outside [0, 1), or above 0 where it is not known what is hard.
    """
    if strata < 1:
        raise UsageError(f"ccs:strata={strata} must be at least 1; try strata=50")
    if not 0 <= cutoff < 1:
        raise UsageError(f"ccs:cutoff={cutoff} is not a share in [0, 1); try cutoff=0.1")
    return pool.alternating([pool.some(part, share) for part, share in covered(pool, k, strata, cutoff, "ccs")])


def covered(pool: Pool, k: int, strata: int, cutoff: float, rule: str) -> list[tuple[torch.Tensor, int]]:
    """The strata of what is left without the hardest, the largest first, and how many to take of each.

    Args:
        pool: n examples. k: 1 to n, in all. strata: how many, of equal width in the score. cutoff: share of the n. rule: for
            the message where it is not known what is hard.

    Returns:
        places int64 [n_j], in the order of ids, and k_j, for every stratum.
    """
    drop = min(math.ceil(Fraction(str(cutoff)) * len(pool)), len(pool) - k)
    left = pool.without_hardest(drop, rule, "cutoff").sort().values  # places in the order of ids
    stratum = strata_of(pool.score[left], strata)  # [n - drop]
    parts = sorted((left[stratum == j] for j in range(strata)), key=len, reverse=True)  # large ones get what is over
    return list(zip(parts, level(k, [len(part) for part in parts])))


def strata_of(score: torch.Tensor, strata: int) -> torch.Tensor:
    """The stratum of each score, of equal width between the lowest and the highest: float64 [n] -> int64 [n]."""
    low, high = score.min(), score.max()
    if low == high:
        return torch.zeros(len(score), dtype=torch.int64)
    return ((score - low) / (high - low) * strata).floor().long().clamp(max=strata - 1)
