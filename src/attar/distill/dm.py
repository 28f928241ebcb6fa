"""DM: Zhao, Bilen. Dataset Condensation with Distribution Matching. WACV 2023. arXiv 2110.04181.

A randomly initialised network is a good enough embedding. Move the kept images until, under many such networks and the same
random transform of both sides, each class has the mean feature of the real class:

    loss = sum_k || mean_i f(A(real_ki)) - mean_j f(A(kept_kj)) ||^2

Cost: K * batch forwards and 3 M forwards a step. Differs from the official code: images pass the network a few at a time
whatever their class (equal for networks whose images do not see each other; with batch statistics all pass together), each
class still with its own transform; the transform's parameters come from counted seeds in place of the clock; a class smaller
than the batch is drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.augment.siamese import augment
from attar.budget import Budget
from attar.execute.pieces import FORWARD, features, piece_size, widened
from attar.match.means import class_means
from attar.match.seen import seen
from attar.method import Batch, Cost, Method, Resources, Rows, State, positive, repeated
from attar.nets.build import build
from attar.nets.fit import activation_bytes, net_of
from attar.optim import Opt
from attar.params import pixels, table
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class DM(Method):
    """Matches the mean feature of every class under random networks."""

    steps: int = 20_000
    "Updates of the kept examples."
    batch: int = 256
    "Real images per class and step."
    lr_img: float = 1.0
    "Learning rate of the kept images; the paper takes 10 from 100 images per class on."
    momentum: float = 0.5
    "Momentum of the kept images."
    start: str = "real"
    "First images: real or noise."
    net: str = "convnet"
    "Network whose random weights embed the images."
    augment: str = "auto"
    "Siamese transforms joined by _, none, or auto (all; no flip for digits and letters)."
    params: str = "pixels"
    "What the set is made of: pixels, or more images out of as many bytes: tiles, frequency, bases or memory, as tiles:factor=3."

    paper: ClassVar[str] = "Zhao, Bilen. Dataset Condensation with Distribution Matching. WACV 2023"
    quick: ClassVar[Mapping[str, Any]] = {"steps": 500, "batch": 64}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **repeated(("mnist", "cifar10", "cifar100", "tiny-imagenet"), {1: {}, 10: {}, 50: {}}),
        **repeated(("cifar10",), {n: {"lr_img": 10.0} for n in (100, 200, 500, 1000, 1250)}),
    }

    def __post_init__(self) -> None:
        pixels.check(self.start)
        positive(batch=self.batch, lr_img=self.lr_img)
        _ = self.learn  # the momentum is checked there

    @property
    def learn(self) -> dict[str, Opt]:
        return table.made_of(self.params).learn(Opt(lr=self.lr_img, momentum=self.momentum))

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        return table.first(self.params, real, budget, seeds, kind=self.start)

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        net = net_of(self.net, real)
        params = net.init(seeds.at("net"), device=real.device)
        x, ops = seen(real, seeds, batch=self.batch, augment=self.augment)  # [K, B, C, H, W]
        label = torch.arange(real.n_classes, device=real.device).repeat_interleave(self.batch)  # [K B]
        f = features(net, params, x.flatten(0, 1))  # [K B, D]
        return {"net": params, "augment": ops, "target": class_means(f, label, real.n_classes)}

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        x, label, target = (
            table.images(self.params, state),
            state["label"],
            batch["target"],
        )  # [M, C, H, W], [M], [K, D]
        net = build(self.net, channels=x.shape[1], size=(x.shape[2], x.shape[3]), classes=len(target))
        x = augment(x, {k: v[label] for k, v in batch["augment"].items()})
        mean = class_means(widened(net.features(batch["net"], x, update=False)), label, len(target))  # [K, D]
        return (mean - target).square().sum()

    def finish(self, state: State, res: Resources) -> Rows:
        return table.rows(self.params, state, {"protocol": "dsa", "augment": self.augment})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        net, kept = net_of(self.net, real), table.decoded(self.params, real, budget)
        images = real.n_classes * self.batch
        active = max(
            kept, piece_size(net, images, "cpu", most=FORWARD)
        )  # real and kept images pass one after the other
        return Cost(
            flops_per_step=2 * net.macs * (images + 3 * kept),
            memory=4 * real.example_bytes * (3 * images + 12 * kept) + active * activation_bytes(net),
        )
