"""DREAM: Liu, Gu, Wang, Zhu, Jiang, You. DREAM: Efficient Dataset Distillation by Representative Matching. ICCV 2023.
arXiv 2302.14416.

Random real images make noisy and biased targets. Cut each class into clusters by what the network of the moment sees, match the
images nearest to the centres, and cluster anew every ``interval`` updates; the rest is IDC:

    real_k = the image of class k nearest to c_j, for the ``batch`` centres c_j of k-means on f_theta(images of class k)
    loss = sum_k D( grad_theta mean_i CE(f_theta(A_k(g(kept)_i)), k), grad_theta mean_j CE(f_theta(A_k(real_kj)), k) )

The first images are such representatives too, for a fresh network. ``factor`` 1, the default here, is the paper's plain setting;
it takes 2 beside IDC.

Cost: that of IDC, and every ``interval`` updates a forward of every real image and k-means of each class, up to 100 n batch D
multiply-adds for n images and D features.

Differs from the official code: as IDC here (all classes move at once, by the rule of :mod:`attar.distill.idc`); two clusters
never share a representative while the class has others; ``pool`` may bound the images that are clustered; networks are not
trained before their first clustering, which the authors advise for residual ones; batch norms have their first statistics
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attar.augment import idc, siamese
from attar.budget import Budget
from attar.errors import UsageError
from attar.execute.compile import in_parts
from attar.execute.pieces import FORWARD, features, piece_size
from attar.match.gradients import calibrate
from attar.match.inner import net_for
from attar.match.lessons import mixed_lessons
from attar.match.representatives import representatives
from attar.match.tiled import Tiled, begun
from attar.method import Batch, Cost, Descend, Method, Resources, Rows, State, positive
from attar.nets.fit import activation_bytes, net_of, unprefixed
from attar.nets.net import Net, Params
from attar.optim import Opt
from attar.params import pixels, tiles
from attar.real.realset import RealSet
from attar.resources.features import Features
from attar.seeds import Seeds

STARTS = ("clusters", "real", "noise")


@dataclass(frozen=True, kw_only=True)
class DREAM(Method):
    """Matches gradients on the real images that stand for the clusters of their class."""

    steps: int = 200_000
    "Updates of the kept images; the paper's 2000 networks are 2000 x outer of them, and 8 times fewer reach IDC."
    batch: int = 128
    "Clusters of every class, and so real images per class and step; the paper takes 64 for Tiny ImageNet."
    interval: int = 10
    "Updates between two clusterings."
    pool: int | None = None
    "Images of a class that are clustered, a random part of larger classes; all where left out."
    most: int = 128
    "Decoded images per class and step; a random part of the larger classes."
    factor: int = 1
    "Tiles a side of every stored image."
    metric: str = "mse"
    "Distance of gradients: mse (CIFAR, SVHN, Tiny), l1 (MNIST, Fashion, ImageNet) or cos."
    lr_img: float = 0.005
    "Learning rate at 10 images per class; with l1 the paper takes 1e-4 for grey images and 3e-3 for ImageNet."
    momentum: float = 0.5
    "Momentum of the official steps, one for each class, whose course is followed."
    outer: int = 100
    "Updates per network."
    inner: int = 32
    "Batches of real images that train the network between two updates; the paper's 2000 images, or 8 for its 500."
    batch_net: int = 64
    "Real images a batch of the network's training."
    lr_net: float = 0.01
    "Learning rate of the network."
    momentum_net: float = 0.9
    "Momentum of the network."
    decay_net: float = 5e-4
    "Weight decay of the network."
    cutmix: float = 0.5
    "Share of the network's batches that are mixed; if more than 0, the network trains without cutout."
    augment: str = "color_crop_cutout"
    "Transforms joined by _, or none; a class's kept and real images share them."
    start: str = "clusters"
    "First images: clusters (representatives), real (random) or noise."
    net: str = "convnet"
    "Network whose gradients are matched and whose features are clustered."

    by_channel: ClassVar[bool] = True
    comparable: ClassVar[bool] = False  # gradients grow with the age of each network
    paper: ClassVar[str] = (
        "Liu, Gu, Wang, Zhu, Jiang, You. DREAM: Efficient Dataset Distillation by Representative Matching. ICCV 2023"
    )
    quick: ClassVar[Mapping[str, Any]] = {
        "steps": 200,
        "batch": 32,
        "pool": 600,
        "factor": 2,
        "outer": 20,
        "inner": 8,
        "lr_img": 0.05,
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mnist": {"metric": "l1", "lr_img": 1e-4, "inner": 8},
        "fashion-mnist": {"metric": "l1", "lr_img": 1e-4 * (28 / 32) ** 2, "inner": 8},  # scaled by size there
        "svhn": {"inner": 8},
        "cifar10": {},
        "cifar100": {},
        "tiny-imagenet": {"batch": 64},
    }

    def __post_init__(self) -> None:
        pixels.check(self.start, known=STARTS)
        siamese.parse(self.augment)
        positive(batch=self.batch, interval=self.interval, pool=self.pool, most=self.most, lr_img=self.lr_img)
        positive(outer=self.outer, inner=self.inner, batch_net=self.batch_net)
        if not 0 <= self.cutmix <= 1:
            raise UsageError(f"cutmix={self.cutmix} is not in [0, 1]; the paper's share is 0.5")
        _ = self.tiled  # its settings are checked there

    @property
    def tiled(self) -> Tiled:
        """How tiled images are matched."""
        return Tiled(
            factor=self.factor,
            most=self.most,
            metric=self.metric,
            lr_img=self.lr_img,
            momentum=self.momentum,
            lr_net=self.lr_net,
            momentum_net=self.momentum_net,
            decay_net=self.decay_net,
        )

    def learned(self, state: State) -> dict[str, Opt]:
        return self.tiled.learned(state)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        net = net_of(self.net, real)
        kind = "noise" if self.start == "noise" else "real"  # of as many as there are, where they are real
        first = tiles.start(real, budget, seeds, kind=kind, factor=self.factor)
        if self.start == "clusters":
            params = net.init(seeds.at("start"), device=real.device)
            counts = torch.bincount(first["label"], minlength=real.n_classes).tolist()
            picks = [self._first(real, net, params, k, n, seeds) for k, n in enumerate(counts)]
            stored = [
                tiles.encode(real.draw(part).cpu(), self.factor) for part in torch.cat(picks).split(64 * self.factor**2)
            ]
            first = {**first, "image": torch.cat(stored)}
        index = real.sample(self.batch, seeds.generator("picked"))  # [K, B]
        picked = real.raw(index.flatten()).cpu().unflatten(0, index.shape)
        return {**self.tiled.state(real, net, first, seeds), "picked": picked}

    def _first(self, real: RealSet, net: Net, params: Params, k: int, n: int, seeds: Seeds) -> torch.Tensor:
        """Positions of the representatives of class k that n stored images begin with: int64 [n f f]."""
        members = self._pool(real, k, seeds)
        f = features(net, params, real.draw(members), train=not net.has_batch_statistics)
        return members[representatives(f, n * self.factor**2, seeds.generator("start", k)).cpu()]

    def _pool(self, real: RealSet, k: int, seeds: Seeds) -> torch.Tensor:
        """Positions of the images of class k that are clustered."""
        members = real.classes[k]
        if self.pool is None or self.pool >= len(members):
            return members
        return members[torch.randperm(len(members), generator=seeds.generator("pool", k))[: self.pool]]

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        ops = idc.draw_by_class(self.augment, real.n_classes, seeds.generator("augment"), size=real.shape[1:])
        net = net_of(self.net, real).init(seeds.at("net"), device=real.device)
        batch = {"augment": {n: v.to(real.device) for n, v in ops.items()}, "net": net, "seeds": seeds, "step": step}
        if step % self.outer % self.interval == 0:
            pools = [self._pool(real, k, seeds) for k in range(real.n_classes)]
            batch |= {"pool": {str(k): real.raw(pool).to(real.device) for k, pool in enumerate(pools)}}
        if step % self.outer == self.outer - 1:  # the next step begins with another network
            return batch
        how = {"batches": self.inner, "batch": self.batch_net, "strategy": self.augment}
        return {**batch, "lessons": mixed_lessons(real, seeds.at("lessons"), share=self.cutmix, **how)}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        net = net_for(self.net, state["picked"])
        if batch["step"] % self.outer == 0:
            state |= begun(net, batch["net"])
            state["image"].clamp_(0, 1)
        for k, pool in batch.get("pool", {}).items():
            state["picked"][int(k)] = self._represent(net, state, pool, batch["seeds"].generator("clusters", k))
        calibrate(net, unprefixed(state), normalised(state["picked"][:, :16].flatten(0, 1), state))
        state = descend(self.tiled.renewed(state, batch["seeds"]), self.loss, batch)
        return state | self.tiled.trained(net, state, batch["lessons"]) if "lessons" in batch else state

    def _represent(self, net: Net, state: State, pool: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The representatives of a class for the network of the state: uint8 [n, C, H, W] -> [B, C, H, W]."""
        train = not net.has_batch_statistics
        f = features(net, unprefixed(state), normalised(pool, state), train=train)  # [n, D]
        return pool[representatives(f, self.batch, generator)]

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        real = idc.augment_by_class(normalised(state["picked"], state), batch["augment"])  # [K, B, C, H, W]
        return self.tiled.loss(net_for(self.net, real), state, real, batch["augment"])

    def finish(self, state: State, res: Resources) -> Rows:
        return self.tiled.rows(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        net, lessons = net_of(self.net, real), (self.inner, self.batch_net)
        matching = self.tiled.cost(net, real, budget, batch=self.batch, lessons=lessons, outer=self.outer)
        pools = [min(n, self.pool or n) for n in real.sizes]
        width = Features(source="random", net=self.net).width(real)
        clustering = sum(pools) * (2 * net.macs + 100 * 4 * self.batch * width) / min(self.interval, self.outer)
        held = real.example_bytes * (sum(pools) + 4 * max(pools)) + 4 * max(pools) * (width + 4 * self.batch)
        held += piece_size(net, max(pools), "cpu", most=FORWARD, train=False) * activation_bytes(net)
        return Cost(flops_per_step=matching.flops_per_step + clustering, memory=matching.memory + held)


def normalised(pixels: torch.Tensor, state: State) -> torch.Tensor:
    """8-bit pixels in the space that networks see: uint8 [..., C, H, W] -> [..., C, H, W]."""
    return (pixels.to(state["mean"].dtype) / 255 - state["mean"]) / state["std"]
