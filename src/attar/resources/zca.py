"""The whitening of a real set as a resource: fitted on the training split alone, once, and kept in the cache.

The sums over 8-bit pixels are whole numbers, which float64 holds without rounding, so that the covariance has the same bits in
whatever order and on whatever machine it is made; its eigenvectors come from one thread (:func:`attar.real.whitening.root_of`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError, ResourceError, UsageError
from attar.execute import memory
from attar.execute.plan import Plan
from attar.execute.progress import Progress, Silent
from attar.method import Batch, Cost, Descend, Resources, State
from attar.real.realset import RealSet, Splits
from attar.real.whitening import EPSILON, MATRIX, MEAN, root_of, whitening_of
from attar.resources.build import made
from attar.resources.resource import Resource
from attar.seeds import Seeds

BLOCK = 256
"""Images of a step: 256 products of two 8-bit numbers sum up to less than 2^24, which float32 holds exactly."""

PEAK = 50
"""Bytes for each number of the matrix while it is fitted (48 measured): sums, covariance, eigenvectors, LAPACK's own room."""

LARGEST = 32_766
"""Numbers of an image up to which LAPACK can count its room, 2 D^2 + 6 D + 1, in 32 bits."""


@dataclass(frozen=True, kw_only=True)
class ZCA(Resource):
    """``zca.mean`` float32 [D] and ``zca.matrix`` float32 [D, D] of a real set.

    Cost: 2 N D^2 operations for the covariance and about 12 D^3 for its eigenvectors and the matrix; 50 D^2 bytes.
    """

    epsilon: float = EPSILON
    "Added to every eigenvalue of the covariance."

    name: ClassVar[str] = "zca"
    paper: ClassVar[str] = (
        'Bell, Sejnowski. The "Independent Components" of Natural Scenes Are Edge Filters. Vision Research 1997'
    )

    def length(self, real: RealSet) -> int:
        """Blocks of images."""
        return -(-len(real) // BLOCK)

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Sums of nothing: ``first`` [D] and ``second`` [D, D] of pixels from 0 to 255, and ``n``.

        Raises:
            DataError: fewer than two images, which have no covariance.
        """
        if len(real) < 2:
            raise DataError(f"{real.name} has {len(real)} training images; whitening needs two at least")
        d = real.example_bytes
        first, second = (torch.zeros(shape, dtype=torch.float64) for shape in ((d,), (d, d)))
        return {"first": first, "second": second, "n": torch.tensor(len(real))}

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """``pixels`` uint8 [B, C, H, W]."""
        return {"pixels": real.raw(torch.arange(step * BLOCK, min(len(real), (step + 1) * BLOCK)))}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """Adds a block."""
        x = batch["pixels"].flatten(1).float()  # [B, C, H, W] -> [B, D]
        state["first"] += x.sum(0)
        state["second"] += x.T @ x
        return state

    def finish(self, state: State, res: Resources) -> State:
        """The mean and the matrix."""
        first, n = state["first"].cpu(), int(state["n"])
        covariance = torch.outer(first, first).div_(-n).add_(state["second"].cpu()).div_(255**2 * (n - 1))
        return {MEAN: (first / (255 * n)).float(), MATRIX: root_of(covariance, self.epsilon).float()}

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        d = float(real.example_bytes)
        return Cost(flops_per_step=2 * BLOCK * d**2 + 12 * d**3 / self.length(real), memory=PEAK * d**2)


def whitened(splits: Splits, *, progress: Progress | None = None) -> Splits:
    """All splits in the whitened space of the training split; a set that is whitened already stays as it is.

    Raises:
        UsageError: a set without images.
        ResourceError: the matrix does not fit (:func:`affordable`).
    """
    real = splits.train
    if real.whitening is not None:
        return splits
    if real.images is None:
        raise UsageError(f"{real.name} has no images, which zca whitens; leave it out")
    affordable(real.shape)
    found = whitening_of(made(ZCA(), real, {}, seed=0, plan=Plan(), progress=progress or Silent()))
    assert found is not None, "the resource holds the two tensors"
    train = real.whitened(found)
    return dataclasses.replace(splits, train=train)


def affordable(shape: tuple[int, int, int]) -> None:
    """Refuses to whiten images of (C, H, W) whose matrix does not fit.

    Raises:
        ResourceError: says how large it would be, and up to which side it fits.
    """
    c, h, w = shape
    d, free = c * h * w, memory.available()
    most = LARGEST if free is None else min(LARGEST, math.isqrt(free // PEAK))
    if d > most:
        gib = 2**30
        raise ResourceError(
            f"whitening (zca) images of {c} x {h} x {w} takes a matrix of {d} x {d} numbers, {4 * d**2 / gib:.1f} GiB, and about "
            f"{PEAK * d**2 / gib:.1f} GiB of memory to fit it, which is more than fits here; resize the images to at most "
            f"{math.isqrt(most // c)} pixels a side (size), or leave zca out"
        )


def affordable_side(size: int | tuple[int, int] | None) -> None:
    """Refuses a side, or (height, width), whose images could not be whitened even in grey, before any is decoded.

    Raises:
        ResourceError: as :func:`affordable`, for images in colour.
    """
    if size is None:
        return
    h, w = (size, size) if isinstance(size, int) else size
    try:
        affordable((1, h, w))
    except ResourceError:
        affordable((3, h, w))
