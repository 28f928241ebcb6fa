"""Last-layer gradients of a trained network, as their two factors, for methods that judge examples by what they teach.

The gradient of the cross entropy of one example for the last linear layer [W, b] is an outer product:

    g_i = (p_i - y_i) (x) [h_i, 1],      p = softmax of the logits, y one-hot, h what the layer sees

so logits [N, K] and h [N, D] are all that is stored, K + D numbers an example in place of K (D + 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch.nn.functional import one_hot

from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.execute.compile import fast
from attar.method import Batch, Cost, Descend, Resources, State
from attar.nets.fit import activation_bytes, net_of
from attar.real.realset import RealSet
from attar.real.split import hold_out
from attar.resources.features import BLOCK, ROOM, Features
from attar.resources.network import TrainedNetwork
from attar.resources.resource import Resource
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class Replica(TrainedNetwork):
    """A :class:`TrainedNetwork` of other first weights and orders, or one that has not seen some of the examples."""

    number: int = 0
    "Which one: another number starts from other weights and sees the examples in another order."
    held: float = 0.0
    "Share of every class that it is not trained on."

    @property
    def name(self) -> str:  # type: ignore[override]  # every replica has a place of its own
        """The key under which gradients find it."""
        return f"network-{self.number}" + ("-held" if self.held else "")

    def length(self, real: RealSet) -> int:
        """Batches of all epochs."""
        return super().length(taught(real, self.held, 0))

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Fresh weights of its own."""
        return super().init(real, budget, self._own(seeds), res)

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """One batch of what it may see, in an order of its own."""
        return super().draw(taught(real, self.held, seeds.run), self._own(seeds), res, step)

    def _own(self, seeds: Seeds) -> Seeds:
        return Seeds(Seeds(seeds.run).number("replica", self.number), seeds.path)


@dataclass(frozen=True, kw_only=True)
class Gradients(Resource):
    """``logits`` [N, K], ``hidden`` [N, D], both in evaluation mode; ``held`` bool [N], what the network has not seen.

    Cost: a forward of every image; 4 N (K + D) bytes. One block of rows a step.
    """

    net: str = "convnet"
    "The network."
    epochs: int = 10
    "Epochs of its training; 0 leaves it as it was initialised."
    number: int = 0
    "Which network of several that are trained alike from other starts."
    held: float = 0.0
    "Share of every class that the network is not trained on."

    schema: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise UsageError(f"epochs={self.epochs} must be a whole number of at least 0")
        if not 0 <= self.held < 1:
            raise UsageError(f"a share of {self.held} to hold out is not in [0, 1); try 0.1")

    @property
    def name(self) -> str:  # type: ignore[override]  # the gradients of every network have a place of their own
        """The key under which methods find them."""
        return name_of(self.number)

    def needs(self) -> tuple[TrainedNetwork, ...]:
        """The network, where it is trained: the one of trained features, unless others are asked for."""
        if self.epochs == 0:
            return ()
        if self.number == 0 and self.held == 0:
            return (TrainedNetwork(net=self.net, epochs=self.epochs),)
        return (Replica(net=self.net, epochs=self.epochs, number=self.number, held=self.held),)

    def length(self, real: RealSet) -> int:
        """One step a block."""
        return -(-len(real) // self._block(real))

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Room for all rows.

        Raises:
            DataError: a set without classes.
        """
        if not real.n_classes:
            raise DataError(f"{real.name} has no classes, without which no example has a gradient; give it labels")
        held = torch.zeros(len(real), dtype=torch.bool)
        held[parts(real, self.held, seeds.run)[1]] = True
        return {name: torch.zeros(len(real), *shape) for name, shape in self._shapes(real).items()} | {"held": held}

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """One block: ``index`` int64 [B], ``labels`` int64 [B], ``logits`` [B, K], ``hidden`` [B, D]."""
        start, net = step * self._block(real), net_of(self.net, real)
        index = torch.arange(start, min(start + self._block(real), len(real)))
        with torch.no_grad():
            logits, hidden = fast(net.both)(self._params(real, seeds, res), real.draw(index), train=False)
        return {"index": index, "labels": real.labels[index], "logits": logits.float(), "hidden": hidden.float()}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """Writes the block into its rows."""
        for name, value in self.kept(batch["logits"], batch["hidden"], batch["labels"]).items():
            state[name][batch["index"].to(state[name].device)] = value
        return state

    def kept(self, logits: torch.Tensor, hidden: torch.Tensor, labels: torch.Tensor) -> State:
        """What is kept of some examples: float [B, K], [B, D], int64 [B] -> [B, ...] each."""
        return {"logits": logits, "hidden": hidden}

    def finish(self, state: State, res: Resources) -> State:
        """All rows."""
        return dict(state)

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """A forward of a block; what is kept and the activations of a block."""
        net, block = net_of(self.net, real), self._block(real)
        stored = 4.0 * len(real) * sum(math.prod(shape) for shape in self._shapes(real).values())
        return Cost(flops_per_step=2.0 * net.macs * block, memory=stored + block * activation_bytes(net))

    def _shapes(self, real: RealSet) -> dict[str, tuple[int, ...]]:
        """Of what is kept of an example."""
        return {"logits": (real.n_classes,), "hidden": (self.width(real),)}

    def width(self, real: RealSet) -> int:
        """D."""
        return Features(source="random", net=self.net).width(real)

    def _block(self, real: RealSet) -> int:
        return max(1, min(BLOCK, ROOM // max(1, activation_bytes(net_of(self.net, real)))))

    def _params(self, real: RealSet, seeds: Seeds, res: Resources) -> State:
        """The weights: the same at every step, so drawn from the run's seed and not from the step's."""
        if self.epochs == 0:
            return net_of(self.net, real).init(Seeds(seeds.run).at(name_of(self.number)), device=real.device)
        return {name: value.to(real.device) for name, value in res[self.needs()[0].name].items()}


@dataclass(frozen=True, kw_only=True)
class GradientNorms(Gradients):
    """``norm`` float32 [N], the lengths of the gradients of the same networks, for methods that need nothing else of them.

    Cost: a forward of every image; 4 N bytes. One block of rows a step.
    """

    @property
    def name(self) -> str:  # type: ignore[override]  # as in Gradients
        """The key under which methods find them."""
        return f"gradient-norms-{self.number}"

    def kept(self, logits: torch.Tensor, hidden: torch.Tensor, labels: torch.Tensor) -> State:
        """The lengths, [B]."""
        return {"norm": lengths(residuals(logits, labels), hidden)}

    def _shapes(self, real: RealSet) -> dict[str, tuple[int, ...]]:
        return {"norm": ()}


def name_of(number: int) -> str:
    """The key of one network's gradients in a method's resources."""
    return f"gradients-{number}"


def residuals(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """p - y: float [n, K], int64 [n] -> [n, K]; what is added to all logits of an example changes nothing."""
    return logits.softmax(1) - one_hot(labels.to(logits.device), logits.shape[1]).to(logits.dtype)


def lengths(a: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """|| a_i (x) [h_i, 1] || = || a_i || sqrt(|| h_i ||^2 + 1): [n, K], [n, D] -> [n]."""
    return torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(h, dim=1).square().add(1).sqrt()


def parts(real: RealSet, held: float, run: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that a network of the run with this seed sees, and rows that it does not: int64 each, ascending.

    A class of one example is seen; a class of more has at least one on either side.
    """
    if held == 0:
        return torch.arange(len(real)), torch.arange(0)
    return hold_out(real.labels, real.n_classes, fraction=held, seeds=Seeds(run).at("held"))


@lru_cache(maxsize=4)
def taught(real: RealSet, held: float, run: int) -> RealSet:
    """What a network sees; its size does not depend on ``run``."""
    return real.subset(parts(real, held, run)[0]) if held else real
