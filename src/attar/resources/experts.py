"""Experts: networks trained on the real set whose way is remembered, one snapshot an epoch.

Cazenavette, Wang, Torralba, Efros and Zhu, "Dataset Distillation by Matching Training Trajectories", CVPR 2022: plain SGD of
learning rate .01, batches of 256, the siamese transforms of DSA with parameters of its own for every image. With ``rho`` above
0 they look for flat valleys (:mod:`attar.resources.flat`), as those of FTD (Du, Jiang, Tan, Zhou and Li, CVPR 2023).

Each expert is a resource by itself, made by one thread beside others, or by a machine of a Ray cluster where the process
belongs to one (:mod:`attar.execute.cluster`): it is resumed and cached apart, and a method that asks for more experts than
before, or for fewer epochs of them, has these already. Its seed is its own and not that of the run that asks, so that runs of
every seed share it, as those of the official code share one buffer. Its cache key holds the data's fingerprint and
normalisation, so no expert of other data is ever found.

A snapshot is the difference from the first weights in float16: half of the bytes, and about 2^-12 of the difference as error,
where float16 weights would lose the small steps of late epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy, one_hot

from attar.augment import Augment
from attar.augment.strategy import strategy_for
from attar.budget import Budget
from attar.errors import DataError, UsageError
from attar.execute.compile import in_parts
from attar.execute.pieces import weight_gradient
from attar.method import Batch, Cost, Descend, Resources, State, positive
from attar.nets.build import build
from attar.nets.fit import activation_bytes, net_of, prefixed, unprefixed
from attar.nets.net import Params
from attar.optim import Opt
from attar.real.realset import RealSet
from attar.resources.flat import dot, flat_direction
from attar.resources.network import params_of
from attar.resources.resource import Resource
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class Expert(Resource):
    """One expert: its first weights (``start.NAME``) and the differences after every epoch (``delta.NAME`` [epochs, ...]).

    Trainable tensors alone; a batch norm's running statistics are not part of a trajectory.

    Cost: three forwards of every image an epoch, six in search of flat valleys; two bytes a weight and epoch.
    """

    number: int = 0
    "Which expert: another number has other first weights, orders and transforms."
    net: str = "convnet"
    "Architecture."
    epochs: int = 50
    "Passes over the real set, each with a snapshot at its end."
    lr: float = 0.01
    "Learning rate."
    momentum: float = 0.0
    "Momentum."
    weight_decay: float = 0.0
    "Weight decay."
    batch: int = 256
    "Largest batch."
    batches: int = 1
    "Batches of an epoch at least; of a small set they are smaller for it."
    augment: str = "auto"
    "Transforms of the training images, joined by _; none; or auto (all that suit the classes)."
    rho: float = 0.0
    "How far around the weights the worst are looked for, whose gradient is followed; 0 for plain SGD."
    alpha: float = 0.0
    "How much of the gradient at the weights that lies across it is taken away from it."
    adaptive: bool = True
    "Whether the worst weights are looked for in steps relative to each weight."
    seed: int = 0
    "Of its chance, beside its number; runs of every seed share it."

    paper: ClassVar[str] = "Cazenavette et al. Dataset Distillation by Matching Training Trajectories. CVPR 2022"
    grows: ClassVar[str | None] = "epochs"  # order and chance of an epoch do not depend on how many follow
    crowd: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, batch=self.batch, batches=self.batches)
        self.learned({})  # refuses impossible rates at once
        for name in ("rho", "alpha"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(
                    f"{name}={getattr(self, name)} must be a number of at least 0; FTD takes rho=0.01, alpha=0.3"
                )
        if not self.rho:  # what plain SGD does not look at shall not make it another expert
            object.__setattr__(self, "alpha", 0.0)
            object.__setattr__(self, "adaptive", True)

    @property
    def name(self) -> str:  # type: ignore[override]  # every expert has a place of its own
        """The key under which methods find it."""
        return name_of(self.number)

    @property
    def own_seed(self) -> int:
        """The seed of weights, orders and transforms."""
        return self.seed

    def length(self, real: RealSet) -> int:
        """Batches of all epochs."""
        return self.epochs * self._batches(real)

    def learned(self, state: State) -> dict[str, Opt]:
        """Every trainable tensor."""
        opt = Opt(lr=self.lr, momentum=self.momentum, decay=self.weight_decay)
        return dict.fromkeys(prefixed(unprefixed(state)), opt)

    def init(self, real: RealSet, budget: Budget | None, seeds: Seeds, res: Resources) -> State:
        """Fresh weights, and room for the snapshots.

        Raises:
            DataError: a set of less than two classes, on which no network moves.
        """
        if real.n_classes < 2:
            raise DataError(
                f"{real.name} has {real.n_classes} classes, on which no expert can be trained; give two at least"
            )
        net = net_of(self.net, real)
        params = net.init(seeds.at(self.name), device=real.device)
        learned = {name: params[name] for name in net.trainable}
        return {
            **prefixed(learned),
            **{f"buffer.{name}": v for name, v in params.items() if name not in learned},
            **{f"start.{name}": v.clone() for name, v in learned.items()},
            **{f"delta.{n}": v.new_zeros(self.epochs, *v.shape, dtype=torch.float16) for n, v in learned.items()},
        }

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        """One batch: ``image`` [B, C, H, W], ``target`` float32 [B, K], one-hot; ``ends``, the epoch that it ends, or None."""
        parts, n = self._batches(real), len(real)
        epoch, i = divmod(step, parts)
        index = order_of(seeds.run, self.number, epoch, n)[i * n // parts : (i + 1) * n // parts]
        transforms = Augment.parse(strategy_for(self.augment, real))
        image = transforms(real.draw(index), seeds.generator(self.name, "augment"))
        target = one_hot(real.labels[index], real.n_classes).float().to(real.device)
        return {"image": image, "target": target, "ends": epoch if i == parts - 1 else None}

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        """Mean cross entropy."""
        x, target = batch["image"], batch["target"]
        net = build(self.net, channels=x.shape[1], size=(x.shape[2], x.shape[3]), classes=target.shape[1])
        return cross_entropy(net(params_of(state), x, train=True).float(), target)

    @in_parts
    def flat(self, state: State, batch: Batch) -> torch.Tensor:
        """The loss, with the direction to flat valleys in place of its gradient."""
        x, y = batch["image"], batch["target"]
        net = build(self.net, channels=x.shape[1], size=(x.shape[2], x.shape[3]), classes=y.shape[1])
        params, even = params_of(state), torch.full((len(x),), 1 / len(x), dtype=x.dtype, device=x.device)
        size = -(-len(x) // 16) * 16  # the batches of an epoch differ by one image: compiled once for both

        def gradient(weights: Params) -> tuple[torch.Tensor, Params]:
            return weight_gradient(net, {**params, **weights}, x, y, even, update=weights is here, size=size)

        here = {name: params[name].detach() for name in net.trainable}
        loss, direction = flat_direction(gradient, here, rho=self.rho, alpha=self.alpha, adaptive=self.adaptive)
        slope = dot(direction, {name: params[name] for name in direction})
        return loss + slope - slope.detach()

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """One update, and a snapshot at the end of an epoch."""
        state = descend(state, self.flat if self.rho else self.loss, batch)
        if batch["ends"] is not None:
            for name, value in unprefixed(state).items():
                state[f"delta.{name}"][batch["ends"]] = (value - state[f"start.{name}"]).half()
        return state

    def finish(self, state: State, res: Resources) -> State:
        """Start and differences."""
        return {name: value for name, value in state.items() if name.startswith(("start.", "delta."))}

    def cost(self, real: RealSet, budget: Budget | None = None) -> Cost:
        """Forward and backward of a batch; its activations, weights with their first values and gradients, snapshots."""
        net, size = net_of(self.net, real), -(-len(real) // self._batches(real))
        images = 8.0 * real.example_bytes * size
        held = 3 + bool(self.momentum) + 4 * bool(self.rho)
        weights = 4.0 * net.n_parameters * held + snapshot_bytes(net.n_parameters, self.epochs)
        return Cost(
            flops_per_step=6.0 * net.macs * size * (1 + bool(self.rho)),
            memory=images + size * activation_bytes(net) + weights,
        )

    def _batches(self, real: RealSet) -> int:
        return min(len(real), max(self.batches, -(-len(real) // self.batch)))


def experts(count: int, **settings: Any) -> tuple[Expert, ...]:
    """The first experts of a kind; the settings are those of :class:`Expert`."""
    return tuple(Expert(number=i, **settings) for i in range(count))


def name_of(number: int) -> str:
    """The key of an expert in a method's resources."""
    return f"expert-{number}"


def snapshot(expert: Mapping[str, torch.Tensor], epoch: int) -> Params:
    """The weights of an expert after some epochs (0: its first ones), float32 on the expert's device."""
    start = {name.removeprefix("start."): v for name, v in expert.items() if name.startswith("start.")}
    if epoch == 0:
        return start
    return {name: v + expert[f"delta.{name}"][epoch - 1].to(v.dtype) for name, v in start.items()}


def snapshot_bytes(parameters: int, epochs: int) -> float:
    """Bytes of one expert as kept."""
    return parameters * (4.0 + 2.0 * epochs)


@lru_cache(maxsize=2)
def order_of(run: int, number: int, epoch: int, n: int) -> torch.Tensor:
    """The order of an epoch, int64 [n]: a function of the run's seed, the expert and the epoch."""
    return torch.randperm(n, generator=Seeds(run).generator(name_of(number), "epoch", epoch))
