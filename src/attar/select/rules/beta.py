"""beta: chance that moves to easy examples as fewer are kept. Yeseul Cho, Baekrok Shin, Changmin Kang and Chulhee Yun,
Lightweight dataset pruning without full training via example difficulty and prediction uncertainty, ICML 2025,
arXiv 2502.06905.

Draw without replacement, the chance of an example in proportion to

    s_i * Beta(c_i; a, b)    with b = 15 (1 - m) (1 - r^d),  a = 16 - b

c_i the mean probability of the label over the epochs, m that of the ten highest scores, r the share that is left out.
Where little is left out the density peaks among the highest scores; as r goes to 1, at the easy examples.
"""

from __future__ import annotations

import numpy as np
import torch

from attar.errors import UsageError
from attar.select.hashed import weighted
from attar.select.pick import Picks
from attar.select.rules.pool import Pool

ANCHORS = 10
"""How many of the highest scores tell where the density peaks."""
EDGE = 1e-6
"""Probabilities nearer to 0 or 1 than this are taken to be there, where the density would be 0 or infinite."""


def beta(pool: Pool, k: int, *, cd: float = 5.5) -> Picks:
    """A seeded draw, weighted by the score and by a Beta density of the mean probability of the label.

    Args:
        pool: n examples with the signal ``confidence``; scores below 0 are raised so that the lowest is 0.
        k: 1 to n.
        cd: how late the density moves: 5.5 on CIFAR-10, 4 on CIFAR-100, 11 on ImageNet in the paper.

    Raises:
        UsageError: no confidence, or ``cd`` not positive.
    """
    if not 0 < cd < float("inf"):
        raise UsageError(f"beta:cd={cd} must be a positive number; try cd=5.5")
    confidence = pool.signal("confidence", "beta").double().cpu()
    anchor = float(confidence[pool.ranking()[:ANCHORS]].mean())
    b = 15 * (1 - anchor) * (1 - (1 - k / len(pool)) ** cd)
    weight = (pool.score - pool.score.min().clamp(max=0)) * density(confidence, 16 - b, b)
    places = weighted(pool.ids.numpy(), weight.numpy().astype(np.float64), pool.seeds.number("rule"), k)
    return Picks(places, pool.score[places])


def density(x: torch.Tensor, a: float, b: float) -> torch.Tensor:
    """The Beta density up to a factor, 1 at its highest: float64 [n] in [0, 1] -> [n].

    Args:
        a, b: its two shapes; b may be 0, as a limit.
    """
    x = x.clamp(EDGE, 1 - EDGE)
    log = (a - 1) * x.log() + (b - 1) * (-x).log1p()
    return (log - log.max()).exp()
