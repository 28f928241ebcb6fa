"""SemDeDup. Amro Abbas, Kushal Tirumala, Dániel Simig, Surya Ganguli and Ari Morcos, SemDeDup: Data-efficient learning at
web-scale through semantic deduplication, 2023, arXiv 2303.09540.

Rows that mean the same are in the same cluster: cut the rows into clusters, and compare only inside of them, but all pairs.
Walk through a cluster from one end of the ranking by distance to its centre; a row that is too like one before it goes.

    m_j = max over i before j of <x_i, x_j>  (unit vectors);    score_j = 1 - m_j;    keep j where m_j <= threshold

With a budget in place of a threshold the k highest scores are kept: the threshold that leaves k.

Clusters are those of spherical k-means on a sample drawn by hash; Lloyd's rounds over the sample, and the assignment of all
rows, are passes over pieces whose sums are taken in their order. A cluster that is too large to compare at once is cut into
slices of neighbours in the ranking by distance, and the manifest's scores of such slices see the own slice alone.

Cost: O(N C D) to assign and O(N^2 D / C) to compare, so C = sqrt(N) clusters: O(N^1.5 D).

Differs from the official code, from which nothing is taken: a tie in the ranking is broken by the hash of the ids; a zero
vector is like nothing; a row goes because of any earlier one, kept or not, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from attar import chance
from attar.errors import DataError, UsageError, nearest
from attar.scale import rules, scatter
from attar.scale.blocks import BLOCK
from attar.scale.parts import SHARED
from attar.scale.radix import smallest
from attar.scale.scatter import CHUNK, chunk_rows
from attar.scale.stage import Stage
from attar.scale.work import Job, Work

TILE = 1024
"""Rows that are compared with as many others at once."""
ORDERED = 80.0
"""Bytes for each row of a cluster while it is ordered: ids, places, cosines, hashes, each before and after."""
STAYS = ("hard", "easy", "random")


@dataclass(frozen=True, kw_only=True)
class SemDeDup:
    """Drops rows whose features are nearly those of another row. ``score`` is 1 - the largest cosine to an earlier row.

    Example:
        >>> attar.select("shards/", method="semdedup", threshold=0.95, memory="2GB", on="local", out="kept")
    """

    threshold: float | None = None
    "Cosine similarity to an earlier row of the cluster above which a row goes; left out, the budget decides."
    clusters: int = 0
    "Clusters; 0 for the square root of the number of rows."
    sample: int = 64
    "Rows per cluster that find the centres."
    rounds: int = 10
    "Rounds of k-means."
    stays: str = "hard"
    "Which of some duplicates stays: hard (far from the centre), easy (near to it) or random."

    features: ClassVar[bool] = True
    labels: ClassVar[bool] = False
    moments: ClassVar[bool] = False
    balances: ClassVar[bool] = True
    paper: ClassVar[str] = "Abbas et al., SemDeDup, 2023"
    tasks: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise UsageError(f"threshold={self.threshold} is not a cosine in [-1, 1]; try 0.95")
        if self.clusters < 0 or self.sample < 1 or self.rounds < 0:
            raise UsageError("clusters and rounds must not be negative, and sample at least 1")
        if self.stays not in STAYS:
            raise UsageError(f"stays '{self.stays}' is unknown; {nearest(self.stays, STAYS)}")

    def worker_bytes(self, job: Job, classes: int, k: int) -> float:
        """Centres and their sums, tiles of products, a chunk before and after sorting, the sample of a piece in float64 too."""
        c = self.clusters or round(job.rows**0.5)
        drawn = max((p.rows for p in job.pieces), default=0) * min(1.0, self.sample * c / max(1, job.rows))
        return 16.0 * c * job.width + 4 * 4 * BLOCK + 8 * TILE**2 + 4 * 4 * CHUNK + 24.0 * job.width * drawn

    def caller_bytes(self, job: Job, classes: int) -> float:
        """Centres before and after a round, and the sums between in float64, one of them squared."""
        return 40.0 * (self.clusters or round(job.rows**0.5)) * job.width

    def choose(self, stage: Stage, sizes: list[int], k: list[int]) -> rules.Arrays:
        """Clusters, compares, and finds the threshold where a budget is given."""
        work, job = stage.work, stage.work.job
        c = min(job.rows, self.clusters or max(1, round(job.rows**0.5)))
        sampled(stage, c, min(job.rows, self.sample * c))
        stage.share("assign", {"centres": centres(stage, self.rounds)})
        stage.map("assign", stage.pieces, "clusters")
        rows, most = scatter.sizes(stage, "assign", c), chunk_rows(job.width)
        stage.more(ORDERED * (float(rows.max(initial=0)) - most))  # every slice of a large cluster orders all of it
        found = groups(rows, most)
        stage.share("dedup", {"groups": found}, {"groups": len(found)})
        stage.map("dedup", len(found), "comparing")
        stage.map("placed", stage.pieces, "scores")
        if self.threshold is not None:
            return {"least": np.array([1 - self.threshold], np.float32)}
        return rules.plan(work, "top", self.score, sizes, k)

    @staticmethod
    def score(work: Work, unit: int) -> np.ndarray:
        """1 - the largest cosine of each row of a piece to an earlier one: float32 [rows]."""
        return work.parts.one("placed", unit, "score")


def unit_length(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; zero rows stay: float32 [n, D] -> [n, D]."""
    length = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))[:, None]
    return (x / np.where(length > 0, length, 1)).astype(np.float32)


def sampled(stage: Stage, c: int, many: int) -> None:
    """Finds the sample: the rows of the smallest hashes, of which the first ``c`` are the first centres."""
    work = stage.work
    if work.parts.has("sample", SHARED):
        return stage.map("sample", stage.pieces, "sample")

    def hashed() -> Any:
        for unit in range(stage.pieces):
            key = chance.keys(work.ids(unit), work.seed("sample"))
            yield key, np.zeros(len(key), np.int64)

    limits = [smallest(hashed, np.array([k])).key[0] for k in (many, c)]
    stage.share("sample", {"limits": np.array(limits, np.uint64)})
    stage.map("sample", stage.pieces, "sample")


def draw(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The sampled rows of a piece, of unit length, with their hashes."""
    limit = work.parts.one("sample", SHARED, "limits")[0]
    key = chance.keys(work.ids(unit), work.seed("sample"))
    found = [np.zeros((0, work.job.width), np.float32)]
    for block in work.blocks(unit):
        assert block.x is not None
        found.append(unit_length(block.x[key[block.start : block.start + len(block.x)] <= limit]))
    return {"x": np.concatenate(found), "key": key[key <= limit]}, {}


def centres(stage: Stage, rounds: int) -> np.ndarray:
    """Spherical k-means on the sample: float32 [C, D]. A cluster that is empty keeps its centre."""
    parts, units = stage.work.parts, range(stage.pieces)
    began = max((t for t in range(rounds + 1) if parts.has(step_of(t), SHARED)), default=-1)
    if began < 0:
        limit = parts.one("sample", SHARED, "limits")[1]
        found = [first_of(parts.read("sample", u, "x", "key"), limit) for u in units]
        key, x = (np.concatenate(values) for values in zip(*found))
        began = 0
        stage.share(step_of(0), {"centres": x[np.argsort(key)]})
    for t in range(began, rounds):
        now = parts.one(step_of(t), SHARED, "centres")
        stage.map(step_of(t), stage.pieces, f"round {t + 1} of {rounds}")
        total = np.zeros(now.shape)
        for u in units:
            part = parts.read(step_of(t), u, "cluster", "sum")
            total[part["cluster"]] += part["sum"]
        some = np.einsum("ij,ij->i", total, total) > 0
        stage.share(step_of(t + 1), {"centres": np.where(some[:, None], unit_length(total), now)})
        parts.drop(step_of(t))
    return parts.one(step_of(rounds), SHARED, "centres")


def first_of(part: dict[str, np.ndarray], limit: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """Keys and rows of a piece's sample whose keys are small: uint64 [n], float32 [n, D]; of their own memory."""
    mine = part["key"] <= limit
    return part["key"][mine], part["x"][mine]


def step_of(t: int) -> str:
    """The name of a round of k-means."""
    return f"kmeans.{t:04d}"


def lloyd(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The sums of the sampled rows of a piece by cluster, of those clusters that have any."""
    x, now = work.parts.one("sample", unit, "x"), work.parts.one(step, SHARED, "centres")
    cluster, _ = closest(x, now)
    order = np.argsort(cluster, kind="stable")
    own, starts = np.unique(cluster[order], return_index=True)
    rows = x[order].astype(np.float64)
    total = np.add.reduceat(rows, starts, axis=0) if len(own) else np.zeros((0, x.shape[1]))
    return {"cluster": own, "sum": total}, {}


def closest(x: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre of the largest cosine, ties to the first, and the cosine: [n, D], [C, D] -> int64 [n], float32 [n]."""
    height = max(16, BLOCK // len(now))
    place, cosine = np.empty(len(x), np.int64), np.empty(len(x), np.float32)
    for a in range(0, len(x), height):
        like = x[a : a + height] @ now.T  # [B, C]
        rows = slice(a, a + len(like))
        place[rows] = like.argmax(1)
        cosine[rows] = like[np.arange(len(like)), place[rows]]
    return place, cosine


def assign(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A piece, of unit length, sorted by cluster."""
    now = work.parts.one("assign", SHARED, "centres")

    def belongs(x: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = unit_length(x)
        return *closest(x, now), x

    return scatter.scatter(work, step, unit, len(now), belongs)


def groups(sizes: np.ndarray, most: int) -> np.ndarray:
    """What is compared at once: clusters low to high - 1, and which of how many slices of them: int64 [groups, 4]."""
    found = []
    for low, high in scatter.runs(sizes, most).tolist():
        slices = -(-int(sizes[low:high].sum()) // most)
        found += [(low, high, s, slices) for s in range(slices)]
    return np.array(found, np.int64).reshape(-1, 4)


def compare(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The scores of the rows of a group of clusters."""
    low, high, slice_, slices = work.parts.one("dedup", SHARED, "groups")[unit].tolist()
    key = work.seed("rule")
    only = None if slices == 1 else (lambda beside, ids: sliced(beside, ids, key, slice_, slices))
    rows = scatter.gathered(work, "assign", low, high, only)
    stays = work.job.settings["stays"]
    side = {"hard": rows.beside, "easy": -rows.beside, "random": np.zeros_like(rows.beside)}[stays]
    order = np.lexsort((chance.keys(rows.id, key), side, rows.part))
    edges = np.searchsorted(rows.part[order], np.arange(low, high + 1))
    most = np.empty(len(order), np.float32)
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist()):
        most[order[a:b]] = largest(rows.x[order[a:b]])
    if not np.isfinite(most).all():
        raise DataError(f"{work.folder} holds features that are not finite; remove it and select again")
    return scatter.by_position(work, 1 - most, rows.at), {}


def sliced(beside: np.ndarray, ids: np.ndarray, seed: int, slice_: int, slices: int) -> np.ndarray:
    """Which rows of a large cluster are in a slice of the ranking by cosine to the centre: bool [n]."""
    order = np.lexsort((chance.keys(ids, seed), beside))
    mask = np.zeros(len(order), bool)
    mask[np.array_split(order, slices)[slice_]] = True
    return mask


def largest(x: np.ndarray) -> np.ndarray:
    """The largest cosine of each row to an earlier one, -1 for the first: float32 [n, D], unit length -> [n]."""
    most = np.full(len(x), -1, np.float32)
    for b in range(0, len(x), TILE):
        for a in range(0, b + 1, TILE):
            like = x[a : a + TILE] @ x[b : b + TILE].T  # [rows before, rows]
            if a == b:
                like[np.tril_indices(len(like))] = -1
            np.maximum(most[b : b + TILE], like.max(0), out=most[b : b + TILE])
    return np.minimum(most, 1)


def placed(work: Work, step: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The scores of a piece, from all groups that have rows of it: once, as the rule looks at them several times."""
    return {"score": scatter.of_piece(work, "dedup", work.parts.facts("dedup", SHARED)["groups"], unit)}, {}


SemDeDup.tasks.update({"sample": draw, "kmeans": lloyd, "assign": assign, "dedup": compare, "placed": placed})
