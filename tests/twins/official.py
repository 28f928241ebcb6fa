"""Whole steps of DM, DC, DSA and of the standard evaluation, computed as the official code computes them.

The twins that speed is measured against: a loop over classes, eager float32, one network at a time, real images held as
one float tensor, examples of a class picked through a permutation of its positions, losses read on the host in every
step, a data loader over the few kept images. What they compute is what :mod:`attar` computes (``test_official.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from plain_matching import PlainConvNet
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from attar.augment import siamese

Transform = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Source:
    """The real images, normalised, on the device, and where each class stands.

    Args:
        images: float32 [N, C, H, W]. classes: K arrays of positions.
    """

    images: torch.Tensor
    classes: list[np.ndarray]

    def some(self, k: int, n: int) -> torch.Tensor:
        """n images of class k: [n, C, H, W]."""
        return self.images[np.random.permutation(self.classes[k])[:n]]


def fresh(source: Source, *, width: int, depth: int) -> PlainConvNet:
    """A network with new weights."""
    _, c, h, _ = source.images.shape
    net = PlainConvNet(c, h, len(source.classes), width=width, depth=depth)
    return net.to(source.images.device)


def siamese_pair(strategy: str, real: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One operation with the same parameters on both sides."""
    if strategy == "none":
        return real, kept
    seed = torch.Generator().manual_seed(int(np.random.randint(2**31)))
    one = siamese.draw(strategy, 1, seed, size=(real.shape[2], real.shape[3]), one_op=True)
    return transformed(real, one, shared=True), transformed(kept, one, shared=True)


def transformed(x: torch.Tensor, ops: Mapping[str, torch.Tensor], *, shared: bool) -> torch.Tensor:
    """The one operation of ``ops``, whose only row serves all images where it is shared."""
    rows = {k: (v.expand(len(x), *v.shape[1:]) if shared else v).to(x.device) for k, v in ops.items()}
    return siamese.augment_one(x, siamese.common_op(rows), rows)


def dm_step(
    source: Source, kept: torch.Tensor, optimiser: torch.optim.Optimizer, *, batch: int, strategy: str, net: nn.Module
) -> float:
    """One update of the kept images [K ipc, C, H, W], ordered by class; gives the loss per class."""
    for p in net.parameters():
        p.requires_grad_(False)
    classes = len(source.classes)
    ipc = len(kept) // classes
    loss = torch.zeros((), device=kept.device)
    for k in range(classes):
        real, mine = siamese_pair(strategy, source.some(k, batch), kept[k * ipc : (k + 1) * ipc])
        target = net.features(real).detach()  # type: ignore[operator]
        found = net.features(mine)  # type: ignore[operator]
        loss = loss + ((target.mean(0) - found.mean(0)) ** 2).sum()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item() / classes


def gradient_step(
    source: Source, kept: torch.Tensor, optimiser: torch.optim.Optimizer, *, batch: int, strategy: str, net: nn.Module
) -> float:
    """The same for DC (strategy ``none``) and DSA."""
    classes, weights = len(source.classes), list(net.parameters())
    ipc = len(kept) // classes
    loss = torch.zeros((), device=kept.device)
    for k in range(classes):
        real, mine = siamese_pair(strategy, source.some(k, batch), kept[k * ipc : (k + 1) * ipc])
        of_real = cross_entropy(net(real), torch.full((len(real),), k, device=kept.device))
        wanted = [g.detach().clone() for g in torch.autograd.grad(of_real, weights)]
        of_mine = cross_entropy(net(mine), torch.full((len(mine),), k, device=kept.device))
        found = torch.autograd.grad(of_mine, weights, create_graph=True)
        loss = loss + sum(rows_apart(a, b) for a, b in zip(found, wanted) if a.ndim > 1)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item() / classes


def rows_apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sum over rows of one minus the cosine."""
    a, b = a.flatten(1), b.flatten(1)  # [out, rest]
    return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()


def train_epoch(
    images: torch.Tensor,
    labels: torch.Tensor,
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    strategy: str = "none",
) -> float:
    """One epoch over a few images in batches of 256 by a data loader; gives the accuracy on them."""
    right = 0.0
    for x, y in DataLoader(TensorDataset(images, labels), batch_size=256, shuffle=True):
        if strategy != "none":
            seed = torch.Generator().manual_seed(int(np.random.randint(2**31)))
            ops = siamese.draw(strategy, len(x), seed, size=(x.shape[2], x.shape[3]), one_op=True)
            x = transformed(x, ops, shared=False)
        logits = net(x)
        loss = cross_entropy(logits, y)
        right += np.sum(np.equal(np.argmax(logits.cpu().data.numpy(), axis=-1), y.cpu().data.numpy()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
    return float(right / len(images))


def train(
    images: torch.Tensor,
    labels: torch.Tensor,
    net: nn.Module,
    *,
    epochs: int,
    strategy: str,
    start: int = 0,
    stop: int | None = None,
) -> None:
    """The standard training of ``epochs`` + 1 epochs, or those from ``start`` to ``stop`` of it."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for epoch in range(start, epochs + 1 if stop is None else stop):
        train_epoch(images, labels, net, optimiser, strategy=strategy)
        if epoch == epochs // 2 + 1:
            optimiser = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
