"""Matching gradients of tiled images along networks that learn real ones: what IDC and what builds on it share.

Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022; :mod:`attar.distill.idc` says what
differs from the official code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attar.augment import idc
from attar.budget import Budget
from attar.errors import UsageError
from attar.execute.pieces import BACKWARD, piece_size
from attar.match.gradients import Measure, class_distances, slots
from attar.match.inner import sgd
from attar.method import Cost, Rows, State
from attar.nets.fit import activation_bytes, prefixed, unprefixed
from attar.nets.net import Net, Params
from attar.optim import Opt
from attar.params import tiles
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class Tiled:
    """How tiled images are matched; the settings are those of :class:`attar.distill.idc.IDC`.

    A state holds ``image`` [M, C, H, W] as pixels, ``label`` int64 [M], ``mean`` and ``std`` [C, 1, 1], the tables of slots
    of what is matched, and the network with its momentum under ``net.``.
    """

    factor: int
    most: int
    metric: str
    lr_img: float
    momentum: float
    lr_net: float
    momentum_net: float
    decay_net: float

    def __post_init__(self) -> None:
        tiles.check(self.factor)
        _ = self.measure, Opt(lr=self.lr_img, momentum=self.momentum), Opt(lr=self.lr_net, momentum=self.momentum_net)

    @property
    def measure(self) -> Measure:
        """What is matched: convolutions."""
        return Measure(self.metric, least=4)

    def opt(self, *, classes: int, per_class: float) -> Opt:
        """One step in place of ``classes`` official ones: what a class meets from one visit to the next."""
        kept = self.momentum**classes
        return Opt(lr=self.lr_img * per_class / 10 * (1 - kept) / (1 - self.momentum), momentum=kept)

    def learned(self, state: State) -> dict[str, Opt]:
        """The images."""
        k = len(state["slot"])
        return {"image": self.opt(classes=k, per_class=len(state["label"]) / k)}

    def state(self, real: RealSet, net: Net, first: State, seeds: Seeds) -> State:
        """The state around the first images.

        Args:
            first: ``image`` [M, C, H, W] in the normalised space, and ``label``.

        Raises:
            UsageError: a network without convolutions.
        """
        params = net.init(seeds.at("net"))
        if not self.measure.names(net, params):
            raise UsageError(f"network {net.name} has no convolutions, whose gradients are matched; take net=convnet")
        mean, std = real.channels()
        state = {"image": real.pixels(first["image"]).clamp(0, 1), "label": first["label"], "mean": mean, "std": std}
        return {**state, **self.part(first["label"], real.n_classes, seeds), **begun(net, params)}

    def part(self, label: torch.Tensor, classes: int, seeds: Seeds) -> State:
        """Which of the decoded images are matched: all, or a random part of the classes that have more than ``most``."""
        decoded = label.cpu().repeat_interleave(self.factor**2)
        found = slots(decoded, classes, most=self.most, generator=seeds.generator("part"))
        return {name: v.to(label.device) for name, v in found.items()}

    def renewed(self, state: State, seeds: Seeds) -> State:
        """Another part, where a class has more than ``most``."""
        if state["slot"].shape[1] < self.most:
            return state
        return state | self.part(state["label"], len(state["slot"]), seeds)

    def trained(self, net: Net, state: State, lessons: dict[str, torch.Tensor]) -> State:
        """The network and its momentum after some batches of real images."""
        params, velocity = sgd(
            net,
            unprefixed(state),
            zip(lessons["image"], lessons["target"]),
            lr=self.lr_net,
            momentum=self.momentum_net,
            decay=self.decay_net,
            velocity={name: state[f"net.{name}.momentum"] for name in net.trainable},
        )
        return {**prefixed(params), **{f"net.{name}.momentum": v for name, v in velocity.items()}}

    def loss(self, net: Net, state: State, real: torch.Tensor, ops: Params) -> torch.Tensor:
        """Sum over classes of the distance of gradients.

        Args:
            real: [K, B, C, H, W], transformed. ops: the parameters of each class's transform, for the kept images.
        """
        image = (tiles.decode(state["image"], self.factor) - state["mean"]) / state["std"]  # [M f f, C, H, W]
        label = state["label"].repeat_interleave(self.factor**2)
        image = idc.augment(image, {name: v[label] for name, v in ops.items()})
        return class_distances(net, unprefixed(state), real, image, state["slot"], state["share"], self.measure)

    def rows(self, state: State) -> Rows:
        """The decoded images, and the stored ones beside."""
        stored = state["image"].clamp(0, 1)
        decoded, label = tiles.decode(stored, self.factor), state["label"].repeat_interleave(self.factor**2)
        stored, decoded = ((x - state["mean"]) / state["std"] for x in (stored, decoded))
        source = {"image": stored, "label": state["label"]} if self.factor > 1 else {}
        recipe = {"protocol": "idc", "tiles": self.factor}
        return Rows(columns={"image": decoded, "label": label}, stored=source, recipe=recipe)

    def cost(
        self, net: Net, real: RealSet, budget: Budget, *, batch: int, lessons: tuple[int, int], outer: int
    ) -> Cost:
        """Estimate of a step.

        Args:
            batch: real images per class. lessons: batches that train the network, and images of each.
            outer: updates per network.
        """
        k, kept = real.n_classes, budget.total(real.sizes, real.example_bytes)
        matched, decoded, learnt = (
            min(self.most * k, kept * self.factor**2),
            kept * self.factor**2,
            lessons[0] * lessons[1],
        )
        images = 3 * k * batch + 7 * matched + 3 * learnt * (outer - 1) / outer
        alive = max(piece_size(net, max(batch, lessons[1]), "cpu", most=BACKWARD), 3 * matched // k)
        pictures = 4 * real.example_bytes * (max(3 * k * batch, k * batch + 2 * learnt) + 8 * decoded)
        return Cost(flops_per_step=2 * net.macs * images, memory=pictures + 3 * activation_bytes(net) * alive)


def begun(net: Net, params: Params) -> State:
    """A fresh network in a state, with momentum 0."""
    still = {f"net.{name}.momentum": torch.zeros_like(params[name]) for name in net.trainable}
    return {**prefixed({name: v.clone() for name, v in params.items()}), **still}
