"""Networks on many images, a few at a time: activations that stay in the processor's cache are the larger half of speed.

Measured on AVX-512 cores with a ConvNet-3 of width 128 on 32x32 images, compiled: a training step on 100 images at once does
46 GFLOP/s on one core, in pieces of 20 it does 77; on two cores 138 in pieces of 20 and 152 in pieces of 50; a forward in
pieces of 16 to 32 does 85 on one core, where a matrix product does 130. On a GPU pieces are as large as a GiB of activations
allows. Where images see each other (batch statistics in training mode) they stay together, as the result would change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, pad

from attar.execute.compile import fast, on
from attar.nets.fit import activation_bytes
from attar.nets.net import Net, Params

FORWARD, BACKWARD = 32, 25
"""Most images of one piece for every thread, without a graph and with one."""
ROOM = 1 << 30
"""Bytes of activations of one piece on a GPU."""


def piece_size(net: Net, images: int, device: torch.device | str, *, most: int, train: bool = True) -> int:
    """Images of one piece: all, or as few as give equal pieces of at most ``most`` for every thread, more on a GPU.

    Args:
        train: training mode, in which the images of batch norms see each other.
    """
    if torch.device(device).type == "cpu":
        most *= torch.get_num_threads()
    else:
        most = max(most, ROOM // max(1, activation_bytes(net)))
    if (train and net.has_batch_statistics) or images <= most:
        return max(1, images)
    return math.ceil(images / math.ceil(images / most))


@torch.no_grad()
def features(net: Net, params: Params, x: torch.Tensor, *, train: bool = True) -> torch.Tensor:
    """Pre-classifier features without a graph: [B, C, H, W] -> [B, D], float32 at least; ``train``: in training mode."""
    return _forward(net.features, params, x, piece_size(net, len(x), x.device, most=FORWARD, train=train), train=train)


@torch.no_grad()
def logits(net: Net, params: Params, x: torch.Tensor) -> torch.Tensor:
    """Logits in evaluation mode without a graph: [B, C, H, W] -> [B, K], float32 at least."""
    on_cpu = x.device.type == "cpu"  # where compiled code knows one size, whatever the length of a last batch
    size = FORWARD * torch.get_num_threads() if on_cpu else max(FORWARD, ROOM // max(1, activation_bytes(net)))
    return _forward(net, params, x, min(len(x), size), train=False)


def _forward(fn: Callable[..., torch.Tensor], params: Params, x: torch.Tensor, size: int, **how: bool) -> torch.Tensor:
    run = fast(fn)
    parts = [widened(run(params, part, **how)) for (part,) in split(size, x)]
    return torch.cat(parts)[: len(x)]


def weight_gradient(
    net: Net,
    params: Params,
    x: torch.Tensor,
    y: torch.Tensor,
    w: torch.Tensor,
    *,
    names: Iterable[str] | None = None,
    train: bool = True,
    update: bool = True,
    size: int | None = None,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, Params]:
    """The gradient of sum_i w_i CE(net(x_i) / temperature, y_i) for a network's weights, not differentiable again.

    Args:
        x: [B, C, H, W]. y: int64 [B], or distributions [B, K]. w: [B].
        names: the weights; None for all. train: training mode. update: whether batch norms move their statistics.
        size: images of one piece; None for :func:`piece_size`. Callers whose batches differ in length give one for all.
        temperature: divides the logits.

    Returns:
        The sum (a scalar), and name -> tensor of the weight's shape.
    """
    size = size or piece_size(net, len(x), x.device, most=BACKWARD, train=train)
    update = update and net.has_batch_statistics  # one and the same function to compile where there are none
    weights = {n: params[n].detach() for n in (net.trainable if names is None else names)}
    others = {n: v for n, v in params.items() if n not in weights}
    run = _at_once if _gains_at_once(net, x.device.type) else _by_tape
    loss, total = torch.zeros((), dtype=w.dtype, device=w.device), None
    for part in split(size, x, y, w, filled=not (train and net.has_batch_statistics)):
        value, grads = run(net, train, update, temperature, weights, others, *part)
        loss = loss + value
        total = grads if total is None else [a + b for a, b in zip(total, grads)]
    return loss, dict(zip(weights, total or []))


def _gains_at_once(net: Net, device: str) -> bool:
    """Whether :func:`_at_once` is the faster; never of a network of the user, whose code may know autograd alone."""
    return on() and torch.is_autocast_enabled(device) and net.source is None and not net.has_batch_statistics


@torch.enable_grad()
def _by_tape(
    net: Net, train: bool, update: bool, temperature: float, weights: Params, others: Params, *part: torch.Tensor
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """The loss of a piece and its gradients, by autograd."""
    leaves = {name: v.requires_grad_() for name, v in weights.items()}
    value = fast(_loss)(net, train, update, temperature, leaves, others, *part)
    return value.detach(), torch.autograd.grad(value, list(leaves.values()))


@torch.no_grad()
def _at_once(
    net: Net, train: bool, update: bool, temperature: float, weights: Params, others: Params, *part: torch.Tensor
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """As :func:`_by_tape`, as one compiled function.

    In half precision the compiler then casts, norms and pools in fewer passes: a ConvNet-3 on one core does 116 GFLOP/s at width
    32 where it did 93, and 193 at width 128 where it did 144; in float32 it gains nothing.
    """
    value, grads = fast(_loss_and_slope)(net, train, update, temperature, weights, others, *part)
    return value, list(grads.values())


def _loss_and_slope(
    net: Net, train: bool, update: bool, temperature: float, weights: Params, others: Params, *part: torch.Tensor
) -> tuple[torch.Tensor, Params]:
    grads, value = torch.func.grad_and_value(lambda at: _loss(net, train, update, temperature, at, others, *part))(
        weights
    )
    return value, grads


def _loss(
    net: Net,
    train: bool,
    update: bool,
    temperature: float,
    weights: Params,
    others: Params,
    x: torch.Tensor,
    y: torch.Tensor,
    w: torch.Tensor,
) -> torch.Tensor:
    logits = net({**weights, **others}, x, train=train, update=update).to(w.dtype)  # [B, K]
    if temperature != 1:
        logits = logits / temperature
    return (cross_entropy(logits, y, reduction="none") * w).sum()


def split(size: int, *tensors: torch.Tensor, filled: bool = True) -> Iterable[tuple[torch.Tensor, ...]]:
    """Pieces of some rows; compiled code gets zeros (of weight zero) for what lacks in the last, as it knows one size only.

    Args:
        filled: False where rows see each other (batch statistics), as zeros would be seen too: the last is compiled anew.
    """
    for parts in zip(*(t.split(size) for t in tensors)):
        lack = size - len(parts[0]) if filled and on() else 0
        yield tuple(pad(t, (0, 0) * (t.ndim - 1) + (0, lack)) for t in parts) if lack else parts


Term = Callable[[torch.Tensor], torch.Tensor]


def summed(x: torch.Tensor, terms: Iterable[Term]) -> torch.Tensor:
    """The sum of terms of x, each differentiated at once, so that the graph of one alone is alive; not differentiable twice.

    Args:
        terms: functions x -> scalar; they come one by one, so that what a term needs may be made on the way.
    """
    if not (x.requires_grad and torch.is_grad_enabled()):
        return torch.stack([term(x) for term in terms]).sum()
    total: torch.Tensor = _Summed.apply(x, terms)  # type: ignore[assignment]
    return total


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, terms: Iterable[Term]) -> torch.Tensor:  # type: ignore[override]
        values, slope = [], torch.zeros_like(x)
        for term in terms:
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                value = term(leaf)
            slope += torch.autograd.grad(value, leaf)[0]
            values.append(value.detach())
        ctx.save_for_backward(slope)
        return torch.stack(values).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        (slope,) = ctx.saved_tensors
        return grad * slope, None


def widened(x: torch.Tensor) -> torch.Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
