"""k-center greedy in two rounds. Gustavo Malkomes, Matt Kusner, Wenlin Chen, Kilian Weinberger and Benjamin Moseley, Fast
distributed k-center clustering with outliers on massive data, NeurIPS 2015; the greedy choice is that of Teofilo Gonzalez,
Clustering to minimize the maximum intercluster distance, Theoretical Computer Science 1985.

Divide the rows by chance into parts that fit into memory; pick greedily in each; pick greedily among all that were picked.

    round 1:  P_m = greedy(part m, min(k, |part m|)) for every m;    round 2:  greedy(union of P_m, k)
    greedy:   next = argmax over i of min over picked j of || x_i - x_j ||

The radius is at most 4 times the best there is, against 2 for one machine that holds everything. A part is decided by the hash
of the id, so that the picks do not depend on how the rows are cut into shards. One part is the exact greedy choice.

Cost: O(N k D) in round 1, over all workers; O(m k^2 D) in round 2, on one, which holds the m k picks of m parts: for k up to
some ten thousand. ``share`` < 1 takes fewer from each part, and gives up the bound. Distances are sums of squared differences,
so the twin of a picked row is at exactly 0; they are taken of those rows alone that, by a matrix product and its largest
rounding error, a new pick may be nearest to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from attar import chance
from attar.errors import UsageError
from attar.scale import rules, scatter
from attar.scale.scatter import CHUNK, chunk_rows
from attar.scale.stage import Stage
from attar.scale.work import Job, Work

TILE = 2**18
"""Numbers whose differences are taken at once: 1 MB, which stays in the cache."""


@dataclass(frozen=True, kw_only=True)
class KCenter:
    """Farthest first, in two rounds. ``score`` is the distance of a pick from the nearest earlier one, ``rank`` its place.

    Example:
        >>> attar.select("shards/", method="kcenter", rows=1000, memory="2GB", on="local", out="kept")
    """

    share: float = 1.0
    "Picks of each part in round 1, as a share of k; 1 keeps the bound."

    features: ClassVar[bool] = True
    labels: ClassVar[bool] = False
    moments: ClassVar[bool] = False
    balances: ClassVar[bool] = False
    paper: ClassVar[str] = "Malkomes et al., Fast distributed k-center clustering, NeurIPS 2015"
    tasks: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share={self.share} is not in (0, 1]; try 1")

    def worker_bytes(self, job: Job, classes: int, k: int) -> float:
        """A part four times over, and all picks of round 1 four times."""
        parts = parts_of(job)
        union = parts * min(quota(k, self.share), -(-job.rows // parts))
        return 4 * 4 * CHUNK + 8.0 * job.width + union * (16.0 * job.width + 32)

    def caller_bytes(self, job: Job, classes: int) -> float:
        """Nothing: both rounds are the workers'."""
        return 0.0

    def choose(self, stage: Stage, sizes: list[int], k: list[int]) -> rules.Arrays:
        """Both rounds."""
        parts = parts_of(stage.work.job)
        stage.share("scatter", {}, {"parts": parts})
        stage.map("scatter", stage.pieces, "parts")
        stage.share("part", {"k": np.array(k)}, {"parts": parts})
        stage.map("part", parts, "round 1")
        stage.map("union", 1, "round 2")
        found = stage.work.parts.read("union", 0, "id", "gain")
        order = np.argsort(found["id"])
        return {"ids": found["id"][order], "gain": found["gain"][order], "rank": order}

    @staticmethod
    def score(work: Work, unit: int) -> np.ndarray:
        """The gain of the picks among the rows of a piece, NaN for all others: float32 [rows]."""
        found = work.parts.read("union", 0, "id", "gain")
        order = np.argsort(found["id"])
        ids, gain = found["id"][order], found["gain"][order]
        mine = work.ids(unit)
        place = np.searchsorted(ids, mine).clip(max=len(ids) - 1)
        return np.where(ids[place] == mine, gain[place], np.nan).astype(np.float32)


def parts_of(job: Job) -> int:
    """Parts, of about as many rows as a chunk has."""
    return -(-job.rows // chunk_rows(job.width))


def quota(k: int, share: float) -> int:
    """Picks of a part in round 1."""
    return max(1, math.ceil(k * share))


def divided(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A piece, sorted by the part of each row."""
    parts = parts_of(work.job)
    part = (chance.keys(work.ids(unit), work.seed("part")) % np.uint64(parts)).astype(np.int64)

    def belongs(x: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = slice(start, start + len(x))
        return part[rows], np.zeros(len(x), np.float32), x

    return scatter.scatter(work, step, unit, parts, belongs)


def inside(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Round 1 of a part: its picks, and the sum of its rows, which the second round starts from."""
    k, parts = int(work.parts.one("part", -1, "k")[0]), parts_of(work.job)
    rows = scatter.gathered(work, "scatter", unit, unit + 1)
    total = rows.x.sum(0, dtype=np.float64)
    if not len(rows.x):
        return {"x": rows.x, "id": rows.id, "sum": total}, {}
    many = min(len(rows.x), k if parts == 1 else quota(k, work.job.settings["share"]))
    picks, _ = farthest_first(rows.x, many, nearest(rows.x, total / len(rows.x)))
    return {"x": rows.x[picks], "id": rows.id[picks], "sum": total}, {}


def together(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Round 2."""
    k, parts = int(work.parts.one("part", -1, "k")[0]), range(parts_of(work.job))
    ids = np.concatenate([work.parts.one("part", p, "id") for p in parts])
    x = np.concatenate([work.parts.one("part", p, "x") for p in parts])
    mean = np.sum([work.parts.one("part", p, "sum") for p in parts], axis=0) / work.job.rows
    order = np.argsort(ids)
    ids, x = ids[order], x[order]
    if len(x) < k:
        share = work.job.settings["share"]
        raise UsageError(f"share={share} leaves {len(x)} picks of round 1 for the {k} that are wanted; raise it")
    picks, gain = farthest_first(x, k, nearest(x, mean))
    return {"id": ids[picks], "gain": gain}, {}


KCenter.tasks.update({"scatter": divided, "part": inside, "union": together})


def nearest(x: np.ndarray, point: np.ndarray) -> int:
    """The row nearest to a point, ties to the first: float32 [n, D], float64 [D] -> int."""
    return int(squares(x, point.astype(np.float32)).argmin())


def farthest_first(x: np.ndarray, k: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Greedy picks, each as far as possible from those before it, ties to the first row.

    Args:
        x: float32 [n, D]. k: 1 to n. first: the first pick.

    Returns:
        picks int64 [k] and the distance of each to the nearest earlier one float32 [k]; the first takes the second's, or the
        radius where it is alone.
    """
    near = squares(x, x[first])  # [n]
    y = x - x.mean(0)  # [n, D]: the same distances, shorter products
    length = np.einsum("ij,ij->i", y, y)  # [n]
    doubt = 4 * x.shape[1] * float(np.finfo(np.float32).eps)  # of a product, relative to the lengths
    picks, gain = np.empty(k, np.int64), np.empty(k, np.float32)
    picks[0], gain[0] = first, near.max()
    near[first] = -1  # below every distance: what is picked is not picked again
    for t in range(1, k):
        picks[t] = j = int(near.argmax())
        gain[t] = near[j]
        lengths = length + length[j]
        close = np.flatnonzero(lengths * (1 - doubt) - 2 * (y @ y[j]) < near)  # the others cannot come nearer
        near[close] = np.minimum(near[close], squares(x[close], x[j]))
        near[j] = -1
    return picks, np.sqrt(gain)


def squares(x: np.ndarray, point: np.ndarray) -> np.ndarray:
    """|| x_i - point ||^2 of every row: float32 [n, D], [D] -> [n]; in tiles that stay in the cache."""
    tile = max(1, TILE // x.shape[1])
    found = np.empty(len(x), np.float32)
    for a in range(0, len(x), tile):
        difference = x[a : a + tile] - point
        np.einsum("ij,ij->i", difference, difference, out=found[a : a + tile])
    return found
