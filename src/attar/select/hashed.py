"""Chance by hash: which of some examples, decided for each by its id and a seed alone.

Neither the other examples nor their order matter, and the choice of k contains that of every smaller k.
"""

from __future__ import annotations

import numpy as np
import torch

from attar.chance import keys

__all__ = ["keys", "smallest", "weighted"]


def smallest(key: np.ndarray, k: int) -> torch.Tensor:
    """Places of the k smallest keys, smallest first: uint64 [n] -> int64 [k]; O(n + k log k)."""
    some = np.argpartition(key, k - 1)[:k]
    return torch.from_numpy(some[key[some].argsort()])


def weighted(ids: np.ndarray, weight: np.ndarray, seed: int, k: int) -> torch.Tensor:
    """A draw of k without replacement, each next one with a chance in proportion to its weight.

    keep the k smallest of -log(u_i) / w_i,  u_i uniform in (0, 1) by hash

    Args:
        ids: int64 [n].
        weight: float64 [n], finite, >= 0; those of weight 0 come last, in the order of their keys.
        seed: below 2^64.
        k: 1 to n.

    Returns:
        places int64 [k] in the order of the draw.

    Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir, Information Processing Letters 2006.
    """
    key = keys(ids, seed)
    uniform = (key.astype(np.float64) + 0.5) / 2.0**64
    with np.errstate(divide="ignore"):
        wait = -np.log(uniform.clip(max=1 - 2.0**-53)) / weight  # [n], infinite at weight 0
    order = np.lexsort((key, wait))  # ties of the infinite by their keys
    return torch.from_numpy(order[:k].copy())
