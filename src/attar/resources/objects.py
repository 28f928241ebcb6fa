"""Object features: one vector for every ground-truth box of a detection set, in the order of its images.

A box is cut out of the decoded image, resized to 32 x 32 pixels (:func:`attar.real.objects.as_images`) and looked at like an
image of its own. In a set without boxes every image is one object that fills it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from attar.budget import Budget
from attar.method import Batch, Cost, Resources, State
from attar.real.objects import CROP, DETECTION, as_images
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.resources.network import TrainedNetwork
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class ObjectNetwork(TrainedNetwork):
    """A network trained to tell the categories of the boxes apart."""

    name: ClassVar[str] = "object-network"

    def length(self, real: RealSet) -> int:
        """Batches of all epochs."""
        return super().length(as_images(real))

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Fresh weights."""
        return super().init(as_images(real), budget, seeds, res)

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """One batch of objects."""
        return super().draw(as_images(real), seeds, res, step)

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """Forward and backward of a batch, and the objects as images."""
        return _with_objects(super().cost(as_images(real), budget), real)


@dataclass(frozen=True, kw_only=True)
class ObjectFeatures(Features):
    """What :class:`attar.resources.features.Features` is for images, for their objects: float32 [O, D] under ``features``."""

    name: ClassVar[str] = "object-features"

    def needs(self) -> tuple[TrainedNetwork, ...]:
        """The network, where it is trained."""
        return (ObjectNetwork(net=self.net, epochs=self.epochs),) if self.source == "trained" else ()

    def length(self, real: RealSet) -> int:
        """One step a block of objects."""
        return super().length(as_images(real))

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Room for all objects."""
        return super().init(as_images(real), budget, seeds, res)

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """The features of one block: ``start``, ``values`` [B, D]."""
        trained = {TrainedNetwork.name: res[ObjectNetwork.name]} if self.source == "trained" else {}
        return super().draw(as_images(real), seeds, {**res, **trained}, step)

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """A forward of a block; the features, and the objects as images."""
        return _with_objects(super().cost(as_images(real), budget), real)

    def width(self, real: RealSet) -> int:
        """D."""
        return super().width(as_images(real))


def _with_objects(cost: Cost, real: RealSet) -> Cost:
    """The cost with the bytes of the objects as images."""
    more = len(as_images(real)) * real.shape[0] * CROP * CROP if real.task == DETECTION else 0
    return Cost(flops_per_step=cost.flops_per_step, memory=cost.memory + more)
