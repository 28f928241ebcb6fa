"""A network trained on the real set, for features and for judging examples."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy, one_hot

from attar.augment import siamese
from attar.augment.strategy import strategy_for
from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.method import Batch, Cost, Resources, State
from attar.nets.build import build
from attar.nets.fit import activation_bytes, net_of, prefixed, unprefixed
from attar.optim import Opt
from attar.real.realset import RealSet
from attar.resources.resource import Resource
from attar.run import Descent
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork(Resource):
    """Weights after some epochs of SGD with momentum on cross entropy; parameters and buffers by their names.

    Every epoch visits every example once, in a fresh order, in batches whose sizes differ by at most one.

    Cost: three forwards of every image an epoch; activations of one batch.
    """

    net: str = "convnet"
    "Architecture."
    epochs: int = 10
    "Passes over the real set."
    lr: float = 0.01
    "Learning rate, falling to 0 along a cosine."
    momentum: float = 0.9
    "Momentum."
    weight_decay: float = 5e-4
    "Weight decay."
    batch: int = 256
    "Largest batch."
    augment: str = "none"
    "Transforms of the training images, joined by _; none; or auto (all that suit the classes)."

    name: ClassVar[str] = "network"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} trains nothing; it must be at least 1")
        self.learned({})  # refuses impossible rates at once

    @property
    def _opt(self) -> Opt:
        return Opt(lr=self.lr, momentum=self.momentum, decay=self.weight_decay, schedule="cosine")

    def length(self, real: RealSet) -> int:
        """Batches of all epochs."""
        return self.epochs * self._batches(real)

    def learned(self, state: State) -> dict[str, Opt]:
        """Every trainable tensor; buffers are under ``buffer.`` and are not learned."""
        return dict.fromkeys(prefixed(unprefixed(state)), self._opt)

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Fresh weights.

        Raises:
            DataError: a set without classes.
        """
        if not real.n_classes:
            raise DataError(f"{real.name} has no classes to train a network on; use features=pixels or features=random")
        net = net_of(self.net, real)
        params = net.init(seeds.at("network"), device=real.device)
        learned = {name: params[name] for name in net.trainable}
        return prefixed(learned) | {f"buffer.{k}": v for k, v in params.items() if k not in learned}

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """One batch: ``image`` [B, C, H, W] and ``target`` float32 [B, K], one-hot, so that the loss sees K."""
        index = self.rows(real, seeds, step)
        return self._lesson(real, index, real.labels[index], seeds)

    def rows(self, real: RealSet, seeds: Seeds, step: int) -> torch.Tensor:
        """The rows of the real set in the batch of a step: int64 [B]."""
        epoch, i = divmod(step, self._batches(real))
        return self._part(permutation(seeds.run, epoch, len(real)), i)

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        """Mean cross entropy; batch norms move their running statistics on the way."""
        return cross_entropy(self.logits(state, batch), batch["target"])

    def logits(self, state: State, batch: Batch) -> torch.Tensor:
        """The optimisation forward: float [B, K]."""
        x, classes = batch["image"], batch["target"].shape[1]
        net = build(self.net, channels=x.shape[1], size=(x.shape[2], x.shape[3]), classes=classes)
        return net(params_of(state), x, train=True).float()

    def teach(
        self, state: State, real: RealSet, rows: torch.Tensor, labels: torch.Tensor, seeds: Seeds, epoch: int
    ) -> torch.Tensor:
        """One of the epochs on some examples alone, with labels given beside; changes the tensors of ``state`` in place.

        Args:
            state: of :meth:`init`, with the moments of :meth:`learned`.
            real: its pixels and class names are seen, and nothing else.
            rows, labels: int64 [n] each.
            seeds: of this epoch.

        Returns:
            The mean loss of the batches, a scalar.
        """
        parts = self._batches(rows)
        descent = Descent(self, self.epochs * parts, losses=[[]])
        order = torch.randperm(len(rows), generator=seeds.generator("order"))
        for i in range(parts):
            some = self._part(order, i)
            descent.done = epoch * parts + i
            descent(state, self.loss, self._lesson(real, rows[some], labels[some], seeds.at("batch", i)))
        return torch.stack([loss for _, loss in descent.losses[0]]).mean()

    def finish(self, state: State, res: Resources) -> State:
        """Parameters and buffers by their names in the network."""
        return params_of(state)

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """Forward and backward of a batch; its activations, and weights, momentum and gradient."""
        net = net_of(self.net, real)
        size = min(self.batch, len(real))
        return Cost(flops_per_step=6.0 * net.macs * size, memory=size * activation_bytes(net) + 12.0 * net.n_parameters)

    def _batches(self, examples: Sized) -> int:
        return -(-len(examples) // self.batch)

    def _part(self, order: torch.Tensor, i: int) -> torch.Tensor:
        """The i-th batch of an epoch's order, int64 [n] -> [B]."""
        n, parts = len(order), self._batches(order)
        return order[i * n // parts : (i + 1) * n // parts]

    def _lesson(self, real: RealSet, index: torch.Tensor, labels: torch.Tensor, seeds: Seeds) -> Batch:
        """The images of some rows, transformed, and their one-hot labels."""
        target = one_hot(labels, real.n_classes).float().to(real.device)
        return {"image": self._augmented(real, real.draw(index), seeds), "target": target}

    def _augmented(self, real: RealSet, x: torch.Tensor, seeds: Seeds) -> torch.Tensor:
        """Transformed images: [B, C, H, W] -> [B, C, H, W]; every image has its own parameters."""
        strategy = strategy_for(self.augment, real)
        if not siamese.parse(strategy):
            return x
        ops = siamese.draw(strategy, len(x), seeds.generator("augment"), size=real.shape[1:], one_op=True)
        return siamese.augment(x, {name: value.to(x.device) for name, value in ops.items()})


def params_of(state: State) -> State:
    """Parameters and buffers by their names in the network, without moments."""
    buffers = {k.removeprefix("buffer."): v for k, v in state.items() if k.startswith("buffer.")}
    return unprefixed(state) | buffers


@lru_cache(maxsize=2)
def permutation(run: int, epoch: int, n: int) -> torch.Tensor:
    """The order of an epoch, int64 [n]: a function of the run's seed and the epoch, not of the step that asks."""
    return torch.randperm(n, generator=Seeds(run).generator("network", "epoch", epoch))
