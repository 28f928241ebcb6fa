"""Some steps of SGD on the kept examples as one differentiable function, in the memory of a single step.

    theta_{t+1} = theta_t - rate g_t,    g_t = gradient of CE(net(theta_t), A_t(x_t), y_t) for the weights

Its derivative by the adjoint recursion. With l_T the derivative of what follows for theta_T, and h_t = <g_t, l_{t+1}>:

    dx_t = -rate dh_t/dx_t,    dy_t = -rate dh_t/dy_t,    drate = -sum_t h_t,    l_t = l_{t+1} - rate H_t l_{t+1}

H_t l is dh_t/dtheta_t, so one reverse pass through h_t gives all of a step. The weights of T steps are kept, and the activations
of one piece of one batch: back-propagation through the unrolled steps keeps those of all steps, and gives the same
numbers. Without the Hessian (``hessian=False``) it is the gradient of TESLA (Cui et al., ICML 2023).

Cost: 12 forwards of every image of every step, where an unrolled graph takes 9; memory by 1 / T. Forward mode would give h_t
and the same derivatives (as tests say that it does) for a quarter less, but torch 2.13's second derivatives of batch and layer
norms are wrong in it, its group norm does not compile, and of one that does it took longer than this (width 128, two cores).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from attar.augment.siamese import augment
from attar.execute.compile import fast
from attar.execute.pieces import BACKWARD, piece_size, split, weight_gradient
from attar.nets.net import Net, Params


def unroll(
    net: Net,
    start: Params,
    image: torch.Tensor,
    label: torch.Tensor,
    rate: torch.Tensor,
    *,
    index: Sequence[torch.Tensor],
    ops: Params | None = None,
    hessian: bool = True,
) -> Params:
    """The weights after T steps of SGD, differentiable (once) in ``image``, ``label`` where it is soft, and ``rate``.

    Batch norms take the statistics of each batch. Exact for networks that draw nothing at random: dropout would draw anew.

    Args:
        net: the network. start: its trainable tensors; no derivative is taken for them.
        image: [M, C, H, W]. label: int64 [M], or distributions [M, K]. rate: a scalar.
        index: T times int64 [B], the examples of a step.
        ops: siamese parameters [T, R, ...]; the j-th example of a step meets row j modulo R. None: no transforms.
        hessian: False drops the effect of a step on the later ones.

    Returns:
        name -> tensor of the weight's shape.
    """
    steps = _Steps(net, tuple(index), ops, hessian)
    end = _Unroll.apply(steps, image, label, rate, *(start[name] for name in net.trainable))
    return dict(zip(net.trainable, end))


@dataclass(frozen=True, eq=False)
class _Steps:
    """What is the same for all steps; arguments of :func:`unroll`."""

    net: Net
    index: tuple[torch.Tensor, ...]
    ops: Params | None
    hessian: bool

    def view(self, t: int, x: torch.Tensor) -> torch.Tensor:
        """The examples of step t transformed: [B, C, H, W] -> [B, C, H, W]."""
        if self.ops is None:
            return x
        rows = torch.arange(len(x), device=x.device) % self.ops["op"].shape[1]
        return fast(augment)(x, {name: value[t][rows] for name, value in self.ops.items()})

    def size(self, image: torch.Tensor) -> int:
        """Images of one piece."""
        return piece_size(self.net, max(len(i) for i in self.index), image.device, most=BACKWARD)

    def gradient(self, t: int, theta: Params, image: torch.Tensor, label: torch.Tensor) -> Params:
        """g_t."""
        x, y = self.view(t, image[self.index[t]]), label[self.index[t]]
        return weight_gradient(self.net, theta, x, y, _even(x), update=False, size=self.size(image))[1]


def _even(x: torch.Tensor) -> torch.Tensor:
    """The weights of a mean: [B]."""
    return torch.full((len(x),), 1 / len(x), dtype=x.dtype, device=x.device)


def _along(net: Net, theta: Params, ahead: Params, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """h = <gradient of sum_i w_i CE(net(x_i), y_i) for the weights, ahead>, a scalar."""

    def objective(weights: Params) -> torch.Tensor:
        logits = net(weights, x, train=True, update=False).to(w.dtype)  # [B, K]
        return (cross_entropy(logits, y, reduction="none") * w).sum()

    slope = torch.func.grad(objective)(theta)
    return torch.stack([(slope[name] * ahead[name]).sum() for name in slope]).sum()


@dataclass
class _Pulled:
    """h of one step and its derivatives: for the transformed images, the labels (None where hard) and the weights (or None)."""

    h: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor | None
    theta: Params | None


@torch.enable_grad()
def _pull(steps: _Steps, theta: Params, ahead: Params, x: torch.Tensor, y: torch.Tensor, size: int) -> _Pulled:
    """:class:`_Pulled` at x [B, C, H, W] and y, in pieces of some images."""
    soft, parts = y.is_floating_point(), []
    weights = {name: v.detach().requires_grad_(steps.hessian) for name, v in theta.items()}
    curved = list(weights.values()) if steps.hessian else []
    for x_part, y_part, w_part in split(size, x, y, _even(x), filled=not steps.net.has_batch_statistics):
        leaf, target = x_part.detach().requires_grad_(), y_part.detach().requires_grad_(soft)
        h = fast(_along)(steps.net, weights, ahead, leaf, target, w_part)
        asked = [leaf, *([target] if soft else []), *curved]
        grads = torch.autograd.grad(h, asked, allow_unused=True, materialize_grads=True)
        parts.append((h.detach(), *grads))
    columns = list(zip(*parts))
    h, dx = torch.stack(columns[0]).sum(), torch.cat(columns[1])[: len(x)]
    dy = torch.cat(columns[2])[: len(y)] if soft else None
    bent = [torch.stack(c).sum(0) for c in columns[2 + soft :]]
    return _Pulled(h, dx, dy, dict(zip(weights, bent)) if steps.hessian else None)


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, steps: _Steps, image: torch.Tensor, label: torch.Tensor, rate: torch.Tensor, *start: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        theta = {name: value.detach() for name, value in zip(steps.net.trainable, start)}
        visited: list[torch.Tensor] = []
        for t in range(len(steps.index)):
            visited += theta.values()
            g = steps.gradient(t, theta, image, label)
            theta = {name: value - rate * g[name] for name, value in theta.items()}
        ctx.steps = steps
        ctx.save_for_backward(image, label, rate, *visited)
        return tuple(theta.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        steps: _Steps = ctx.steps
        image, label, rate, *visited = ctx.saved_tensors
        names = steps.net.trainable
        ahead, size = dict(zip(names, cotangents)), steps.size(image)
        d_image, d_rate = torch.zeros_like(image), torch.zeros_like(rate)
        d_label = torch.zeros_like(label) if label.is_floating_point() else None
        for t in reversed(range(len(steps.index))):
            theta = dict(zip(names, visited[t * len(names) : (t + 1) * len(names)]))
            kept = image[steps.index[t]].requires_grad_()
            with torch.enable_grad():
                x = steps.view(t, kept)
            pulled = _pull(steps, theta, ahead, x.detach(), label[steps.index[t]], size)
            d_kept = torch.autograd.grad(x, kept, pulled.x)[0] if x is not kept else pulled.x
            d_image.index_add_(0, steps.index[t], -rate * d_kept)
            d_rate -= pulled.h
            if d_label is not None and pulled.y is not None:
                d_label.index_add_(0, steps.index[t], -rate * pulled.y)
            if pulled.theta is not None:
                ahead = {name: value - rate * pulled.theta[name] for name, value in ahead.items()}
        return (None, d_image, d_label, d_rate, *(None for _ in names))
