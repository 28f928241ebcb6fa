"""DSA: Zhao, Bilen. Dataset Condensation with Differentiable Siamese Augmentation. ICML 2021. arXiv 2102.08259.

Gradient matching in which the kept and the real images of a class pass the same random transform A, so that what is learned on
the kept images holds when a network is later trained on transformed ones:

    loss = sum_k d( grad_theta CE(f_theta(A_k(kept_k)), k), grad_theta CE(f_theta(A_k(real_k)), k) )
    d(a, b) = sum over output rows of 1 - cos(a_r, b_r)

The inner training on the kept images transforms every image by itself. The start is real images.

Cost: a step is 3 K batch + 7 M forwards, the inner training 3 M inner. Differs from the official code: ``steps`` counts
updates of the kept images, so that the default is the paper's schedule at 1 image per class, a tenth of it at 10 and a fiftieth
at 50; each class's transform comes from counted seeds in place of the clock; a class smaller than the batch is drawn with
replacement (there: taken whole); the statistics of batch norms move by 16 of the real images of each class as they are matched,
transformed (there: by 16 others, as they are), and are then frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.augment.siamese import augment
from attar.augment.strategy import strategy_for
from attar.budget import Budget
from attar.execute.compile import in_parts
from attar.match.gradients import class_distances, slots
from attar.match.inner import Path, net_for
from attar.match.seen import seen
from attar.method import GREY_AND_CIFAR, Batch, Cost, Descend, Method, Resources, Rows, State, positive, repeated
from attar.nets.fit import net_of, prefixed, unprefixed
from attar.optim import Opt
from attar.params import pixels, table
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class DSA(Method):
    """Matches the gradients of every class under the same random transform of kept and real images."""

    steps: int = 1000
    "Updates of the kept images; the paper's 1000 networks are 1000 x outer of them: give 10000 at 10 images per class."
    batch: int = 256
    "Real images per class and step."
    lr_img: float = 0.1
    "Learning rate of the kept images."
    momentum: float = 0.5
    "Momentum of the kept images."
    lr_net: float = 0.01
    "Learning rate of the inner training."
    batch_net: int = 256
    "Kept images a batch of the inner training."
    outer: int | None = None
    "Updates per network; by images per class where left out (1: 1, 10: 10, 50: 50)."
    inner: int | None = None
    "Epochs of inner training between two updates; by images per class where left out (1: 1, 10: 50, 50: 10)."
    start: str = "real"
    "First images: real or noise."
    net: str = "convnet"
    "Network whose gradients are matched."
    augment: str = "auto"
    "Siamese transforms joined by _, none, or auto (all; no flip for digits and letters)."
    params: str = "pixels"
    "What the set is made of: pixels, or more images out of as many bytes: tiles, frequency, bases or memory, as tiles:factor=3."

    paper: ClassVar[str] = "Zhao, Bilen. Dataset Condensation with Differentiable Siamese Augmentation. ICML 2021"
    quick: ClassVar[Mapping[str, Any]] = {
        "steps": 500,
        "batch": 32,
        "inner": 10,
        "lr_net": 0.1,
        "lr_img": 0.2,
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = repeated(
        GREY_AND_CIFAR, {1: {"steps": 1000}, 10: {"steps": 10_000}, 50: {"steps": 50_000}}
    )

    def __post_init__(self) -> None:
        pixels.check(self.start)
        positive(batch=self.batch, lr_img=self.lr_img, lr_net=self.lr_net, batch_net=self.batch_net)
        _ = self.learn, self.path  # their settings are checked there

    @property
    def path(self) -> Path:
        """How each network is followed."""
        return Path(outer=self.outer, inner=self.inner, lr=self.lr_net, batch=self.batch_net)

    @property
    def learn(self) -> dict[str, Opt]:
        return table.made_of(self.params).learn(Opt(lr=self.lr_img, momentum=self.momentum))

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        state = table.first(self.params, real, budget, seeds, kind=self.start)
        net = net_of(self.net, real).init(seeds.at("net"))
        return {**state, **slots(state["label"], real.n_classes), **prefixed(net)}

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        x, ops = seen(real, seeds, batch=self.batch, augment=self.augment)  # [K, B, C, H, W]
        strategy = strategy_for(self.augment, real)
        net = net_of(self.net, real).init(seeds.at("net"), device=real.device)
        return {
            "real": x,
            "augment": ops,
            "net": net,
            "seeds": seeds,
            "step": step,
            "strategy": strategy,
        }

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        return self.path.step(self.net, self.params, state, batch, descend, self.loss)

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        net, params = net_for(self.net, batch["real"]), unprefixed(state)
        image = augment(table.images(self.params, state), {k: v[state["label"]] for k, v in batch["augment"].items()})
        return class_distances(net, params, batch["real"], image, state["slot"], state["share"])

    def finish(self, state: State, res: Resources) -> Rows:
        return table.rows(self.params, state, {"protocol": "dsa", "augment": self.augment})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        kept, each = table.decoded(self.params, real, budget), table.expected(real, budget)
        return self.path.cost(
            net_of(self.net, real), classes=real.n_classes, batch=self.batch, kept=kept, per_class=each
        )
