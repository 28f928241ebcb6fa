"""IDC: Kim, Kim, Oh, Yun, Song, Jeong, Ha, Song. Dataset Condensation via Efficient Synthetic-Data Parameterization.
ICML 2022. arXiv 2205.14959.

Pictures are regular, so a stored image may hold factor^2 small ones, decoded by enlarging each; gradients of a network keep
telling something where it is trained on real images and not on the few kept ones; and their size, not only their
direction, is matched, in convolutions alone:

    loss = sum_k D( grad_theta mean_i CE(f_theta(A_k(g(kept)_i)), k), grad_theta mean_j CE(f_theta(A_k(real_kj)), k) )
    g cuts each image into factor x factor tiles and enlarges them;  D(a, b) = ||a - b||^2 (mse), |a - b|_1 (l1) or cos

every ``outer`` updates a fresh theta; between them theta learns ``inner`` batches of real images with cutmix.

Cost: a step is 3 K batch + 7 M factor^2 forwards (``most`` per class at most), and 3 inner batch_net for the network.

Differs from the official code: it takes one step of SGD with momentum mu for each of K classes, which keeps moving the
others. What a class meets from one visit to the next is, without rounding, one step of momentum mu^K and of rate
lr (1 - mu^K) / (1 - mu): here all classes move at once by that rule, and the class that is last gets its whole step too.
Stored images are cut to [0, 1] at the end also. ``lr_img`` is scaled by images per class / 10, not by size. A network is
not trained after its last update, where nobody would see it. Batch norms are frozen while gradients are matched. No
networks trained ahead (early, pretrained) and no mixed factors (multi, bound). A class smaller than the batch is drawn with
replacement (there: taken whole). The preset of MNIST is that of tiles: untiled, the authors keep cutout and cutmix.
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
from attar.match.gradients import calibrate
from attar.match.inner import net_for
from attar.match.lessons import mixed_lessons
from attar.match.tiled import Tiled, begun
from attar.method import Batch, Cost, Descend, Method, Resources, Rows, State, positive
from attar.nets.fit import net_of, unprefixed
from attar.optim import Opt
from attar.params import pixels, tiles
from attar.real.realset import RealSet
from attar.seeds import Seeds


@dataclass(frozen=True, kw_only=True)
class IDC(Method):
    """Matches the gradients of tiled images along networks trained on real ones."""

    steps: int = 200_000
    "Updates of the kept images; the paper's 2000 networks are 2000 x outer of them."
    batch: int = 64
    "Real images per class and step."
    most: int = 128
    "Decoded images per class and step; a random part of the larger classes."
    factor: int = 2
    "Tiles a side of every stored image; the paper takes 3 for ImageNet and calls 1 IDC-I."
    metric: str = "mse"
    "Distance of gradients: mse (CIFAR, SVHN), l1 (MNIST, Fashion, ImageNet) or cos."
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
    "Share of the network's batches that are mixed; 1 for ImageNet. If more than 0, the network trains without cutout."
    augment: str = "color_crop_cutout"
    "Transforms joined by _, or none; a class's kept and real images share them. The paper leaves out cutout for tiled MNIST."
    start: str = "real"
    "First images: real (made smaller, one a tile) or noise."
    net: str = "convnet"
    "Network whose gradients are matched; the paper takes a ResNet-10 for ImageNet."

    by_channel: ClassVar[bool] = True
    comparable: ClassVar[bool] = False  # gradients grow with the age of each network
    paper: ClassVar[str] = (
        "Kim, Kim, Oh, Yun, Song, Jeong, Ha, Song. Dataset Condensation via Efficient Synthetic-Data Parameterization. "
        "ICML 2022"
    )
    quick: ClassVar[Mapping[str, Any]] = {"steps": 200, "batch": 32, "outer": 20, "inner": 8, "lr_img": 0.1}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mnist": {"metric": "l1", "lr_img": 1e-4, "inner": 8, "augment": "color_crop", "cutmix": 0.0},
        "fashion-mnist": {"metric": "l1", "lr_img": 1e-4 * (28 / 32) ** 2, "inner": 8},  # scaled by size there
        "svhn": {"inner": 8},
        "cifar10": {},
        "cifar100": {},
    }

    def __post_init__(self) -> None:
        pixels.check(self.start)
        siamese.parse(self.augment)
        positive(batch=self.batch, most=self.most, lr_img=self.lr_img, outer=self.outer, inner=self.inner)
        positive(batch_net=self.batch_net)
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
        first = tiles.start(real, budget, seeds, kind=self.start, factor=self.factor)
        return self.tiled.state(real, net_of(self.net, real), first, seeds)

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        ops = idc.draw_by_class(self.augment, real.n_classes, seeds.generator("augment"), size=real.shape[1:])
        ops = {name: v.to(real.device) for name, v in ops.items()}
        index = real.sample(self.batch, seeds.generator("real"))  # [K, B]
        x = idc.augment_by_class(real.draw(index.flatten()).unflatten(0, index.shape), ops)  # [K, B, C, H, W]
        net = net_of(self.net, real).init(seeds.at("net"), device=real.device)
        batch = {"real": x, "augment": ops, "net": net, "seeds": seeds, "step": step}
        if step % self.outer == self.outer - 1:  # the next step begins with another network
            return batch
        how = {"batches": self.inner, "batch": self.batch_net, "strategy": self.augment}
        return {**batch, "lessons": mixed_lessons(real, seeds.at("lessons"), share=self.cutmix, **how)}

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        net = net_for(self.net, batch["real"])
        if batch["step"] % self.outer == 0:
            state |= begun(net, batch["net"])
            state["image"].clamp_(0, 1)
        calibrate(net, unprefixed(state), batch["real"][:, :16].flatten(0, 1))
        state = descend(self.tiled.renewed(state, batch["seeds"]), self.loss, batch)
        return state | self.tiled.trained(net, state, batch["lessons"]) if "lessons" in batch else state

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        return self.tiled.loss(net_for(self.net, batch["real"]), state, batch["real"], batch["augment"])

    def finish(self, state: State, res: Resources) -> Rows:
        return self.tiled.rows(state)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        net, lessons = net_of(self.net, real), (self.inner, self.batch_net)
        return self.tiled.cost(net, real, budget, batch=self.batch, lessons=lessons, outer=self.outer)
