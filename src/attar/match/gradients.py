"""Gradients of a loss with respect to a network's weights, by class or of all together, and how far two of them point apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from attar.errors import UsageError, nearest
from attar.execute.compile import fast
from attar.execute.pieces import BACKWARD, Term, piece_size, summed, weight_gradient, widened
from attar.execute.precision import full
from attar.nets.net import Net

Params = dict[str, torch.Tensor]
EPSILON = 1e-6


@dataclass(frozen=True)
class Measure:
    """Which weights' gradients are matched, and how far two of them are apart.

    Args:
        metric: ``cos``, ``mse`` or ``l1`` (:data:`METRICS`).
        least: dimensions that a weight must have; 2 leaves out biases and norms, 4 all but convolutions.

    Raises:
        UsageError: an unknown metric.
    """

    metric: str = "cos"
    least: int = 2

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError(f"metric '{self.metric}' is unknown; {nearest(self.metric, METRICS)}")

    @property
    def steady(self) -> bool:
        """Whether derivatives of it keep their direction in half precision: a cosine of .998 to float32 or more.

        Those of differences do. Cosines divide by the lengths of short rows, and theirs are at .985.
        """
        return self.metric != "cos"

    def names(self, net: Net, params: Params) -> list[str]:
        """The matched weights."""
        return [n for n in net.trainable if params[n].ndim >= self.least]

    def __call__(self, a: Params, b: Params) -> torch.Tensor:
        """The distance, a scalar: the sum over the matched tensors."""
        return torch.stack([METRICS[self.metric](value, b[name]) for name, value in a.items()]).sum()


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sum over the output rows of two tensors of sum_r ( 1 - <a_r, b_r> / (|a_r| |b_r| + 1e-6) )."""
    u, v = a.flatten(1), b.flatten(1)  # [out, rest]
    return (1 - (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1) + EPSILON)).sum()


METRICS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cos": cosines,
    "mse": lambda a, b: (a - b).square().sum(),
    "l1": lambda a, b: (a - b).abs().sum(),
}
ROWS = Measure()
"""The measure of DC: all weights of two or more dimensions, by rows."""


def class_gradient(
    net: Net, params: Params, x: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, measure: Measure = ROWS
) -> Params:
    """Gradient of a weighted cross entropy for the weights that are matched.

    Batch-norm networks are taken with frozen statistics (see :func:`calibrate`).

    Args:
        x: [B, C, H, W]. label: int64 [B]. weight: [B], summing to 1.

    Returns:
        name -> tensor of the weight's shape; differentiable in ``x``.
    """
    matched = {k: params[k] for k in measure.names(net, params)}

    def objective(weights: Params) -> torch.Tensor:
        logits = net({**params, **weights}, x, train=not net.has_batch_statistics, update=False)
        return (cross_entropy(widened(logits), label, reduction="none") * weight).sum()

    return torch.func.grad(objective)(matched)


def distance(a: Params, b: Params) -> torch.Tensor:
    """Sum over all output rows of one minus their cosine (Zhao, Mopuri, Bilen 2021, equation 9).

    d(a, b) = sum_tensors sum_rows ( 1 - <a_r, b_r> / (|a_r| |b_r| + 1e-6) )
    """
    return ROWS(a, b)


def slots(
    label: torch.Tensor, classes: int, *, most: int | None = None, generator: torch.Generator | None = None
) -> Params:
    """Where each class's examples stand, as tables of fixed shape, so that a loss needs no branch on data.

    Args:
        label: int64 [M], on the CPU.
        most: a random part of the classes that are larger, drawn anew by ``generator``; None for no limit.

    Returns:
        ``slot`` int64 [K, m] positions (0 where unused) and ``share`` float32 [K, m], 1 / count or 0 where unused,
        with m the largest class's count, or ``most``.
    """
    counts = torch.bincount(label, minlength=classes)
    slot = torch.zeros(classes, min(int(counts.max()), most or len(label)), dtype=torch.int64)
    share = torch.zeros(slot.shape)
    for k in range(classes):
        members = torch.nonzero(label == k).flatten()
        if len(members) > slot.shape[1]:
            members = members[torch.randperm(len(members), generator=generator)[: slot.shape[1]]]
        slot[k, : len(members)] = members
        share[k, : len(members)] = 1 / max(1, len(members))
    return {"slot": slot, "share": share}


def class_distances(
    net: Net,
    params: Params,
    real: torch.Tensor,
    image: torch.Tensor,
    slot: torch.Tensor,
    share: torch.Tensor,
    measure: Measure = ROWS,
) -> torch.Tensor:
    """Sum over classes of the distance between the gradients on kept and on real examples of the class.

    Of a measure that is not steady, only the real ones are in half precision: their gradient is not differentiated, and a
    mean over many.

    Args:
        real: [K, B, C, H, W]. image: [M, C, H, W], the kept ones. slot, share: [K, m], from :func:`slots`.
    """

    def of_class(k: int) -> Term:
        with usual():
            target = real_gradient(net, params, real[k], k, measure)
        label = torch.full((), k, device=image.device)
        return lambda x: fast(class_distance)(net, params, x[slot[k]], share[k], label, target, measure)

    with full(image.device, unless=measure.steady) as usual:
        return summed(image, (of_class(k) for k in range(len(real))))


def class_distance(
    net: Net,
    params: Params,
    kept: torch.Tensor,
    share: torch.Tensor,
    label: torch.Tensor,
    target: Params,
    measure: Measure = ROWS,
) -> torch.Tensor:
    """The share of one class, which is compiled once for all of them.

    Args:
        kept: [m, C, H, W]. share: [m], summing to 1. label: int64, a scalar. target: from :func:`real_gradient`.
    """
    return measure(class_gradient(net, params, kept, label.expand(len(kept)), share, measure), target)


def real_gradient(net: Net, params: Params, x: torch.Tensor, k: int, measure: Measure = ROWS) -> Params:
    """:func:`class_gradient` of the mean over images x [B, C, H, W] of class k, where no derivative of it is needed."""
    label = torch.full((len(x),), k, device=x.device)
    even = torch.full((len(x),), 1 / len(x), dtype=x.dtype, device=x.device)  # [B]
    names = measure.names(net, params)
    return weight_gradient(net, params, x, label, even, names=names, train=not net.has_batch_statistics)[1]


def joint_distance(
    net: Net, params: Params, real: torch.Tensor, image: torch.Tensor, label: torch.Tensor
) -> torch.Tensor:
    """The distance between the gradient on all kept examples and the mean of the real classes' gradients.

    The gradient on the kept examples is a sum over pieces of them, g = sum_p g_p, so that the derivative of d(g, target)
    is that of sum_p <v, g_p> with v = grad_g d(g, target), and one piece's graph alone is alive. Half precision serves the
    real ones alone.

    Args:
        real: [K, B, C, H, W]. image: [M, C, H, W], the kept ones. label: int64 [M].
    """
    names = ROWS.names(net, params)
    train, m = not net.has_batch_statistics, len(image)
    x, y = real.flatten(0, 1), torch.arange(len(real), device=real.device).repeat_interleave(real.shape[1])  # [K B]
    weight = torch.full((len(x),), 1 / len(x), dtype=x.dtype, device=x.device)
    target = weight_gradient(net, params, x, y, weight, names=names, train=train)[1]
    even = torch.full((m,), 1 / m, dtype=image.dtype, device=image.device)
    order = torch.arange(m, device=image.device).split(piece_size(net, m, image.device, most=BACKWARD))

    def of_piece(i: torch.Tensor) -> Term:
        return lambda x: _rest(fast(_along)(net, params, x[i], label[i], even[i], pull))

    with full(image.device):
        found = weight_gradient(net, params, image.detach(), label, even, names=names, train=train)[1]
        pull, value = torch.func.grad_and_value(distance)(found, target)
        return value + summed(image, (of_piece(i) for i in order))


def _along(
    net: Net, params: Params, x: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, pull: Params
) -> torch.Tensor:
    """<pull, class_gradient>, a scalar that is differentiable in x [B, C, H, W]."""
    found = class_gradient(net, params, x, label, weight)
    return torch.stack([(found[name] * pull[name]).sum() for name in found]).sum()


def _rest(value: torch.Tensor) -> torch.Tensor:
    """0, with the derivative of ``value``."""
    return value - value.detach()


@torch.no_grad()
def calibrate(net: Net, params: Params, x: torch.Tensor) -> None:
    """Moves the running statistics of batch norms by one batch of real images x [B, C, H, W], in place; they are then frozen."""
    if net.has_batch_statistics:
        net(params, x, train=True)
