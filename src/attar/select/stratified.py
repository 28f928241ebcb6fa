"""Stratified random sampling. Jerzy Neyman, On the two different aspects of the representative method, Journal of the Royal
Statistical Society 1934.

Random examples of every stratum, as many as the stratum is large: the small set has the proportions of the large one, of its
classes or of any column of the data. Chance decides inside a stratum by a hash of seed and id, as in the method random.

    k_h = k n_h / n by largest remainder, so that  sum_h k_h = k  and  |k_h - k n_h / n| < 1

Differs from common code, which rounds the number of each stratum by itself, so that the total is not what was asked for, and
draws by position, so that the choice changes with the order of the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from attar.budget import Budget, largest_remainder
from attar.errors import UsageError, nearest
from attar.method import Cost, Method, Resources, Rows, State
from attar.real.realset import RealSet
from attar.seeds import Seeds
from attar.select.hashed import keys
from attar.select.pick import Picks, pick


@dataclass(frozen=True, kw_only=True)
class Stratified(Method):
    """Uniform without replacement inside each class, or each value of a column, in proportion.

    Cost: one pass over N ids and a column; about 40 bytes an example.

    Example:
        >>> attar.select("photos.parquet", method="stratified", rows=500, by="camera")
    """

    balanced: bool = False
    "Same number of every class, and strata inside each class; else strata of the whole set."
    by: str = "label"
    "Column whose values are the strata; what has no value is a stratum too."

    paper: ClassVar[str] = "Neyman, On the two different aspects of the representative method, JRSS 1934"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kind: ClassVar[str] = "select"

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        """Picks."""
        stratum, seed = strata(real, self.by), seeds.number("random")

        def rule(rows: torch.Tensor, k: int, group: int) -> Picks:
            return Picks(proportional(stratum[rows], keys(real.ids[rows].numpy(), seed), k), torch.zeros(k))

        return pick(real, budget, rule, balanced=self.balanced)

    def finish(self, state: State, res: Resources) -> Rows:
        """The picks; chance has no gains to report."""
        return Rows(picked=state["picked"], weight=state["weight"])

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        """A few integer operations and words an example."""
        return Cost(flops_per_step=16.0 * len(real), memory=40.0 * len(real))


def strata(real: RealSet, by: str) -> torch.Tensor:
    """The stratum of every example: int64 [N], numbered by their values so that the order of the set does not matter.

    Raises:
        UsageError: no such column, or one whose values cannot be compared.
    """
    known = real.table.column_names
    if by not in known:
        raise UsageError(
            f"{real.name} has no column '{by}'; {nearest(by, known) if known else 'it has none but images'}"
        )
    try:
        column = real.table[by].combine_chunks()
        if isinstance(column, pa.DictionaryArray):  # a category, as pandas writes it
            column = column.dictionary_decode()
        codes = column.dictionary_encode(null_encoding="encode")
        order = pc.call_function("rank", [codes.dictionary], pc.RankOptions("ascending")).to_numpy()  # [H], nulls last
    except (pa.ArrowException, NotImplementedError) as e:
        raise UsageError(
            f"the column '{by}' is {real.table[by].type}, whose values make no strata; choose another"
        ) from e
    return torch.from_numpy(order.astype("int64")[codes.indices.to_numpy(zero_copy_only=False)])


def proportional(stratum: torch.Tensor, key: np.ndarray, k: int) -> torch.Tensor:
    """The smallest keys of every stratum, as many as its share; picks alternate so that a prefix is nearly in proportion.

    Args:
        stratum: int64 [n], >= 0.
        key: uint64 [n], unique.
        k: 1 to n.

    Returns:
        places int64 [k].
    """
    of = stratum.numpy()
    sizes = np.bincount(of)  # [H]
    shares = np.asarray(largest_remainder(k, sizes.tolist(), sizes.tolist()))
    order = np.lexsort((key, of))
    of = of[order]
    rank = np.arange(len(of)) - (sizes.cumsum() - sizes)[of]  # 0, 1, 2 ... inside each stratum
    taken = rank < shares[of]
    turn = np.lexsort((of[taken], (rank[taken] + 0.5) / sizes[of[taken]]))
    return torch.from_numpy(order[taken][turn])
