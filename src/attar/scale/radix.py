"""The k smallest keys of each group in several passes over keys that are nowhere in memory together.

A pass counts one digit of the keys that begin like the threshold so far; the digit in which the count reaches k is the next
of the threshold. Exact, with G * 2^bits counts in memory. After Knuth, The Art of Computer Programming 3, section 5.2.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

COUNTS = 2**22
"""Most counts in memory: 32 MB."""

Stream = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
"""One pass: pairs of keys uint64 [n] and groups int64 [n]; rows of group -1 take no part."""


@dataclass(frozen=True, eq=False)
class Threshold:
    """Of each group: take all keys below ``key`` and ``rest`` of those that equal it; ``taken`` is false where none is.

    Args:
        key: uint64 [G]. rest: int64 [G], at least 1 where something is taken. taken: bool [G].
    """

    key: np.ndarray
    rest: np.ndarray
    taken: np.ndarray


def smallest(stream: Stream, k: np.ndarray, *, counts: int = COUNTS) -> Threshold:
    """The threshold below which each group has its k smallest keys.

    Args:
        stream: gives the same pairs on every call.
        k: int64 [G], none larger than its group.
        counts: most counts in memory.

    Raises:
        ValueError: a group has fewer keys than are asked for.
    """
    bits = next(b for b in (16, 8, 4, 2, 1) if b == 1 or len(k) << b <= counts)
    prefix, left = np.zeros(len(k), np.uint64), k.astype(np.int64).copy()
    taken = left > 0
    if not taken.any():
        return Threshold(prefix, left, taken)
    for shift in range(64 - bits, -1, -bits):
        count = np.zeros((len(k), 1 << bits), np.int64)  # [G, digits]
        for key, group in stream():
            mine = np.flatnonzero(group >= 0)
            mine = mine[taken[group[mine]]]
            g = group[mine]
            if shift + bits < 64:
                alike = key[mine] >> np.uint64(shift + bits) == prefix[g]
                mine, g = mine[alike], g[alike]
            digit = (key[mine] >> np.uint64(shift)).astype(np.int64) & ((1 << bits) - 1)
            np.add.at(count.reshape(-1), (g << bits) + digit, 1)
        upto = count.cumsum(1)  # [G, digits]
        if (upto[taken, -1] < left[taken]).any():
            raise ValueError("a group has fewer keys than are asked for")
        place = (upto < left[:, None]).sum(1).clip(max=(1 << bits) - 1)  # [G]
        before = np.where(place > 0, upto[np.arange(len(k)), place - 1], 0)
        left = np.where(taken, left - before, 0)
        prefix = (prefix << np.uint64(bits)) | place.astype(np.uint64)
    return Threshold(prefix, left, taken)


def rising(score: np.ndarray) -> np.ndarray:
    """Keys in the order of the scores: float64 [n], finite -> uint64 [n]."""
    bits = (score.astype(np.float64) + 0.0).view(np.uint64)  # + 0.0: there is one zero
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


def falling(score: np.ndarray) -> np.ndarray:
    """Keys in the reverse order of the scores."""
    return ~rising(score)
