"""Outputs: what a trained network says of every example, in evaluation mode and without transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from attar.budget import Budget
from attar.errors import DataError
from attar.execute.compile import fast
from attar.method import Batch, Cost, Descend, Resources, State
from attar.nets.fit import activation_bytes, net_of
from attar.real.realset import RealSet
from attar.resources import recording
from attar.resources.dynamics import finite
from attar.resources.network import TrainedNetwork
from attar.resources.resource import Resource
from attar.seeds import Seeds

BLOCK = 128
"""Images of one forward."""


@dataclass(frozen=True, kw_only=True)
class Outputs(Resource):
    """The signals of one epoch after training, float32 [N] each: ``entropy``, ``margin``, ``least_confidence`` and the others
    of :func:`attar.resources.recording.signals`.

    Cost: the training of the network, and a forward of every image.
    """

    net: str = "convnet"
    "Architecture."
    epochs: int = 10
    "Epochs of training."
    lr: float = 0.01
    "Learning rate of the training."
    batch: int = 256
    "Largest batch of the training."

    name: ClassVar[str] = "outputs"
    schema: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self.needs()  # refuses impossible training at once

    def needs(self) -> tuple[TrainedNetwork, ...]:
        """The network."""
        return (TrainedNetwork(net=self.net, epochs=self.epochs, lr=self.lr, batch=self.batch),)

    def length(self, real: RealSet) -> int:
        """One step a block."""
        return -(-len(real) // BLOCK)

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Statistics of nothing.

        Raises:
            DataError: a set of less than two classes.
        """
        if real.n_classes < 2:
            raise DataError(
                f"{real.name} has {real.n_classes} classes; a network is sure of one alone, so give two at least"
            )
        return recording.start(len(real))

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """The logits of one block: ``index`` int64 [B], ``logits`` [B, K], ``target`` int64 [B]."""
        index = torch.arange(step * BLOCK, min((step + 1) * BLOCK, len(real)))
        net = net_of(self.net, real)
        params = {name: value.to(real.device) for name, value in res[TrainedNetwork.name].items()}
        with torch.no_grad():
            logits = fast(net.__call__)(params, real.draw(index), train=False).float().cpu()
        finite(logits, index, self.epochs - 1)  # of the last one
        return {"index": index, "logits": logits, "target": real.labels[index]}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """Notes the block."""
        device = state["real"].device
        new = recording.facts(batch["logits"], batch["target"])
        return recording.fold(
            state, batch["index"].to(device), {name: value.to(device) for name, value in new.items()}, epoch=0
        )

    def finish(self, state: State, res: Resources) -> State:
        """The signals."""
        return recording.signals(state)

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """A forward of a block; its activations and the statistics."""
        net, block = net_of(self.net, real), min(BLOCK, len(real))
        memory = float(recording.size()) * len(real) + block * activation_bytes(net)
        return Cost(flops_per_step=2.0 * net.macs * block, memory=memory)
