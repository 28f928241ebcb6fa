"""Trajectory matching as the papers write it: one flat vector of weights, one graph over all inner steps. Slow and plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from plain_matching import Ops, transformed
from torch import nn
from torch.func import functional_call
from torch.nn.functional import log_softmax


def flat(params: Mapping[str, torch.Tensor], module: nn.Module) -> torch.Tensor:
    """Weights as one vector, in the module's order."""
    return torch.cat([params[name].reshape(-1) for name, _ in module.named_parameters()])


def shaped(theta: torch.Tensor, module: nn.Module) -> dict[str, torch.Tensor]:
    """The vector as the module's weights."""
    parts, at = {}, 0
    for name, value in module.named_parameters():
        parts[name] = theta[at : at + value.numel()].reshape(value.shape)
        at += value.numel()
    return parts


def batch_loss(module: nn.Module, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of -sum_k y_k log p_k; x [B, C, H, W], y [B, K]."""
    log_p = log_softmax(functional_call(module, shaped(theta, module), (x,)), 1)
    return -sum((y[i] * log_p[i]).sum() for i in range(len(x))) / len(x)


def step_ops(ops: Ops, t: int, n: int) -> Ops:
    """The transforms of the n examples of inner step t."""
    return {name: torch.stack([value[t, j] for j in range(n)]) for name, value in ops.items()}


def mtt_loss(
    module: nn.Module,
    begin: torch.Tensor,
    goal: torch.Tensor,
    image: torch.Tensor,
    target: torch.Tensor,
    rate: torch.Tensor,
    batches: Sequence[Sequence[int]],
    ops: Ops,
) -> torch.Tensor:
    """Cazenavette et al. 2022, equations 1 and 2, differentiable through all steps.

    Args:
        begin, goal: flat weights. image: [M, C, H, W]. target: [M, K]. batches: positions of each inner step's examples.
    """
    theta = begin.clone().requires_grad_()
    for t, batch in enumerate(batches):
        picked = list(batch)
        x = transformed(image[picked], step_ops(ops, t, len(picked)))
        (grad,) = torch.autograd.grad(batch_loss(module, theta, x, target[picked]), theta, create_graph=True)
        theta = theta - rate * grad
    return ((theta - goal) ** 2).sum() / ((begin - goal) ** 2).sum()


def tesla_gradients(
    module: nn.Module,
    begin: torch.Tensor,
    goal: torch.Tensor,
    image: torch.Tensor,
    target: torch.Tensor,
    rate: torch.Tensor,
    batches: Sequence[Sequence[int]],
    ops: Ops,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cui et al. 2023, algorithm 1: a pass that sums the gradients G, then one vector-Jacobian product a batch.

    dimage_i = (2 / D) (dg_i / dimage)^T v with v = rate (goal - begin) + rate^2 G and D = || begin - goal ||^2; the rate's by
    autograd of || begin - rate G - goal ||^2 / D.

    Returns:
        The loss, and its gradients for images and rate.
    """
    theta, points, total = begin.clone(), [], torch.zeros_like(begin)
    image, rate = image.detach(), rate.detach()
    views = [transformed(image[list(b)], step_ops(ops, t, len(b))) for t, b in enumerate(batches)]
    for x, batch in zip(views, batches):
        points.append(theta.clone().requires_grad_())
        (grad,) = torch.autograd.grad(batch_loss(module, points[-1], x, target[list(batch)]), points[-1])
        total, theta = total + grad, theta - rate * grad
    size = ((begin - goal) ** 2).sum()
    v = rate * (goal - begin) + rate**2 * total
    slope = torch.zeros_like(image)
    for t, batch in enumerate(batches):
        picked = list(batch)
        kept = image[picked].requires_grad_()
        x = transformed(kept, step_ops(ops, t, len(picked)))
        (grad,) = torch.autograd.grad(batch_loss(module, points[t], x, target[picked]), points[t], create_graph=True)
        (part,) = torch.autograd.grad((grad * v).sum(), kept)
        for j, i in enumerate(picked):
            slope[i] += 2 / size * part[j]
    free = rate.clone().requires_grad_()
    loss = ((begin - free * total - goal) ** 2).sum() / size
    return loss.detach(), slope, torch.autograd.grad(loss, free)[0]
