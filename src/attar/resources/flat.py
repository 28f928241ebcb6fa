"""GSAM: Zhuang, Gong, Yuan, Cui, Adam, Dvornek, Tatikonda, Duncan, Liu. Surrogate Gap Minimization Improves Sharpness-Aware
Training. ICLR 2022. arXiv 2203.08065. Its adaptive step: Kwon, Kim, Park, Choi. ASAM. ICML 2021. arXiv 2102.11600.

Weights in a flat valley: descend along the gradient at the worst weights nearby, and do not climb what these have in excess.

    g = grad L(w);   ahead = w + rho T^2 g / |T g|,   T = |w| (adaptive) or 1;   p = grad L(ahead)
    direction = p - alpha (g - <g, p> / |p|^2 p)

Cost: two gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from attar.nets.net import Params

EPSILON = 1e-12
"""Keeps 0 / 0 away."""


def flat_direction(
    gradient: Callable[[Params], tuple[torch.Tensor, Params]],
    weights: Params,
    *,
    rho: float,
    alpha: float,
    adaptive: bool = True,
) -> tuple[torch.Tensor, Params]:
    """The loss at the weights, and GSAM's direction in place of its gradient.

    Args:
        gradient: weights -> (loss, gradient by name), called twice.
        rho: how far the worst weights are looked for. alpha: how much of the gradient across p is taken away.
        adaptive: in steps relative to each weight.
    """
    loss, g = gradient(weights)
    scale = {n: w.abs() if adaptive else torch.ones_like(w) for n, w in weights.items()}
    length = torch.stack([(scale[n] * g[n]).square().sum() for n in g]).sum().sqrt() + EPSILON
    _, p = gradient({n: w + rho / length * scale[n].square() * g[n] for n, w in weights.items()})
    along = dot(g, p) / (dot(p, p) + EPSILON)
    return loss, {n: p[n] - alpha * (g[n] - along * p[n]) for n in p}


def dot(a: Params, b: Params) -> torch.Tensor:
    """<a, b> over all tensors, a scalar."""
    return torch.stack([(value * b[name]).sum() for name, value in a.items()]).sum()
