"""DCC and DSAC: Lee, Chun, Jung, Yun, Yoon. Dataset Condensation with Contrastive Signals. ICML 2022. arXiv 2202.02916.

Gradients matched class by class let the kept images learn what all classes share, ten times over. Matched as one gradient of
all classes together, the shared part weighs once and what tells the classes apart is left:

    loss = d( grad_theta mean_i CE(f_theta(A(kept_i)), y_i), mean_k grad_theta CE(f_theta(A_k(real_k)), k) )
    d(a, b) = sum over output rows of 1 - cos(a_r, b_r)

The first networks are matched class by class, as in DC; ``augment="none"`` is DCC, ``auto`` is DSAC.

Cost: a step is 3 K batch + 12 M forwards, the inner training 3 M inner. Differs from the official code: its first 250 of
1,000 networks are a share of the run (``warm``), as ``steps`` counts updates of the kept images, of which the default is a tenth
of the paper's at 1 and 10 images per class; kept images pass in pieces, with an equal gradient; each class's transform comes from
counted seeds in place of the clock; a class smaller than the batch is drawn with replacement (there: taken whole); the
statistics of batch norms move by 16 of the real images of each class as they are matched, transformed (there: by 16 others, as
they are), and are then frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.augment.siamese import augment
from attar.augment.strategy import strategy_for
from attar.budget import Budget
from attar.errors import UsageError
from attar.execute.compile import in_parts
from attar.execute.pieces import BACKWARD, piece_size
from attar.match.gradients import class_distances, joint_distance, slots
from attar.match.inner import Path, net_for
from attar.match.seen import seen
from attar.method import Batch, Cost, Descend, Method, Resources, Rows, State, positive, repeated
from attar.nets.fit import net_of, prefixed, unprefixed
from attar.optim import Opt
from attar.params import pixels, table
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class DCC(Method):
    """Matches one gradient of all classes together, so that what the classes share is not learned for each of them."""

    steps: int = 1000
    "Updates of the kept images; the paper's 1000 networks are 1000 x outer of them: give 10000 at 1 and 10 images per class."
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
    "Updates per network; by images per class where left out (1: 10, 10: 10, 50: 50)."
    inner: int | None = None
    "Epochs of inner training between two updates; by images per class where left out (1: 5, 10: 50, 50: 10)."
    warm: float = 0.25
    "Share of steps whose networks are matched class by class (250 of 1000 in the paper); a run may end by the clock within it."
    warm_updates: int = 10
    "Updates of a network after which it is matched for all classes together, from the first network on."
    start: str = "real"
    "First images: real or noise."
    net: str = "convnet"
    "Network whose gradients are matched."
    augment: str = "auto"
    "Siamese transforms joined by _, none (DCC), or auto (DSAC: all; no flip for digits and letters)."
    params: str = "pixels"
    "What the set is made of: pixels, or more images out of as many bytes: tiles, frequency, bases or memory, as tiles:factor=3."

    paper: ClassVar[str] = "Lee, Chun, Jung, Yun, Yoon. Dataset Condensation with Contrastive Signals. ICML 2022"
    quick: ClassVar[Mapping[str, Any]] = {
        "steps": 750,
        "batch": 32,
        "batch_net": 25,
        "inner": 5,
        "lr_net": 0.05,
        "lr_img": 0.6,
        "warm": 0.5,
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = repeated(
        ("cifar10", "cifar100"), {1: {"steps": 10_000}, 10: {"steps": 10_000}, 50: {"steps": 50_000}}
    )

    def __post_init__(self) -> None:
        pixels.check(self.start)
        positive(batch=self.batch, lr_img=self.lr_img, lr_net=self.lr_net, batch_net=self.batch_net)
        if not 0 <= self.warm <= 1:
            raise UsageError(f"warm={self.warm} is not in [0, 1]; the paper's share is 0.25")
        if self.warm_updates < 0:
            raise UsageError(f"warm_updates={self.warm_updates} must be 0 or more; the paper takes 10")
        _ = self.learn, self.path  # their settings are checked there

    @property
    def path(self) -> Path:
        """How each network is followed."""
        return Path(outer=self.outer, inner=self.inner, lr=self.lr_net, batch=self.batch_net, single=(10, 5))

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
        return {"real": x, "augment": ops, "net": net, "seeds": seeds, "step": step, "strategy": strategy}

    def together(self, step: int, outer: int) -> bool:
        """Whether an update matches all classes together: after the warm share of the networks, and late in each network."""
        update = step % outer
        return step - update >= self.warm * self.steps or update >= self.warm_updates

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        outer, _ = self.path.counts(table.largest(state))
        loss = self.loss if self.together(batch["step"], outer) else self.by_class
        return self.path.step(self.net, self.params, state, batch, descend, loss)

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        net, params = net_for(self.net, batch["real"]), unprefixed(state)
        return joint_distance(net, params, batch["real"], self.seen(state, batch), state["label"])

    @in_parts
    def by_class(self, state: State, batch: Batch) -> torch.Tensor:
        """The loss of the first networks: the distances of each class's gradients, summed."""
        net, params = net_for(self.net, batch["real"]), unprefixed(state)
        image = self.seen(state, batch)
        return class_distances(net, params, batch["real"], image, state["slot"], state["share"])

    def seen(self, state: State, batch: Batch) -> torch.Tensor:
        """The kept images under the transforms of their classes: [M, C, H, W]."""
        return augment(
            table.images(self.params, state), {name: v[state["label"]] for name, v in batch["augment"].items()}
        )

    def finish(self, state: State, res: Resources) -> Rows:
        recipe = {"protocol": "dc"} if self.augment == "none" else {"protocol": "dsa", "augment": self.augment}
        return table.rows(self.params, state, recipe)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        net, kept = net_of(self.net, real), table.decoded(self.params, real, budget)
        at_once, each = piece_size(net, kept, real.device, most=BACKWARD), table.expected(real, budget)
        how = {"kept": kept, "per_class": each, "at_once": at_once}
        return self.path.cost(net, classes=real.n_classes, batch=self.batch, **how)
