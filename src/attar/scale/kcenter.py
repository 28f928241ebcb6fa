"""k-center greedy in rounds. Gustavo Malkomes, Matt Kusner, Wenlin Chen, Kilian Weinberger and Benjamin Moseley, Fast
distributed k-center clustering with outliers on massive data, NeurIPS 2015; the greedy choice is that of Teofilo Gonzalez,
Clustering to minimize the maximum intercluster distance, Theoretical Computer Science 1985.

Divide the rows by chance into parts that fit into memory; pick greedily in each; pick greedily among all that were picked.

    round 1:  P_m = greedy(part m, min(k, |part m|)) for every m;    round 2:  greedy(union of P_m, k)
    greedy:   next = argmax over i of min over picked j of || x_i - x_j ||

Picks of round 1 that are too many for one union are united in groups of parts, and the picks of the groups again, until one is
left: a third round at 1,000 rows out of 17 million of width 64, and no fourth one below some billions. Of k + 1 rows that are
further than 2 r from each other two would be in one ball of radius r, so a round leaves every row within twice the best radius of
a pick: the radius of R rounds is at most 2 R times the best there is, against 2 for one machine that holds everything. A part is
decided by the hash of the id, so that the picks do not depend on how the rows are cut into shards. One part is the exact greedy
choice.

Cost: O(N k D) in round 1, and O(m k^2 D) in the next for m parts, over all workers but the last union, for k up to some ten
thousand. ``share`` < 1 takes fewer from each part, and gives up the bound. Distances are sums of squared differences,
so the twin of a picked row is at exactly 0; they are taken of those rows alone that, by a matrix product and its largest
rounding error, a new pick may be nearest to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from attar import chance
from attar.errors import UsageError
from attar.scale import rules, scatter
from attar.scale.parts import SHARED
from attar.scale.scatter import CHUNK, chunk_rows
from attar.scale.stage import Stage
from attar.scale.work import Job, Work

TILE = 2**18
"""Numbers whose differences are taken at once: 1 MB, which stays in the cache."""
UNION = 2**24
"""Numbers of the picks that are united at once (two parts always are): 64 MB, of which a worker takes four times as much."""


@dataclass(frozen=True, kw_only=True)
class KCenter:
    """Farthest first, in rounds. ``score`` is the distance of a pick from the nearest earlier one, ``rank`` its place.

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
        """A part four times over, and the largest union of picks four times."""
        each = [picks_of(job, k), *(k for _ in rounds(job, k))]
        most = max(e * -(-before // after) for e, (before, after) in zip(each, pairwise(rounds(job, k))))
        return 4 * 4 * CHUNK + 8.0 * job.width + most * (16.0 * job.width + 32)

    def caller_bytes(self, job: Job, classes: int) -> float:
        """Nothing: all rounds are the workers'."""
        return 0.0

    def choose(self, stage: Stage, sizes: list[int], k: list[int]) -> rules.Arrays:
        """All rounds."""
        job = stage.work.job
        first, *others = rounds(job, sum(k))
        stage.share("scatter", {}, {"parts": first})
        stage.map("scatter", stage.pieces, "parts")
        stage.share("part", {"k": np.array(k)}, {"parts": first})
        stage.map("part", first, "round 1")
        for number, units in enumerate(others, 2):
            stage.map(step_of(number), units, f"round {number}")
        ids, gain, rank = picked(stage.work)
        return {"ids": ids, "gain": gain, "rank": rank}

    @staticmethod
    def score(work: Work, unit: int) -> np.ndarray:
        """The gain of the picks among the rows of a piece, NaN for all others: float32 [rows]."""
        ids, gain, _ = picked(work)
        mine = work.ids(unit)
        place = np.searchsorted(ids, mine).clip(max=len(ids) - 1)
        return np.where(ids[place] == mine, gain[place], np.nan).astype(np.float32)


def picked(work: Work) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the last round chose: ids, rising, with their gains and ranks [k] each."""
    found = work.parts.read(step_of(len(rounds(work.job, wanted(work)))), 0, "id", "gain")
    order = np.argsort(found["id"])
    return found["id"][order], found["gain"][order], order


def wanted(work: Work) -> int:
    """Picks k."""
    return int(work.parts.one("part", SHARED, "k").sum())


def parts_of(job: Job) -> int:
    """Parts, of about as many rows as a chunk has."""
    return -(-job.rows // chunk_rows(job.width))


def picks_of(job: Job, k: int) -> int:
    """Picks of a part in round 1, about, where it is not all there is."""
    return min(at_most(job, k), -(-job.rows // parts_of(job)))


def at_most(job: Job, k: int) -> int:
    """Picks of a part in round 1 that has enough rows."""
    return k if parts_of(job) == 1 else max(1, math.ceil(k * job.settings["share"]))


def rounds(job: Job, k: int) -> list[int]:
    """Parts of round 1, unions of round 2, and so on to the only one of the last: two numbers at least."""
    found, each = [parts_of(job)], picks_of(job, k)
    while len(found) < 2 or found[-1] > 1:
        found.append(-(-found[-1] // max(2, UNION // (each * job.width))))
        each = k
    return found


def step_of(number: int) -> str:
    """The name of a round after the first."""
    return f"union.{number:02d}"


def divided(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A piece, sorted by the part of each row."""
    parts = parts_of(work.job)
    part = (chance.keys(work.ids(unit), work.seed("part")) % np.uint64(parts)).astype(np.int64)

    def belongs(x: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = slice(start, start + len(x))
        return part[rows], np.zeros(len(x), np.float32), x

    return scatter.scatter(work, step, unit, parts, belongs)


def inside(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Round 1 of a part: its picks, and the sum and the number of its rows, from whose mean unions start."""
    rows = scatter.gathered(work, "scatter", unit, unit + 1)
    total, count = rows.x.sum(0, dtype=np.float64), np.array([len(rows.x)])
    if not len(rows.x):
        return {"x": rows.x, "id": rows.id, "sum": total, "rows": count}, {}
    most = min(len(rows.x), at_most(work.job, wanted(work)))
    picks, _ = farthest_first(rows.x, most, nearest(rows.x, total / len(rows.x)))
    return {"x": rows.x[picks], "id": rows.id[picks], "sum": total, "rows": count}, {}


def together(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A later round of a union: its picks, and what they stand for."""
    k, number = wanted(work), int(step.partition(".")[2])
    before, after = rounds(work.job, k)[number - 2 : number]
    name = "part" if number == 2 else step_of(number - 1)
    united = range(unit * before // after, (unit + 1) * before // after)
    found = [work.parts.read(name, p, "id", "x", "sum", "rows") for p in united]
    ids, x = (np.concatenate([f[name] for f in found]) for name in ("id", "x"))
    total, count = (np.sum([f[name] for f in found], axis=0) for name in ("sum", "rows"))
    found.clear()
    order = np.argsort(ids)
    ids, x = ids[order], x[order]
    if after == 1 and len(x) < k:
        share = work.job.settings["share"]
        raise UsageError(f"share={share} leaves {len(x)} picks of round 1 for the {k} that are wanted; raise it")
    if not len(x):
        return {"x": x, "id": ids, "gain": np.zeros(0, np.float32), "sum": total, "rows": count}, {}
    picks, gain = farthest_first(x, min(len(x), k), nearest(x, total / count))
    return {"x": x[picks], "id": ids[picks], "gain": gain, "sum": total, "rows": count}, {}


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
