"""Numbers by hash: what is random about a row is decided by its id and a seed alone. No generator, and no torch.

The hash of ids is that of Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014: one to one on
64 bits, so no two ids tie.
"""

from __future__ import annotations

import hashlib

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def number(*key: str | int) -> int:
    """A number in [0, 2^63) that depends on the whole key alone; the first part is the run's seed."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


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
