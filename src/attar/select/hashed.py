"""Chance by hash: which of some examples, decided for each by its id and a seed alone.

Neither the other examples nor their order matter, and the choice of k contains that of every smaller k. The hash is that of
Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014: one to one on 64 bits, so no two ids tie.
"""

from __future__ import annotations

import numpy as np
import torch

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keys(ids: np.ndarray, seed: int) -> np.ndarray:
    """The key of each id: int64 [n] -> uint64 [n], one to one.

    Args:
        ids: any integers.
        seed: below 2^64.

    Example:
        >>> keys(np.array([0, 1]), seed=0)[0] == 0xE220A8397B1DCDAF  # the first number of splitmix64 from 0
        True
    """
    z = np.uint64(seed) + (ids.astype(np.uint64) + np.uint64(1)) * GOLDEN  # wraps at 2^64, as meant
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


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
