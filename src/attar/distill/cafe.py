"""CAFE: Wang, Zhao, Peng, Zhu, Yang, Wang, Huang, Bilen, Wang, You. CAFE: Learning to Condense Dataset by Aligning Features.
CVPR 2022. arXiv 2203.01531.

Align the mean maps of every class layer by layer; ask that the class means of the kept images' features classify the real ones;
and follow each network, trained on the kept images, for as long as its accuracy on real images says:

    loss = sum_l beta_l sum_k || mean_i A_l(real_ki) - mean_j A_l(kept_kj) ||^2
         + beta sum_k sum_i CE( f(real_ki) . [m_1 ... m_K], k )          m_k = mean_j f(kept_kj)

A_l are the activations of block l before its pooling (beta_l = ``early``, of the last block 1) and the features f. The official
loss holds f twice, as the last pooled map and flattened, which are the same numbers: its weight is 2 here. After each update the
accuracy is watched: ten in a row within ``lambda_1`` end the network; else it is trained on the kept images until ten epochs
differ by more than ``lambda_2``. The learning rate is halved at 0.6, 0.8 and 0.9 of the run.

Cost: a step is K batch + 3 M forwards and, an epoch of training, 3 M + K watch. Differs from the official code: ``steps`` counts
updates, of which each of its 2000 networks takes ten at least; the two loops have limits (``outer``, ``inner``); accuracy is
watched in evaluation mode, on images drawn once for an update and not for every epoch, and is the accuracy (the official sum is
not cleared between two looks, so that a K-th of each runs on into the next). Left out: the cross entropy of the real images,
which is added to the official loss but does not depend on the kept images. All shapes are free (there: 10 x 3 x 32 x 32).
The official evaluation trains for 600 epochs, and for 1000 with the augmentation of DSA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy

from attar.augment.siamese import augment
from attar.augment.strategy import strategy_for
from attar.budget import Budget
from attar.execute.compile import fast, in_parts
from attar.execute.pieces import FORWARD, logits, piece_size
from attar.match.inner import net_for, train
from attar.match.layers import layer_means, real_means, shares
from attar.match.seen import seen
from attar.method import GREY_AND_CIFAR, Batch, Cost, Descend, Method, Resources, Rows, State, positive, repeated
from attar.nets.build import build
from attar.nets.fit import activation_bytes, net_of, prefixed, unprefixed
from attar.nets.net import Net, Params
from attar.optim import Opt
from attar.params import pixels, table
from attar.real.realset import RealSet
from attar.seeds import Seeds

WINDOW = 10
"""Accuracies that are compared."""
HALVED = (0.6, 0.8, 0.9)
"""Where the learning rate is halved, as parts of the run."""


@dataclass(frozen=True, kw_only=True)
class CAFE(Method):
    """Matches the mean maps of every class at every layer, along networks followed by their accuracy."""

    steps: int = 20_000
    "Updates of the kept images; the paper's 2000 networks take at least ten each."
    batch: int = 256
    "Real images per class and step."
    watch: int = 128
    "Real images per class that the accuracy of a network is watched on."
    lr_img: float = 0.1
    "Learning rate of the kept images."
    momentum: float = 0.5
    "Momentum of the kept images."
    early: float = 0.1
    "Weight of the maps of every block but the last."
    beta: float = 0.01
    "Weight of the classification of real images by the kept images' means."
    lambda_1: float = 0.04
    "A network is left when ten accuracies in a row differ by less."
    lambda_2: float = 0.03
    "A network is trained until ten accuracies in a row differ by more."
    outer: int = 50
    "Most updates per network."
    inner: int = 50
    "Most epochs of training between two updates."
    lr_net: float = 0.01
    "Learning rate of the networks."
    batch_net: int = 256
    "Kept images a batch of the networks' training."
    start: str = "noise"
    "First images: real or noise."
    net: str = "convnet"
    "Network whose layers are matched: convnet, vgg11 or alexnet, or one that offers its layers."
    augment: str = "auto"
    "Siamese transforms joined by _, none (the paper's CAFE without DSA), or auto (all; no flip for digits and letters)."
    params: str = "pixels"
    "What the set is made of: pixels, or more images out of as many bytes: tiles, frequency, bases or memory, as tiles:factor=3."

    paper: ClassVar[str] = (
        "Wang, Zhao, Peng, Zhu, Yang, Wang, Huang, Bilen, Wang, You. "
        "CAFE: Learning to Condense Dataset by Aligning Features. CVPR 2022"
    )
    quick: ClassVar[Mapping[str, Any]] = {
        "steps": 600,
        "batch": 64,
        "watch": 32,
        "early": 0.01,
        "outer": 10,
        "inner": 1,
        "batch_net": 64,
        "start": "real",
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = repeated(GREY_AND_CIFAR, {1: {}, 10: {}, 50: {}})

    def __post_init__(self) -> None:
        pixels.check(self.start)
        positive(batch=self.batch, watch=self.watch, lr_img=self.lr_img, early=self.early, beta=self.beta)
        positive(lambda_1=self.lambda_1, lambda_2=self.lambda_2, outer=self.outer, inner=self.inner)
        positive(lr_net=self.lr_net, batch_net=self.batch_net)
        _ = self.learn  # the momentum is checked there

    @property
    def learn(self) -> dict[str, Opt]:
        return table.made_of(self.params).learn(Opt(lr=self.lr_img, momentum=self.momentum))

    def learned(self, state: State) -> dict[str, Opt]:
        """``learn`` with the learning rate of the update that the state is at."""
        halvings = sum(int(state["updates"]) >= part * self.steps for part in HALVED)
        return table.made_of(self.params).learn(Opt(lr=self.lr_img * 0.5**halvings, momentum=self.momentum))

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        state = table.first(self.params, real, budget, seeds, kind=self.start)
        net = net_of(self.net, real).init(seeds.at("net"))
        counts = {"updates": torch.tensor(0), "followed": torch.tensor(0)}  # of the run, of this network
        return {**state, **prefixed(net), **counts, "accuracy": torch.zeros(WINDOW)}

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        x, ops = seen(real, seeds, batch=self.batch, augment=self.augment)  # [K, B, C, H, W]
        watch = real.sample(self.watch, seeds.generator("watch"))  # [K, W]
        return {
            "real": x,
            "watch": real.draw(watch.flatten()).unflatten(0, watch.shape),  # [K, W, C, H, W]
            "augment": ops,
            "net": net_of(self.net, real).init(seeds.at("net"), device=real.device),
            "seeds": seeds,
            "strategy": strategy_for(self.augment, real),
        }

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """A fresh network where the last one was left, one update, then training unless this one is to be left."""
        net = net_for(self.net, batch["real"])
        if int(state["followed"]) == 0:
            state |= prefixed({name: v.clone() for name, v in batch["net"].items()})
        state = descend(state, self.loss, batch)
        state["updates"] += 1
        state["followed"] += 1
        now = accuracy(net, unprefixed(state), batch["watch"])
        state["accuracy"] = torch.cat([state["accuracy"][1:], state["accuracy"].new_tensor([now])])
        if self._settled(state):
            state["followed"] = torch.zeros_like(state["followed"])
        else:
            state |= prefixed(self._trained(net, state, batch))
        return state

    def _settled(self, state: State) -> bool:
        followed, last = int(state["followed"]), state["accuracy"]
        return followed >= self.outer or (followed >= WINDOW and float(last.max() - last.min()) < self.lambda_1)

    def _trained(self, net: Net, state: State, batch: Batch) -> Params:
        """The network after some epochs on the kept images."""
        params, image, last = unprefixed(state), table.images(self.params, state), []
        for epoch in range(self.inner):
            params = train(
                net,
                params,
                image,
                state["label"],
                epochs=1,
                lr=self.lr_net,
                batch=self.batch_net,
                strategy=batch["strategy"],
                seeds=batch["seeds"].at("inner", epoch),
            )
            last = [*last[1 - WINDOW :], accuracy(net, params, batch["watch"])]
            if len(last) == WINDOW and max(last) - min(last) > self.lambda_2:
                break
        return params

    @in_parts
    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        real, params = batch["real"], unprefixed(state)  # [K, B, C, H, W]
        k, b = real.shape[:2]
        label = torch.arange(k, device=real.device).repeat_interleave(b)  # [K B]
        target, f = real_means(
            net_for(self.net, real), params, real.flatten(0, 1), shares(label, k, real.dtype), every_layer
        )
        ops = {name: v[state["label"]] for name, v in batch["augment"].items()}
        image = table.images(self.params, state)  # [M, C, H, W]
        return fast(self.kept_loss)(params, image, state["label"], ops, target, f, label)

    def kept_loss(
        self,
        params: Params,
        image: torch.Tensor,
        label: torch.Tensor,
        ops: Params,
        target: list[torch.Tensor],
        real: torch.Tensor,
        real_label: torch.Tensor,
    ) -> torch.Tensor:
        """The loss where the real images' side is known.

        Args:
            image: [M, C, H, W]. label: int64 [M]. ops: siamese parameters, M rows.
            target: [K, D] of each layer. real: their features [K B, D]. real_label: int64 [K B].
        """
        k = len(target[-1])
        net = build(self.net, channels=image.shape[1], size=(image.shape[2], image.shape[3]), classes=k)
        means, _ = layer_means(net, params, augment(image, ops), shares(label, k, image.dtype), every_layer)
        *early, last, features = ((a - b).square().sum() for a, b in zip(means, target))
        with torch.autocast(image.device.type, enabled=False):
            classified = cross_entropy(real @ means[-1].T, real_label, reduction="sum")
        return torch.stack([*(self.early * gap for gap in early), last, 2 * features, self.beta * classified]).sum()

    def finish(self, state: State, res: Resources) -> Rows:
        plain = self.augment == "none"
        recipe = {"protocol": "dc"} if plain else {"protocol": "dsa", "augment": self.augment}
        return table.rows(self.params, state, recipe)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        net, kept = net_of(self.net, real), table.decoded(self.params, real, budget)
        images, watched = real.n_classes * self.batch, real.n_classes * self.watch
        epochs = min(self.inner, WINDOW)
        active = max(kept, piece_size(net, images, "cpu", most=FORWARD))
        return Cost(
            flops_per_step=2 * net.macs * (images + 3 * kept + watched + epochs * (3 * kept + watched)),
            memory=4 * real.example_bytes * (3 * images + watched + 12 * kept) + active * activation_bytes(net),
        )


def every_layer(maps: list[torch.Tensor], features: torch.Tensor) -> list[torch.Tensor]:
    """All maps, then the features."""
    return [*maps, features]


def accuracy(net: Net, params: Params, x: torch.Tensor) -> float:
    """Share of right answers to images x [K, W, C, H, W], each block of one class."""
    k, w = x.shape[:2]
    said = logits(net, params, x.flatten(0, 1)).argmax(1).unflatten(0, (k, w))  # [K, W]
    return float((said == torch.arange(k, device=x.device)[:, None]).float().mean())
