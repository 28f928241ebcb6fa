"""stratified: the same share of every part of the ranking."""

from __future__ import annotations

from attar.budget import largest_remainder
from attar.errors import UsageError
from attar.select.pick import Picks
from attar.select.rules.pool import Pool


def stratified(pool: Pool, k: int, *, strata: int = 10) -> Picks:
    """Random examples of every stratum of the ranking, as many as the stratum is large.

    The ranking is cut into strata of equal numbers (they differ by one at most); k is divided over them by largest
    remainder, so that the total is exact; inside a stratum chance decides, by hash. Picks alternate between the strata.

    Args:
        pool: n examples.
        k: 1 to n.
        strata: how many.

    Raises:
        UsageError: no stratum.
    """
    if strata < 1:
        raise UsageError(f"stratified:strata={strata} must be at least 1; try strata=10")
    parts = pool.ranking().tensor_split(min(strata, len(pool)))
    shares = largest_remainder(k, [len(p) for p in parts], [len(p) for p in parts])
    return pool.alternating([pool.some(part, share) for part, share in zip(parts, shares)])
