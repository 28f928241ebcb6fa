"""Whole updates of IDC, IDM and MTT as the official code computes them: eager, class by class, one graph over all steps.

Companions of :mod:`official`, which says what such a twin is; ``test_official_matching.py`` holds them against attar.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from official import Source
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, interpolate

from attar.augment import idc, siamese

Weights = Mapping[str, torch.Tensor]


def decoded(stored: torch.Tensor, factor: int) -> torch.Tensor:
    """Tiles enlarged to whole images: [n, C, H, W] -> [n factor^2, C, H, W]; sides divisible by the factor."""
    _, _, h, w = stored.shape
    rows = [part for band in stored.split(h // factor, 2) for part in band.split(w // factor, 3)]
    return torch.cat([interpolate(part, size=(h, w), mode="bilinear", align_corners=False) for part in rows])


def seeded() -> torch.Generator:
    """A generator seeded by torch's default one."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())))


def idc_step(
    source: Source,
    stored: torch.Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    batch: int,
    factor: int,
    strategy: str,
    net: nn.Module,
    mean: torch.Tensor,
    std: torch.Tensor,
) -> float:
    """An update for every class of its stored pictures [K ipc, C, H, W] in [0, 1]; gives the loss per class."""
    classes, weights = len(source.classes), [p for p in net.parameters() if p.ndim == 4]
    ipc, total = len(stored) // classes, 0.0
    for k in range(classes):
        image = (decoded(stored[k * ipc : (k + 1) * ipc], factor) - mean) / std
        real = source.some(k, batch)
        if strategy != "none":
            ops = idc.draw(strategy, 1, seeded(), size=(real.shape[2], real.shape[3]))
            real, image = (_by_idc(x, ops) for x in (real, image))
        wanted = torch.autograd.grad(_wrong(net(real), k), weights)
        found = torch.autograd.grad(_wrong(net(image), k), weights, create_graph=True)
        loss = torch.stack([((a - b.detach()) ** 2).sum() for a, b in zip(found, wanted)]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item()
    return total / classes


def idm_step(
    source: Source,
    kept: torch.Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    batch: int,
    strategy: str,
    net: nn.Module,
    trust: float,
) -> float:
    """One update of the kept images under a trained network, whose cross entropy weighs ``trust``; the loss per class."""
    for p in net.parameters():
        p.requires_grad_(False)
    classes, loss = len(source.classes), torch.zeros((), device=kept.device)
    ipc = len(kept) // classes
    for k in range(classes):
        real, mine = source.some(k, batch), kept[k * ipc : (k + 1) * ipc]
        if strategy != "none":
            size = (real.shape[2], real.shape[3])
            ops = siamese.draw(strategy, 1, seeded(), size=size, one_op=False)
            real, mine = (siamese.augment(x, _shared(ops, len(x))) for x in (real, mine))
        apart = net.features(real).detach().mean(0) - net.features(mine).mean(0)  # type: ignore[operator]
        loss = loss + (apart**2).sum() + trust * _wrong(net(mine), k)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item() / classes


def mtt_step(
    net: nn.Module,
    begin: Weights,
    goal: Weights,
    image: torch.Tensor,
    target: torch.Tensor,
    rate: torch.Tensor,
    optimiser: torch.optim.Optimizer,
    *,
    steps: int,
    strategy: str,
) -> float:
    """One update of images [M, C, H, W] and inner rate, by back-propagation through all inner steps; the loss."""
    theta = {name: value.clone().requires_grad_() for name, value in begin.items()}
    for _ in range(steps):
        x, size = image, (image.shape[2], image.shape[3])
        if strategy != "none":
            ops = siamese.draw(strategy, len(image), seeded(), size=size, one_op=True)
            x = siamese.augment_one(x, siamese.common_op(ops), ops)
        loss = cross_entropy(functional_call(net, theta, (x,)), target)
        grads = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        theta = {name: value - rate * grad for (name, value), grad in zip(theta.items(), grads)}
    missed = torch.stack([((theta[name] - goal[name]) ** 2).sum() for name in theta]).sum()
    whole = torch.stack([((begin[name] - goal[name]) ** 2).sum() for name in theta]).sum()
    loss = missed / whole
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def _wrong(logits: torch.Tensor, k: int) -> torch.Tensor:
    return cross_entropy(logits, torch.full((len(logits),), k, device=logits.device))


def _shared(ops: Weights, n: int) -> dict[str, torch.Tensor]:
    """One row of parameters for n images."""
    return {name: value.expand(n, *value.shape[1:]) for name, value in ops.items()}


def _by_idc(x: torch.Tensor, ops: Weights) -> torch.Tensor:
    rows = _shared(ops, len(x))
    return idc.augment_one(x, siamese.common_op(rows), rows)
