"""DC: Zhao, Mopuri, Bilen. Dataset Condensation with Gradient Matching. ICLR 2021. arXiv 2006.05929.

Training on the kept images should move a network as training on the real ones does. Along the path of networks trained on the
kept images, make the gradient of each class's loss on them point, row by row, where the real class's gradient points:

    loss = sum_k d( grad_theta CE(f_theta(kept_k), k), grad_theta CE(f_theta(real_k), k) )
    d(a, b) = sum over output rows of 1 - cos(a_r, b_r)

every ``outer`` updates a fresh theta; between them theta is trained for ``inner`` epochs on the kept images.

Cost: a step is 3 K batch + 7 M forwards, the inner training 3 M inner. Differs from the official code: ``steps`` counts
updates of the kept images, where the official Iteration counts networks of ``outer`` updates each, so that the default is the
paper's schedule at 1 image per class, a tenth of it at 10 and a fiftieth at 50; seeds are counted; a class smaller than the
batch is drawn with replacement (there: taken whole); the statistics of batch norms move by 16 of the real images of each class
that are matched (there: by 16 others) and are then frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.budget import Budget
from attar.execute.compile import in_parts
from attar.match.gradients import class_distances, slots
from attar.match.inner import Path, net_for
from attar.method import GREY_AND_CIFAR, Batch, Cost, Descend, Method, Resources, Rows, State, positive, repeated
from attar.nets.fit import net_of, prefixed, unprefixed
from attar.optim import Opt
from attar.params import pixels, table
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class DC(Method):
    """Matches the gradients of every class along networks trained on the kept images."""

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
    start: str = "noise"
    "First images: noise or real."
    net: str = "convnet"
    "Network whose gradients are matched."
    params: str = "pixels"
    "What the set is made of: pixels, or more images out of as many bytes: tiles, frequency, bases or memory, as tiles:factor=3."

    paper: ClassVar[str] = "Zhao, Mopuri, Bilen. Dataset Condensation with Gradient Matching. ICLR 2021"
    quick: ClassVar[Mapping[str, Any]] = {
        "steps": 500,
        "batch": 32,
        "inner": 10,
        "lr_net": 0.1,
        "lr_img": 0.4,
        "start": "real",
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
        index = real.sample(self.batch, seeds.generator("real"))  # [K, B]
        x = real.draw(index.flatten()).unflatten(0, index.shape)  # [K, B, C, H, W]
        net = net_of(self.net, real).init(seeds.at("net"), device=real.device)
        return {"real": x, "net": net, "seeds": seeds, "step": step, "strategy": "none"}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        return self.path.step(self.net, self.params, state, batch, descend, self.loss)

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        net, params = net_for(self.net, batch["real"]), unprefixed(state)
        return class_distances(
            net, params, batch["real"], table.images(self.params, state), state["slot"], state["share"]
        )

    def finish(self, state: State, res: Resources) -> Rows:
        return table.rows(self.params, state, {"protocol": "dc"})

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        kept, each = table.decoded(self.params, real, budget), table.expected(real, budget)
        return self.path.cost(
            net_of(self.net, real), classes=real.n_classes, batch=self.batch, kept=kept, per_class=each
        )
