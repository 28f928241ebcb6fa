"""Features: one vector for every real example, for methods that compare examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch

from attar.budget import Budget
from attar.errors import UsageError, nearest
from attar.execute.compile import fast
from attar.method import Batch, Cost, Descend, Resources, State
from attar.nets.fit import activation_bytes, net_of
from attar.nets.net import Net
from attar.real.realset import RealSet
from attar.resources.network import TrainedNetwork
from attar.resources.resource import Resource
from attar.seeds import Seeds

SOURCES = ("pixels", "random", "trained")
BLOCK = 128
"""Images of one forward: activations that fit the cache are faster than one large batch."""
ROOM = 1 << 30
"""Bytes of activations that a block may take; large images go through the network in smaller blocks."""


@dataclass(frozen=True, kw_only=True)
class Features(Resource):
    """Pixels, or what the last linear layer of a network sees, in evaluation mode: float32 [N, D] under ``features``.

    Settings that do not concern the source are cleared, so that they change neither equality nor the cache key.

    Cost: a forward of every image; 4 N D bytes. One block of rows a step.
    """

    source: str = "pixels"
    "pixels (flattened, normalised), random (a randomly initialised network) or trained (one trained for it)."
    net: str = "convnet"
    "The network of random and trained features."
    epochs: int = 10
    "Epochs of training for trained features."

    name: ClassVar[str] = "features"

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise UsageError(f"features '{self.source}' are unknown; {nearest(self.source, SOURCES)}")
        if self.source == "pixels":
            object.__setattr__(self, "net", "")
        if self.source != "trained":
            object.__setattr__(self, "epochs", 0)
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[TrainedNetwork, ...]:
        """The network, where it is trained."""
        return (TrainedNetwork(net=self.net, epochs=self.epochs),) if self.source == "trained" else ()

    def length(self, real: RealSet) -> int:
        """One step a block."""
        return -(-len(real) // self._block(real))

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Room for all rows."""
        return {"features": torch.zeros(len(real), self.width(real))}

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """The features of one block: ``start``, ``values`` [B, D]."""
        start = step * self._block(real)
        x = real.draw(torch.arange(start, min(start + self._block(real), len(real))))  # [B, C, H, W]
        if self.source == "pixels":
            return {"start": start, "values": x.flatten(1)}
        net = net_of(self.net, real)
        with torch.no_grad():
            values = fast(net.features)(self._params(net, real, seeds, res), x, train=False)
        return {"start": start, "values": values.float()}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """Writes the block into its rows."""
        state["features"][batch["start"] : batch["start"] + len(batch["values"])] = batch["values"]
        return state

    def finish(self, state: State, res: Resources) -> State:
        """All rows."""
        return {"features": state["features"]}

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """A forward of a block; the features and the activations of a block."""
        stored, block = 4.0 * len(real) * self.width(real), self._block(real)
        if self.source == "pixels":
            return Cost(memory=stored + 4.0 * block * real.example_bytes)
        net = net_of(self.net, real)
        return Cost(flops_per_step=2.0 * net.macs * block, memory=stored + block * activation_bytes(net))

    def width(self, real: RealSet) -> int:
        """D."""
        return real.example_bytes if self.source == "pixels" else _width(net_of(self.net, real))

    def _block(self, real: RealSet) -> int:
        if self.source == "pixels":
            return BLOCK
        return max(1, min(BLOCK, ROOM // max(1, activation_bytes(net_of(self.net, real)))))

    def _params(self, net: Net, real: RealSet, seeds: Seeds, res: Resources) -> State:
        """The weights: the same at every step, so drawn from the run's seed and not from the step's."""
        if self.source == "random":
            return net.init(Seeds(seeds.run).at("features"), device=real.device)
        return {name: value.to(real.device) for name, value in res[TrainedNetwork.name].items()}


@lru_cache(maxsize=64)
def _width(net: Net) -> int:
    """D of a network's features."""
    with torch.no_grad():
        return net.features(net.init(Seeds()), torch.zeros(1, net.channels, *net.size), train=False).shape[1]
