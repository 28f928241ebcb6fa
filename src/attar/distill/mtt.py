"""MTT: Cazenavette, Wang, Torralba, Efros, Zhu. Dataset Distillation by Matching Training Trajectories. CVPR 2022.
arXiv 2203.11932.

Networks trained on the real set (experts) left their weights after every epoch. Begin at such a point, take a few steps on
the kept images, and come out where the expert was some epochs later; the rate of these steps is learned with the images:

    theta_{i+1} = theta_i - rate * grad CE(net(theta_i), A_i(kept_i)),    i = 0 .. N - 1,    theta_0 = expert_t
    loss = || theta_N - expert_{t+M} ||^2 / || expert_t - expert_{t+M} ||^2

Cost: 12 N B forwards a step for inner batches of B, and once for all methods 3 forwards of every real image for each epoch
of each expert. Settings of the authors: ``presets``; the defaults are those of CIFAR-10 with 10 images per class, not whitened.

Differs from the official code: the gradient comes from the adjoint recursion in the memory of one inner step (equal to the
graph over all steps); images are whitened where ``--zca`` asks for it; experts are trained as far as a setting can reach and
not for 50 epochs, each of 48 batches at least (there: of 256 images, so that an epoch of a thousand images has four, in which
an expert moves too little to be followed); expert and epoch are drawn independently at every step; the learned rate cannot fall
to 0 or below, where it diverges in the official code; no checkpoint is chosen by test accuracy; batch norms take the statistics
of their batch; CIFAR-100 that is not whitened is normalised by its own means and deviations (there: by those of CIFAR-10).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.augment.strategy import strategy_for
from attar.budget import Budget
from attar.execute.compile import in_parts
from attar.match.trajectories import SHORT, course, experts_of, learned, missed, start, unrolled_cost
from attar.method import Batch, Cost, Method, Resources, Rows, State, positive, tabled
from attar.optim import Opt
from attar.params import pixels, table
from attar.real.realset import RealSet
from attar.resources.experts import Expert
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class MTT(Method):
    """Matches where training on the kept images leads with where training on the real ones led."""

    steps: int = 5000
    "Updates of the kept images and of the inner rate."
    syn_steps: int = 30
    "Inner steps on the kept images."
    expert_epochs: int = 2
    "Epochs of the expert that they shall cover."
    max_start: int = 20
    "Epochs of an expert at which a piece may begin: 0 to this number less 1."
    batch_syn: int | None = None
    "Kept images of an inner step; all where left out."
    lr_img: float = 100.0
    "Learning rate of the kept images."
    lr_lr: float = 1e-5
    "Learning rate of the inner rate."
    rate: float = 0.001
    "First inner rate."
    momentum: float = 0.5
    "Momentum of images and inner rate."
    experts: int = 100
    "Networks trained on the real set."
    lr_expert: float = 0.01
    "Learning rate of the experts."
    batch_expert: int = 256
    "Real images of a batch of the experts."
    batches_expert: int = 48
    "Batches of an epoch of the experts at least; of a small set they are smaller for it."
    seed_expert: int = 0
    "Seed of the experts, whatever that of the run is: runs of all seeds share them."
    start: str = "real"
    "First images: real or noise."
    net: str = "convnet"
    "Network of experts and inner steps."
    augment: str = "auto"
    "Siamese transforms joined by _, none, or auto (all; no flip for digits and letters)."
    params: str = "pixels"
    "What the set is made of: pixels, or more images out of as many bytes: tiles, frequency, bases or memory, as tiles:factor=3."

    paper: ClassVar[str] = (
        "Cazenavette, Wang, Torralba, Efros, Zhu. Dataset Distillation by Matching Training Trajectories. CVPR 2022"
    )
    quick: ClassVar[Mapping[str, Any]] = SHORT
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = tabled(
        "ipc zca syn_steps expert_epochs max_start batch_syn lr_img lr_lr rate",
        {
            "cifar10-1": (1, True, 50, 2, 2, None, 100.0, 1e-7, 0.01),
            "cifar10-10": (10, True, 30, 2, 20, None, 100.0, 1e-5, 0.001),
            "cifar10-50": (50, False, 30, 2, 40, None, 1000.0, 1e-5, 0.001),
            "cifar100-1": (1, True, 20, 3, 20, None, 1000.0, 1e-5, 0.01),
            "cifar100-10": (10, False, 20, 2, 20, None, 1000.0, 1e-5, 0.01),
            "cifar100-50": (50, True, 80, 2, 40, 125, 1000.0, 1e-5, 0.01),
            "tiny-imagenet-1": (1, False, 10, 2, 10, None, 10_000.0, 1e-4, 0.01),
            "tiny-imagenet-10": (10, False, 20, 2, 40, 200, 10_000.0, 1e-4, 0.01),
            "tiny-imagenet-50": (50, False, 20, 2, 40, 300, 10_000.0, 1e-4, 0.01),
            "imagenet-subset-128-1": (1, False, 20, 2, 10, None, 1000.0, 1e-6, 0.01),
            "imagenet-subset-128-10": (10, False, 20, 2, 10, 20, 1000.0, 1e-6, 0.01),
        },
    )

    def __post_init__(self) -> None:
        pixels.check(self.start)
        positive(syn_steps=self.syn_steps, expert_epochs=self.expert_epochs, max_start=self.max_start)
        positive(batch_syn=self.batch_syn, experts=self.experts, rate=self.rate)
        _ = self.learn, self.needs()  # their settings are checked there

    @property
    def learn(self) -> dict[str, Opt]:
        return learned(lr_img=self.lr_img, lr_lr=self.lr_lr, momentum=self.momentum, params=self.params)

    @property
    def reach(self) -> int:
        """The last epoch of an expert that is looked at."""
        return self.max_start - 1 + self.expert_epochs

    def needs(self) -> tuple[Expert, ...]:
        return experts_of(self)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        return start(real, budget, seeds, kind=self.start, rate=self.rate, params=self.params)

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        return course(
            real,
            seeds,
            res,
            experts=self.experts,
            starts=self.max_start,
            epochs=self.expert_epochs,
            steps=self.syn_steps,
            strategy=strategy_for(self.augment, real),
        )

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        image, target, rate = (
            table.images(self.params, state),
            state["target"],
            state["rate"],
        )  # [M, C, H, W], [M, K], a scalar
        return missed(self.net, batch, image, target, rate, size=self.batch_syn)

    def finish(self, state: State, res: Resources) -> Rows:
        recipe = {"protocol": "dsa", "augment": self.augment, "lr": float(state["rate"])}
        return table.rows(self.params, state, recipe)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        return unrolled_cost(
            self.net,
            real,
            budget,
            steps=self.syn_steps,
            size=self.batch_syn,
            params=self.params,
        )
