"""Trains one network on a set, and counts what it gets right.

The batches and the augmentation of an epoch are pure functions of (seeds, epoch). The gradient of a batch is taken in pieces
(:mod:`attar.execute.pieces`), which compile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from attar.augment import Augment
from attar.errors import DataError
from attar.evaluate.protocol import Protocol
from attar.execute.pieces import BACKWARD, logits, piece_size, weight_gradient
from attar.execute.progress import Progress
from attar.nets import Net, Params
from attar.real.realset import RealSet
from attar.seeds import Seeds

Batches = Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]]


@dataclass(frozen=True)
class Sgd:
    """One update of a network by SGD as ``torch.optim.SGD`` defines it.

    g = grad mean_i w_i CE(net(x_i), y_i) + weight_decay * p;  m <- momentum * m + g;  p <- p - lr * m

    Args:
        net: the network. momentum, weight_decay: as above. size: images of one piece of a batch.
    """

    net: Net
    momentum: float
    weight_decay: float
    size: int

    def start(self, params: Params) -> Params:
        """Momentum from zero."""
        return {name: torch.zeros_like(params[name]) for name in self.net.trainable}

    def step(
        self, params: Params, momentum: Params, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, lr: float
    ) -> torch.Tensor:
        """One update of ``params`` and ``momentum`` in place; gives the loss before it.

        Args:
            x: [B, C, H, W]. y: int64 [B], or distributions [B, K]. w: [B], of mean 1 over the set.
        """
        loss, grads = weight_gradient(self.net, params, x, y, w / len(w), size=self.size)
        p, m = ([tree[name] for name in self.net.trainable] for tree in (params, momentum))
        g = torch._foreach_add([grads[name] for name in self.net.trainable], p, alpha=self.weight_decay)
        torch._foreach_mul_(m, self.momentum)
        torch._foreach_add_(m, g)
        torch._foreach_add_(p, m, alpha=-lr)
        return loss


def train(
    net: Net,
    images: torch.Tensor | RealSet,
    labels: torch.Tensor,
    *,
    protocol: Protocol,
    seeds: Seeds,
    weight: torch.Tensor | None = None,
    progress: Progress | None = None,
    watch: Callable[[Params], None] | None = None,
) -> Params:
    """Trains a fresh network.

    Args:
        images: [M, C, H, W] in the normalised space; or a real set, whose images are normalised batch by batch.
        labels: int64 [M], or distributions [M, K], on the device to train on.
        seeds: initial weights, order of examples, augmentation and dropout depend on these and the epoch alone.
        weight: [M], scaled to mean 1; None weighs all alike.
        progress: advanced by one for every epoch.
        watch: called with the parameters at the epochs where ``protocol`` looks at the test set.

    Returns:
        Parameters and buffers of the last epoch.

    Raises:
        DataError: loss or weights became infinite or NaN.
    """
    params = net.init(seeds.at("init"), labels.device)
    size = piece_size(net, min(len(labels), protocol.batch), labels.device, most=BACKWARD)
    sgd = Sgd(net, protocol.momentum, protocol.weight_decay, size)
    momentum = sgd.start(params)
    w = _of_mean_one(weight, labels, params[net.trainable[0]].dtype)
    if labels.is_floating_point():
        labels = labels.to(w.dtype)
    for epoch in range(protocol.passes):
        if epoch == protocol.drop:
            momentum = sgd.start(params)
        losses = []
        with seeds.globally("dropout", epoch):
            for x, y, part, share in _batches(images, labels, w, protocol, seeds, epoch):
                losses.append(sgd.step(params, momentum, x, y, part, protocol.rate(epoch, share)))
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise _broken("loss", epoch, protocol)
        if progress is not None:
            progress.advance(1, loss=mean)
        if watch is not None and protocol.looks(epoch):
            watch(params)
    if not all(bool(torch.isfinite(params[name]).all()) for name in net.trainable):
        raise _broken("weights", protocol.passes - 1, protocol)
    return params


def _broken(what: str, epoch: int, protocol: Protocol) -> DataError:
    return DataError(
        f"training by protocol '{protocol.name}' broke in epoch {epoch + 1} of {protocol.passes}: the {what} became NaN or "
        f"infinite; look for extreme values in the images, or lower the learning rate of {protocol.lr:g}"
    )


def _batches(
    images: torch.Tensor | RealSet, labels: torch.Tensor, w: torch.Tensor, protocol: Protocol, seeds: Seeds, epoch: int
) -> Batches:
    """The shuffled and augmented batches (x [B, C, H, W], y, w [B], share of the epoch that is over)."""
    augment, generator = Augment.parse(protocol.augment), seeds.generator("augment", epoch)
    order = torch.randperm(len(labels), generator=seeds.generator("order", epoch))
    for start in range(0, len(order), protocol.batch):
        index = order[start : start + protocol.batch]
        x = images.draw(index) if isinstance(images, RealSet) else images[index.to(images.device)]
        x = x.to(w.device, w.dtype)
        index = index.to(w.device)
        yield augment(x, generator), labels[index], w[index], start / len(order)


def _of_mean_one(weight: torch.Tensor | None, labels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[M], >= 0 -> [M] of mean 1."""
    if weight is None:
        return torch.ones(len(labels), dtype=dtype, device=labels.device)
    weight = weight.to(labels.device, dtype)
    if not torch.isfinite(weight).all() or (weight < 0).any() or weight.sum() <= 0:
        raise DataError("the weights of the set hold a NaN, a negative number or nothing but zeros; select it again")
    return weight / weight.mean()


@torch.no_grad()
def accuracy(net: Net, params: Params, test: RealSet, *, batch: int = 256) -> float:
    """The share of a set that a network in evaluation mode gets right, in [0, 1].

    Args:
        test: in the normalised space that the network was trained in.
        batch: images of one forward; it changes time and memory alone.
    """
    first = params[net.trainable[0]]
    right = 0
    for index in torch.arange(len(test)).split(batch):
        x = test.draw(index).to(first.device, first.dtype)
        found = logits(net, params, x).argmax(1)  # [B]
        right += int((found == test.labels[index].to(first.device)).sum())
    return right / len(test)
