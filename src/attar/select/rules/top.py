"""top: the highest scores."""

from __future__ import annotations

from fractions import Fraction

from attar.errors import UsageError
from attar.select.pick import Picks
from attar.select.rules.pool import Pool


def top(pool: Pool, k: int, *, skip: float = 0.0) -> Picks:
    """The k highest scores, highest first, ties to the lower id. Nested as long as the skip leaves enough; nothing random.

    Args:
        pool: n examples.
        k: 1 to n.
        skip: share of the n that is left out first, the hardest (wrong labels are among these); less of it where too few
            would be left. The "offset" of Paul, Ganguli and Dziugaite, Deep learning on a data diet, NeurIPS 2021.

    Raises:
        UsageError: ``skip`` outside [0, 1), or above 0 where it is not known what is hard.
    """
    if not 0 <= skip < 1:
        raise UsageError(f"top:skip={skip} is not a share in [0, 1); try skip=0.05")
    first = min(int(Fraction(str(skip)) * len(pool)), len(pool) - k)
    places = pool.without_hardest(first, "top", "skip")[:k]
    return Picks(places, pool.score[places])
