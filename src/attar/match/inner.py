"""The path of gradient matching: networks that are trained on the kept examples while these are being learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from attar.augment import Augment
from attar.errors import UsageError
from attar.execute.pieces import BACKWARD, piece_size, weight_gradient
from attar.match.gradients import calibrate
from attar.method import Batch, Cost, Descend, Loss, State
from attar.nets.build import build
from attar.nets.fit import activation_bytes, prefixed, unprefixed
from attar.nets.net import Net
from attar.params.table import images, largest
from attar.seeds import Seeds

Params = dict[str, torch.Tensor]


def loops(per_class: int) -> tuple[int, int]:
    """(outer, inner) of gradient matching for a number of images per class.

    The published table is (1, 1), (10, 50), (20, 25), (30, 20), (40, 15), (50, 10) at 1, 10, 20, 30, 40, 50. Our rule for
    other numbers: that of the nearest published one below, with as many outer steps as images per class, 50 at most;
    below 10 the inner epochs are those of 10.
    """
    inner = {1: 1, 10: 50, 20: 25, 30: 20, 40: 15, 50: 10}
    if per_class in inner:
        return per_class, inner[per_class]
    below = max((k for k in inner if 10 <= k <= per_class), default=10)
    return min(per_class, 50), inner[below]


@dataclass(frozen=True, kw_only=True)
class Path:
    """How long each network is followed and how it is trained on the way.

    Args:
        outer: updates of the kept examples per network; None: by images per class that the budget asks for.
        inner: epochs of training between two updates; None: by the same.
        lr: learning rate of the network.
        batch: kept examples a batch.
        single: (outer, inner) at one image per class, where a paper's table begins in another way.
    """

    outer: int | None
    inner: int | None
    lr: float
    batch: int
    single: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        for name in ("outer", "inner", "batch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")

    def counts(self, per_class: int) -> tuple[int, int]:
        """(outer, inner) for a number of images per class."""
        outer, inner = loops(per_class) if per_class > 1 else self.single
        return self.outer or outer, self.inner or inner

    def step(self, spec: str, params: str, state: State, batch: Batch, descend: Descend, loss: Loss) -> State:
        """A fresh network where one is due, one update of the kept examples, then inner training unless it was the last.

        Args:
            spec: the network. params: what the set is made of (:mod:`attar.params.table`).
            state: with ``net.*``, ``label`` and the learned tensors.
            batch: with ``net`` (fresh parameters), ``real`` [K, B, C, H, W], ``step``, ``seeds`` and the
                ``strategy`` of the training images' transforms.
        """
        outer, inner = self.counts(largest(state))
        net = net_for(spec, batch["real"])
        if batch["step"] % outer == 0:
            state |= prefixed({k: v.clone() for k, v in batch["net"].items()})
        calibrate(net, unprefixed(state), batch["real"][:, :16].flatten(0, 1))
        state = descend(state, loss, batch)
        if batch["step"] % outer < outer - 1:
            state |= prefixed(self._train(net, images(params, state), state, batch, inner))
        return state

    def _train(self, net: Net, image: torch.Tensor, state: State, batch: Batch, epochs: int) -> Params:
        return train(
            net,
            unprefixed(state),
            image,
            state["label"],
            epochs=epochs,
            lr=self.lr,
            batch=self.batch,
            strategy=batch["strategy"],
            seeds=batch["seeds"].at("inner"),
        )

    def cost(self, net: Net, *, classes: int, batch: int, kept: int, per_class: int, at_once: int = 0) -> Cost:
        """Estimate of a step: 3 F an image for a gradient, 7 F for one that is differentiated again, F a forward.

        Args:
            batch: real images per class. kept: M. per_class: images of a class that are asked for, of which M may be decoded.
            at_once: kept images in one graph of the second order, where these are more than one class's.
        """
        outer, inner = self.counts(per_class)
        images = 3 * classes * batch + 7 * kept + 3 * kept * inner * (outer - 1) / outer
        alive = max(piece_size(net, batch, "cpu", most=BACKWARD), 3 * kept // classes, 2 * at_once)
        pixels = 4 * net.channels * net.size[0] * net.size[1]
        return Cost(
            flops_per_step=2 * net.macs * images,
            memory=3 * pixels * classes * batch + 3 * activation_bytes(net) * alive,
        )


def net_for(spec: str, real: torch.Tensor) -> Net:
    """The network that fits images [K, B, C, H, W] of K classes."""
    k, _, c, h, w = real.shape
    return build(spec, channels=c, size=(h, w), classes=k)


def train(
    net: Net,
    params: Params,
    image: torch.Tensor,
    label: torch.Tensor,
    *,
    epochs: int,
    lr: float,
    batch: int,
    strategy: str,
    seeds: Seeds,
) -> Params:
    """Trains a network on the kept examples by plain SGD without momentum.

    Args:
        params: the network now; not changed.
        image: [M, C, H, W], detached. label: int64 [M].
        strategy: transforms of the training images, "none" for none (not siamese: every image has its own parameters).

    Returns:
        The trained parameters.
    """
    image, augment = image.detach(), Augment.parse(strategy)

    def lessons() -> Iterator[Lesson]:
        for epoch in range(epochs):
            order = torch.randperm(len(image), generator=seeds.generator("order", epoch)).to(image.device)
            for i, index in enumerate(order.split(batch)):
                yield augment(image[index], seeds.generator("augment", epoch, i)), label[index]

    size = piece_size(net, min(batch, len(image)), image.device, most=BACKWARD)
    return sgd(net, params, lessons(), lr=lr, size=size)[0]


Lesson = tuple[torch.Tensor, torch.Tensor]
"""A batch: images [B, C, H, W] and classes int64 [B] or distributions [B, K]."""


def sgd(
    net: Net,
    params: Params,
    lessons: Iterable[Lesson],
    *,
    lr: float,
    momentum: float = 0.0,
    decay: float = 0.0,
    velocity: Params | None = None,
    size: int | None = None,
) -> tuple[Params, Params]:
    """Trains a network on one batch after another.

    v = momentum v + grad + decay w;  w = w - lr v

    Args:
        params: the network now; not changed, but for running statistics of batch norms.
        velocity: v of every trainable tensor, where there is momentum; not changed.
        size: images of one piece (:func:`attar.execute.pieces.weight_gradient`).

    Returns:
        The trained parameters, and v.
    """
    params, velocity = dict(params), dict(velocity or {})
    for x, y in lessons:
        even = torch.full((len(x),), 1 / len(x), dtype=x.dtype, device=x.device)
        for name, grad in weight_gradient(net, params, x, y, even, size=size)[1].items():
            if decay:
                grad = grad + decay * params[name]
            if momentum:
                grad = velocity[name] = momentum * velocity[name] + grad
            params[name] = params[name] - lr * grad
    return params, velocity
