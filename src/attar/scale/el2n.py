"""EL2N at scale. Mansheej Paul, Surya Ganguli and Gintare Karolina Dziugaite, Deep learning on a data diet: Finding
important examples early in training, NeurIPS 2021, arXiv 2107.07075.

The score of a row is the length of the error of a classifier early in training, averaged over its epochs: high = hard.

    s_i = mean over epochs e of || softmax(W_e z_i) - y_i ||,   z_i = [(x_i - mean) / std, 1]

The classifier is a linear head on the features. An epoch is one pass and one step of all rows together, which bounds the
curvature of the loss by that of its features (Dankmar Böhning, Multinomial logistic regression algorithm, Annals of the
Institute of Statistical Mathematics 1992), with the momentum of Yurii Nesterov (1983):

    W_e+1 = V_e - 2 (Z^T Z / n + r I)^-1 Z^T (softmax(Z V_e) - Y) / n,   V_e = W_e + (t_e - 1) / t_e+1 (W_e - W_e-1)

so there is no learning rate to find, the loss falls however shards are sorted by class, and nothing is random.

Cost: ``epochs`` + 2 passes, O(N D K) each. Sums are taken in float64 by blocks, blocks and pieces in their order: the result is
the same bits for any number of workers on one kind of processor.

Differs from the official code, which trains a deep network on images several times: here the features are given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from attar.errors import DataError, UsageError
from attar.scale import census, rules
from attar.scale.blocks import BLOCK
from attar.scale.parts import SHARED
from attar.scale.stage import Stage
from attar.scale.work import Job, Work

CACHED = 1 << 18
"""Numbers of a table: 1 MB."""


@dataclass(frozen=True, kw_only=True)
class EL2N:
    """The error of a linear head, averaged over its epochs; the paper of CCS pairs it with the rule ccs.

    Example:
        >>> attar.select("shards/", method="el2n", keep=0.1, memory="2GB", on="local", out="kept")
    """

    epochs: int = 10
    "Epochs over which the error is averaged; the paper takes the first 10 to 20."
    ridge: float = 1e-3
    "Added to the variance of every feature, which is 1 (0 of a constant one)."
    rule: str = "ccs"
    "How a score becomes a choice: top, top:skip=0.05, ccs, ccs:strata=50:cutoff=0.1."

    features: ClassVar[bool] = True
    labels: ClassVar[bool] = True
    moments: ClassVar[bool] = True
    balances: ClassVar[bool] = True
    paper: ClassVar[str] = "Paul et al., Deep learning on a data diet, NeurIPS 2021"
    tasks: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"epochs={self.epochs} must be at least 1")
        if not 0 < self.ridge < float("inf"):
            raise UsageError(f"ridge={self.ridge} must be a positive number; try 0.001")
        rules.read(self.rule)

    def worker_bytes(self, job: Job, classes: int, k: int) -> float:
        """Head and gradient in float64 and float32, features and errors of a tile, sums of products."""
        return 40.0 * (job.width + 1) * classes + 6 * 4 * BLOCK + 24.0 * (job.width + 1) ** 2

    def caller_bytes(self, job: Job, classes: int) -> float:
        """Heads, a gradient and its sum; sums of products and their inverse, all in float64."""
        return 48.0 * (job.width + 1) * classes + 48.0 * (job.width + 1) ** 2

    def choose(self, stage: Stage, sizes: list[int], k: list[int]) -> rules.Arrays:
        """Trains the head, then applies the rule."""
        work = stage.work
        if len(work.classes) < 2:
            raise DataError(f"el2n needs at least two classes, but all labels are '{work.classes[0]}'")
        scale = standard(work)
        with threadpool_limits(1):  # as workers: the same bits whatever the cores
            inverse = np.linalg.inv(curvature(work, scale) + self.ridge * np.eye(work.job.width + 1))  # [D + 1, D + 1]
        began, head, ahead, t = self._begun(work)
        for epoch in range(began, self.epochs + 1):
            stage.share(step(epoch), {"head": head, "ahead": ahead, "t": np.array([t]), **scale})
            stage.map(step(epoch), stage.pieces, f"epoch {epoch} of {self.epochs}")
            if epoch:
                work.parts.drop(step(epoch - 1))  # its errors are in those of this epoch
            if epoch < self.epochs:
                found = sum(work.parts.one(step(epoch), u, "gradient") for u in range(stage.pieces))
                with threadpool_limits(1):
                    after = ahead - 2 * inverse @ found / work.job.rows
                faster = (1 + (1 + 4 * t * t) ** 0.5) / 2
                ahead = after + (t - 1) / faster * (after - head)
                head, t = after, faster
        return rules.plan(work, self.rule, self.score, sizes, k)

    def _begun(self, work: Work) -> tuple[int, np.ndarray, np.ndarray, float]:
        """The epoch to go on with, its heads [D + 1, K] and t: those of the latest that was begun, as those before are gone."""
        there = [e for e in range(self.epochs + 1) if work.parts.has(step(e), SHARED)]
        if not there:
            zero = np.zeros((work.job.width + 1, len(work.classes)))
            return 0, zero, zero, 1.0
        found = work.parts.read(step(there[-1]), SHARED, "head", "ahead", "t")
        return there[-1], found["head"], found["ahead"], float(found["t"][0])

    @staticmethod
    def score(work: Work, unit: int) -> np.ndarray:
        """The mean error of the rows of a piece: float32 [rows]."""
        epochs = int(work.job.settings["epochs"])
        return (work.parts.one(step(epochs), unit, "errors") / epochs).astype(np.float32)


def step(epoch: int) -> str:
    """The name of the pass of an epoch."""
    return f"el2n.{epoch:04d}"


def standard(work: Work) -> dict[str, np.ndarray]:
    """Mean and spread of every feature, float64 [D]; the spread of a constant one is 1."""
    total, products = census.sums(work)
    mean = total / work.job.rows
    variance = np.diag(products) / work.job.rows - mean**2
    noise = 1e-12 * np.diag(products) / work.job.rows  # what rounding leaves of a constant
    return {"mean": mean, "spread": np.sqrt(np.where(variance > noise, variance, 1.0))}


def curvature(work: Work, scale: dict[str, np.ndarray]) -> np.ndarray:
    """Z^T Z / n of standardised features and the constant: float64 [D + 1, D + 1]."""
    _, products = census.sums(work)
    z = np.eye(work.job.width + 1)
    z[:-1, :-1] = products / work.job.rows - np.outer(scale["mean"], scale["mean"])
    z[:-1, :-1] /= np.outer(scale["spread"], scale["spread"])
    return z


def epoch(work: Work, name: str, unit: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """One piece in one epoch: the gradient at ``ahead``, and the sum of the errors at ``head`` over the epochs so far.

    At epoch 0 the head is zero and every row has the same error, which does not count; after the last one nothing moves, so
    it has no gradient.
    """
    number = int(name.rpartition(".")[2])
    last = number == int(work.job.settings["epochs"])
    shared = work.parts.read(name, SHARED, "head", "ahead", "mean", "spread")
    head, ahead = shared["head"].astype(np.float32), shared["ahead"].astype(np.float32)
    labels = work.labels(unit)
    gradient = np.zeros_like(shared["head"])
    errors = np.zeros(len(labels), np.float32)
    height = tile(*head.shape)
    for block in work.blocks(unit):
        assert block.x is not None
        for a in range(0, len(block.x), height):
            x = block.x[a : a + height]
            z = np.ones((len(x), len(head)), np.float32)  # [B, D + 1]
            z[:, :-1] = (x - shared["mean"]) / shared["spread"]
            rows = slice(block.start + a, block.start + a + len(x))
            if number:
                errors[rows] = np.linalg.norm(error(z, head, labels[rows]), axis=0)
            if not last:
                gradient += (error(z, ahead, labels[rows]) @ z).T
    if number > 1:
        errors += work.parts.one(step(number - 1), unit, "errors")
    return {"errors": errors} if last else {"gradient": gradient, "errors": errors}, {}


EL2N.tasks["el2n"] = epoch


def error(z: np.ndarray, head: np.ndarray, label: np.ndarray) -> np.ndarray:
    """softmax(Z W) - Y: [B, D + 1], [D + 1, K], int64 [B] -> float32 [K, B], as numpy reduces a first axis much faster."""
    p = head.T @ z.T
    p -= p.max(0)
    np.exp(p, out=p)
    p /= p.sum(0)
    p[label, np.arange(len(z))] -= 1
    return p


def tile(*widths: int) -> int:
    """Rows of which a table of the widest of ``widths`` stays in a core's cache."""
    return max(64, CACHED // max(widths))
