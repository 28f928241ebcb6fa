"""NCFM: Wang, Yang, Liu, Sun, Hu, He, Zhang. Dataset Distillation with Neural Characteristic Function: A Minmax Perspective.
CVPR 2025. arXiv 2502.20653.

Two distributions are equal where their characteristic functions are. Compare, class by class, those of the normalised features
f of real and of kept images at random frequencies t, under networks on the line between first and trained weights:

    phi(t) = mean_i exp(i <t, f(A(x_i))>),   t ~ N(0, I)
    loss = 300 sum_k mean_t sqrt( alpha (|phi_r| - |phi_s|)^2 + (1 - alpha) 2 (|phi_r| |phi_s| - Re phi_r conj(phi_s)) )

With alpha = 1/2 the root is |phi_r - phi_s| / sqrt 2. With ``sampler`` a small network turns noise into frequencies and learns
where the two differ most, climbing the loss that the images descend: the minmax of the title. A second update of each step
lowers the cross entropy of the kept images under a trained network. Stored images hold factor x factor tiles, as in IDC, and
stay in [0, 1].

Cost: K batch + 6 M factor^2 forwards a step, and 2 F D for each of their features (F frequencies). The trained networks are
experts, of which only the last snapshot is used. Differs from the official code: real images are drawn anew for every step
(there, always the first 1024 of a class) and the kept ones are never stale; the frequencies are shared by the classes of a
step; all classes make one step and not one each, with a rate sqrt K times as large, since AdamW divides by gradients that
are zero but once in K steps there; the rate does not fall when the loss stands still, and there is no weight decay. 4096
frequencies as in the released settings (the text says 1024). The networks are trained at a constant rate in batches of 256,
each under one of DSA's transforms (there: the rate falls to a fifth at two thirds and at five sixths, batches of 128, half
of them with cutmix). The sampler is off, as in the settings released first; it makes F / 16 frequencies, which there are
repeated sixteen times (the same mean), makes one step for all classes and not one each, and has no weight decay. Calibration
sees the kept images under the transforms of the matching update (there: under others). One kind of movement is drawn for all
classes of a step (there, one for each; the default has one kind, the crop). CIFAR-100 at 10 images per class is
descended by SGD there. For networks deeper than five blocks the released code sums the loss over chosen layers: ``layers``,
here for networks of every depth, each layer with frequencies of its own; which layers, no released setting says, and its
networks lack the method that would give them, so the default stays with the features. A block gives its map after the
activation, averaged over 2 x 2 pixels (a ConvNet's pooling), the last one the features. The published accuracies are the best
of 2000 epochs of AdamW in batches of 128; users found less for one image per class and for Tiny-ImageNet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy, normalize

from attar.augment import idc, siamese
from attar.budget import Budget
from attar.errors import UsageError
from attar.execute.pieces import FORWARD, features, piece_size, widened
from attar.match import sampler as sampling
from attar.match.characteristic import characteristic, output_widths, outputs, paired
from attar.match.layers import layer_means, real_means, shares
from attar.method import Batch, Cost, Descend, Method, Resources, Rows, State, positive, repeated
from attar.nets.build import build
from attar.nets.fit import activation_bytes, net_of
from attar.nets.net import Net, Params
from attar.optim import Opt
from attar.params import tiles
from attar.params.pixels import check
from attar.real.realset import RealSet
from attar.resources.experts import Expert, experts, name_of, snapshot
from attar.resources.features import Features
from attar.seeds import Seeds

SCALE = 300
"""What the official code multiplies the loss by."""
REPEATS = 16
"""How often the official code repeats each frequency that its sampler makes."""
SMALLEST = 1e-12
"""Below it a squared difference has no root that could be differentiated."""


@dataclass(frozen=True, kw_only=True)
class NCFM(Method):
    """Matches the characteristic function of every class's features at random frequencies."""

    steps: int = 20_000
    "Steps, each of one matching and one calibrating update."
    batch: int = 1024
    "Real images per class and step."
    frequencies: int = 4096
    "Random frequencies at which the characteristic functions are compared."
    alpha: float = 0.5
    "Weight of the amplitudes, from 0 to 1; the phases have the rest."
    lr_img: float = 0.001
    "Learning rate of the kept images for one class; all classes together take it times the root of their number."
    sampler: bool = False
    "Whether a network learns the frequencies at which the two differ most, a sixteenth as many."
    lr_sampler: float = 0.001
    "Its learning rate."
    layers: str = "last"
    "What is compared: last (the features), or the sum over blocks of the network, from 1 and joined by _, as 4_5_6."
    calibrate: bool = True
    "Whether trained networks must recognise the kept images."
    factor: int = 2
    "Tiles a side of each stored image; the released settings take 2, for ImageNet too."
    experts: int = 20
    "Trained networks."
    epochs: int = 60
    "Passes over the real set in their training."
    seed_expert: int = 0
    "Their seed, whatever that of the run is: runs of all seeds share them."
    start: str = "real"
    "First images: real or noise."
    net: str = "convnet"
    "Network whose features are compared."
    augment: str = "color_crop_cutout"
    "Siamese transforms of IDC joined by _, or none."

    by_channel: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Wang, Yang, Liu, Sun, Hu, He, Zhang. "
        "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective. CVPR 2025"
    )
    quick: ClassVar[Mapping[str, Any]] = {
        "steps": 300,
        "batch": 256,
        "frequencies": 256,
        "experts": 3,
        "epochs": 5,
        "lr_img": 0.002,
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **repeated(("cifar10",), {1: {}, 10: {}, 50: {}}),
        **repeated(("cifar100",), {1: {"batch": 500}, 10: {"batch": 500}, 50: {"batch": 500}}),  # whole classes
        **repeated(("tiny-imagenet",), {1: {"batch": 128}, 10: {"batch": 128}, 50: {"batch": 128}}),
        **repeated(("imagenet-subset-128",), {1: {"batch": 128, "epochs": 80}, 10: {"batch": 128, "epochs": 80}}),
    }

    def __post_init__(self) -> None:
        check(self.start)
        tiles.check(self.factor)
        siamese.parse(self.augment)
        positive(batch=self.batch, frequencies=self.frequencies, lr_img=self.lr_img, experts=self.experts)
        positive(lr_sampler=self.lr_sampler)
        if self.sampler and self.learnable < 2:
            raise UsageError(
                f"frequencies={self.frequencies} leave the sampler fewer than two; take {2 * REPEATS} or more"
            )
        several = len(self.blocks) > 0
        if self.sampler and several:
            raise UsageError(
                f"the sampler learns frequencies of the last layer alone, not of layers={self.layers}; take last"
            )
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha={self.alpha} is not between 0 and 1; try 0.5")
        self.needs()  # the epochs are checked there

    @property
    def comparable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Not where the frequencies climb the loss."""
        return not self.sampler

    @property
    def learnable(self) -> int:
        """How many frequencies the sampler makes."""
        return math.ceil(self.frequencies / REPEATS)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks that are compared, from 1; empty where the features are."""
        parts = [] if self.layers == "last" else self.layers.split("_")
        if len({*parts}) < len(parts) or not all(n.isdecimal() and int(n) > 0 for n in parts):
            raise UsageError(
                f"layers='{self.layers}' is neither last nor blocks of the network from 1, each once, joined by _; try 4_5_6"
            )
        return tuple(map(int, parts))

    @property
    def learn(self) -> dict[str, Opt]:
        sampler = Opt(lr=self.lr_sampler, momentum=0.5)
        image = Opt(kind="adamw", lr=self.lr_img, project=(0, 1))
        return {"image": image, **(dict.fromkeys(sampling.NAMES, sampler) if self.sampler else {})}

    def learned(self, state: State) -> dict[str, Opt]:
        """``learn`` with the learning rate for all classes together: labels are sorted, and the last class has images."""
        classes = int(state["label"][-1]) + 1
        return {**self.learn, "image": Opt(kind="adamw", lr=self.lr_img * math.sqrt(classes), project=(0, 1))}

    def needs(self) -> tuple[Expert, ...]:
        how = {"epochs": self.epochs, "momentum": 0.9, "weight_decay": 5e-4, "seed": self.seed_expert}
        return experts(self.experts, net=self.net, **how)

    def init(self, real: RealSet, budget: Budget, seeds: Seeds, res: Resources) -> State:
        first = tiles.start(real, budget, seeds, kind=self.start, factor=self.factor)
        mean, std = real.channels()
        state = {"image": real.pixels(first["image"]).clamp(0, 1), "label": first["label"], "mean": mean, "std": std}
        return {**state, **(sampling.first(self._widths(real)[0], seeds) if self.sampler else {})}

    def _widths(self, real: RealSet) -> list[int]:
        """Numbers of what each layer gives for an image."""
        if not self.blocks:
            return [Features(source="random", net=self.net).width(real)]
        return list(output_widths(net_of(self.net, real), self.blocks))

    def draw(self, real: RealSet, seeds: Seeds, res: Resources, step: int) -> Batch:
        net, k = net_of(self.net, real), real.n_classes
        ops = idc.draw(self.augment, k, seeds.generator("augment"), size=real.shape[1:])
        ops = {name: v.to(real.device) for name, v in ops.items()}
        label = torch.arange(k, device=real.device).repeat_interleave(self.batch)  # [K B]
        index = real.sample(self.batch, seeds.generator("real"))  # [K, B]
        x = idc.augment(real.draw(index.flatten()), {name: v[label] for name, v in ops.items()})
        generator = seeds.generator("expert")
        expert = res[name_of(int(torch.randint(self.experts, (), generator=generator)))]
        share = float(torch.rand((), generator=generator))
        begin, end = ({n: v.to(real.device) for n, v in snapshot(expert, e).items()} for e in (0, self.epochs))
        fresh = net.init(seeds.at("net"), device=real.device)  # for the buffers of batch norms, which an expert has not
        params = {**fresh, **{n: share * v + (1 - share) * end[n] for n, v in begin.items()}}
        nets = {"augment": ops, "net": params, "trained": {**fresh, **end}}
        generator = seeds.generator("frequencies")
        count = self.learnable if self.sampler else self.frequencies
        t = [torch.randn(count, width, generator=generator).to(x.device) for width in self._widths(real)]  # [F, D] each
        if self.sampler:
            return {**nets, "noise": t[0], "seen": normalize(features(net, params, x)).unflatten(0, (k, self.batch))}
        target = self._wanted(net, params, x, shares(label, k, x.dtype), t)
        return {**nets, "frequencies": named(t), "target": named(target)}

    def _wanted(
        self, net: Net, params: Params, x: torch.Tensor, share: torch.Tensor, t: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """The characteristic functions of the real classes [2, K, F] at each layer; x holds as many images of every class."""
        if self.blocks:
            return paired(real_means(net, params, x, share, self.seen, *t)[0])
        seen = normalize(features(net, params, x)).unflatten(0, (-1, self.batch))  # [K, B, D]
        return [torch.stack([characteristic(of_class, t[0]).mean(1) for of_class in seen], 1)]

    def seen(self, maps: list[torch.Tensor], features: torch.Tensor, *t: torch.Tensor) -> list[torch.Tensor]:
        """exp(i <t, f>) of what each chosen block gives: [B, 2, F] each."""
        given = outputs(maps, features, self.blocks)
        return [characteristic(normalize(f), at).movedim(0, 1) for f, at in zip(given, t)]

    def step(self, state: State, batch: Batch, descend: Descend) -> State:
        """One matching update, in which the sampler climbs, and one calibrating update."""
        state = descend(state, self.loss, batch)
        return descend(state, self.calibration, batch, ("image",)) if self.calibrate else state

    def loss(self, state: State, batch: Batch) -> torch.Tensor:
        t, targets = self._compared(state, batch)  # [F, D] and [2, K, F] of each layer
        net, x, share = self._view(state, batch, targets[0].shape[1])
        found = self._found(net, batch["net"], x, share, t)
        return SCALE * torch.stack([self.gap(a, b) for a, b in zip(found, targets)]).sum()

    def _found(
        self, net: Net, params: Params, x: torch.Tensor, share: torch.Tensor, t: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """The characteristic functions of the kept classes [2, K, F] at each layer."""
        if self.blocks:
            return paired(layer_means(net, params, x, share, self.seen, *t)[0])
        f = normalize(widened(net.features(params, x, update=False)))  # [M f f, D]
        with torch.autocast(x.device.type, enabled=False):
            return [share.T @ characteristic(f, t[0])]

    def gap(self, found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How far two characteristic functions [2, K, F] are apart: mean over frequencies, summed over classes."""
        length, wanted = (v.square().sum(0).add(SMALLEST).sqrt() for v in (found, target))  # [K, F]
        amplitude = (length - wanted).square()
        phase = 2 * (length * wanted - (found * target).sum(0))
        gap = self.alpha * amplitude + (1 - self.alpha) * phase
        return gap.clamp(min=SMALLEST).sqrt().mean(1).sum()

    def _compared(self, state: State, batch: Batch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The frequencies [F, D] of each layer, and the real classes' characteristic functions there [2, K, F]."""
        if not self.sampler:
            return list(batch["frequencies"].values()), list(batch["target"].values())
        with torch.autocast(batch["noise"].device.type, enabled=False):
            t = sampling.frequencies(sampling.climbing(state), batch["noise"])
            return [t], [characteristic(batch["seen"], t).mean(2)]

    def calibration(self, state: State, batch: Batch) -> torch.Tensor:
        """The cross entropy of the kept images under a trained network, a mean over each class, summed."""
        classes = len(batch["seen"]) if self.sampler else batch["target"]["0"].shape[1]
        net, x, share = self._view(state, batch, classes)
        logits = widened(net(batch["trained"], x, update=False))  # [M f f, K]
        label = state["label"].repeat_interleave(self.factor**2)
        return (cross_entropy(logits, label, reduction="none") * share.sum(1)).sum()

    def _view(self, state: State, batch: Batch, classes: int) -> tuple[Net, torch.Tensor, torch.Tensor]:
        """The network, the decoded and transformed images [M f f, C, H, W], and their shares [M f f, K]."""
        image = (tiles.decode(state["image"], self.factor) - state["mean"]) / state["std"]
        label = state["label"].repeat_interleave(self.factor**2)
        net = build(self.net, channels=image.shape[1], size=(image.shape[2], image.shape[3]), classes=classes)
        x = idc.augment(image, {name: v[label] for name, v in batch["augment"].items()})
        return net, x, shares(label, classes, x.dtype)

    def finish(self, state: State, res: Resources) -> Rows:
        decoded, label = tiles.decode(state["image"], self.factor), state["label"].repeat_interleave(self.factor**2)
        stored, decoded = ((x - state["mean"]) / state["std"] for x in (state["image"], decoded))
        source = {"image": stored, "label": state["label"]} if self.factor > 1 else {}
        recipe = {"protocol": "idc", "tiles": self.factor}
        return Rows(columns={"image": decoded, "label": label}, stored=source, recipe=recipe)

    def cost(self, real: RealSet, budget: Budget) -> Cost:
        net, kept = net_of(self.net, real), budget.total(real.sizes, real.example_bytes)
        images, decoded = real.n_classes * self.batch, kept * self.factor**2
        widths, f = self._widths(real), self.learnable if self.sampler else self.frequencies
        width, held = sum(widths), decoded * sum(widths) if self.blocks else 0
        learned = images * (width + 6.0 * f) + 20 * width**2 if self.sampler else 0.0
        active = max(decoded, piece_size(net, images, "cpu", most=FORWARD))
        return Cost(
            flops_per_step=2 * net.macs * (images + 6 * decoded)
            + 2 * f * width * ((3 if self.sampler else 1) * images + 3 * decoded),
            memory=4 * real.example_bytes * (3 * images + 12 * decoded)
            + active * activation_bytes(net)
            + 4 * f * (width + len(widths) * max(3 * self.batch, 5 * decoded))
            + 4 * (learned + 4 * held)
            + 16 * net.n_parameters,
        )


def named(tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """A list as a part of a batch."""
    return {str(i): v for i, v in enumerate(tensors)}
