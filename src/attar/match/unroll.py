"""Some steps of SGD on the kept examples as one differentiable function, in the memory of a single step.

    theta_{t+1} = theta_t - rate g_t,    g_t = gradient of CE(net(theta_t), A_t(x_t), y_t) for the weights

Its derivative by the adjoint recursion. With l_T the derivative of what follows for theta_T, and h_t = <g_t, l_{t+1}>:

    dx_t = -rate dh_t/dx_t,    dy_t = -rate dh_t/dy_t,    drate = -sum_t h_t,    l_t = l_{t+1} - rate H_t l_{t+1}

H_t l is dh_t/dtheta_t, so one reverse pass through h_t gives all of a step. The weights of T steps are kept, and the activations
of one piece of one batch: back-propagation through the unrolled steps keeps those of all steps, and gives the same
numbers. Without the Hessian (``hessian=False``) it is the gradient of TESLA (Cui et al., ICML 2023).

A step's gradient is one compiled function, and h_t with its derivatives another: at width 32 in bfloat16 an update of MTT takes
three quarters of what it takes where autograd differentiates a compiled h_t.

Cost: 12 forwards of every image of every step, where an unrolled graph takes 9; memory by 1 / T. Forward mode would give h_t
and the same derivatives (as tests say that it does) for a quarter less, but torch 2.13's second derivatives of batch and layer
norms are wrong in it, its group norm does not compile, and of one that does it took longer than this (width 128, two cores).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from attar.augment.siamese import augment
from attar.execute.compile import fast
from attar.execute.pieces import BACKWARD, piece_size, split
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

    def pieces(self, t: int, image: torch.Tensor, label: torch.Tensor) -> Iterable[tuple[Any, ...]]:
        """The examples of step t in pieces of one size: images [B, C, H, W], labels, shares of the mean [B], transforms."""
        x, y = image[self.index[t]], label[self.index[t]]
        share = torch.full((len(x),), 1 / len(x), dtype=x.dtype, device=x.device)
        size = piece_size(self.net, max(len(i) for i in self.index), image.device, most=BACKWARD)
        names, drawn = zip(*self._drawn(t, len(x)).items()) if self.ops is not None else ((), ())
        for part in split(size, x, y, share, *drawn, filled=not self.net.has_batch_statistics):
            yield (*part[:3], dict(zip(names, part[3:])) or None)

    def _drawn(self, t: int, count: int) -> Params:
        """The transforms of step t, one row for each of so many images."""
        ops = {name: value[t] for name, value in (self.ops or {}).items()}
        rows = len(ops["op"])
        if count <= rows:
            return {name: value[:count] for name, value in ops.items()}
        again = torch.arange(count, device=ops["op"].device) % rows
        return {name: value[again] for name, value in ops.items()}

    def gradient(self, t: int, theta: Params, image: torch.Tensor, label: torch.Tensor) -> Params:
        """g_t."""
        return _sum([fast(_slope)(self.net, theta, *piece) for piece in self.pieces(t, image, label)])

    def pull(self, t: int, theta: Params, ahead: Params, image: torch.Tensor, label: torch.Tensor) -> _Pulled:
        """h_t and its derivatives at the weights of step t."""
        parts = [fast(_pulled)(self.net, self.hessian, theta, ahead, *piece) for piece in self.pieces(t, image, label)]
        n, soft = len(self.index[t]), label.is_floating_point()
        return _Pulled(
            h=torch.stack([part.h for part in parts]).sum(),
            image=torch.cat([part.image for part in parts])[:n],
            label=torch.cat([part.label for part in parts])[:n] if soft else None,
            theta=_sum([part.theta for part in parts]) if self.hessian else None,
        )


class _Pulled(NamedTuple):
    """h of one step and its derivatives: for the images, the labels (None where hard) and the weights (or None)."""

    h: torch.Tensor
    image: torch.Tensor
    label: Any
    theta: Any


def _sum(parts: Sequence[Params]) -> Params:
    """The sum of gradients by name."""
    return {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]} if parts[1:] else parts[0]


def _slope(
    net: Net, theta: Params, image: torch.Tensor, y: torch.Tensor, share: torch.Tensor, ops: Params | None
) -> Params:
    """The gradient of sum_i share_i CE(net(A(x_i)), y_i) for the weights."""

    def objective(weights: Params) -> torch.Tensor:
        x = image if ops is None else augment(image, ops)
        logits = net(weights, x, train=True, update=False).to(share.dtype)  # [B, K]
        return (cross_entropy(logits, y, reduction="none") * share).sum()

    return torch.func.grad(objective)(theta)


def _pulled(
    net: Net,
    hessian: bool,
    theta: Params,
    ahead: Params,
    image: torch.Tensor,
    y: torch.Tensor,
    share: torch.Tensor,
    ops: Params | None,
) -> _Pulled:
    """h = <:func:`_slope`, ahead> of one piece and its derivatives."""

    def along(image: torch.Tensor, y: torch.Tensor, weights: Params) -> torch.Tensor:
        slope = _slope(net, weights, image, y, share, ops)
        return torch.stack([(slope[name] * ahead[name]).sum() for name in slope]).sum()

    soft = y.is_floating_point()
    asked = (0, *([1] if soft else []), *([2] if hessian else []))
    found, h = torch.func.grad_and_value(along, argnums=asked)(image, y, theta)
    by_place = dict(zip(asked, found))
    return _Pulled(h, by_place[0], by_place.get(1), by_place.get(2))


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
        ahead = dict(zip(names, cotangents))
        d_image, d_rate = torch.zeros_like(image), torch.zeros_like(rate)
        d_label = torch.zeros_like(label) if label.is_floating_point() else None
        for t in reversed(range(len(steps.index))):
            theta = dict(zip(names, visited[t * len(names) : (t + 1) * len(names)]))
            pulled = steps.pull(t, theta, ahead, image, label)
            d_image.index_add_(0, steps.index[t], -rate * pulled.image)
            d_rate -= pulled.h
            if d_label is not None:
                d_label.index_add_(0, steps.index[t], -rate * pulled.label)
            if pulled.theta is not None:
                ahead = {name: value - rate * pulled.theta[name] for name, value in ahead.items()}
        return (None, d_image, d_label, d_rate, *(None for _ in names))
