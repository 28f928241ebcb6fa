"""The optimisers of evaluations as pure rules on tensors: torch's own, for all weights at once.

SGD    g = gradient + decay * p;  m <- momentum * m + g;  p <- p - lr * m
AdamW  p <- p (1 - lr * decay);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
       p <- p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
"""

# pyright: reportPrivateImportUsage=false
# Only the underscored names move all tensors of a network in one call.

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol as Interface

import torch

from attar.evaluate.protocol import Protocol
from attar.nets import Net, Params

BETAS, EPS = (0.9, 0.999), 1e-8


class Optimiser(Interface):
    """What a training needs of an optimiser."""

    def start(self, params: Params) -> Params:
        """Moments before the first update."""
        ...

    def update(self, params: Params, moments: Params, grads: Params, lr: float) -> None:
        """One update of ``params`` and ``moments`` in place."""
        ...


@dataclass(frozen=True)
class Sgd:
    """``torch.optim.SGD``.

    Args:
        names: the weights that learn.
    """

    names: tuple[str, ...]
    momentum: float
    weight_decay: float

    def start(self, params: Params) -> Params:
        """Momentum from zero."""
        return {name: torch.zeros_like(params[name]) for name in self.names}

    def update(self, params: Params, moments: Params, grads: Params, lr: float) -> None:
        """One update in place."""
        p, m, g = ([tree[name] for name in self.names] for tree in (params, moments, grads))
        g = torch._foreach_add(g, p, alpha=self.weight_decay)
        torch._foreach_mul_(m, self.momentum)
        torch._foreach_add_(m, g)
        torch._foreach_add_(p, m, alpha=-lr)


@dataclass(frozen=True)
class AdamW:
    """``torch.optim.AdamW`` in two groups: weights of one dimension (biases, norms) do not decay.

    Args:
        names: the weights that learn.
    """

    names: tuple[str, ...]
    weight_decay: float

    def start(self, params: Params) -> Params:
        """Both moments from zero, under ``first.NAME`` and ``second.NAME``, and the count of updates."""
        kinds = ("first", "second")
        moments = {f"{kind}.{name}": torch.zeros_like(params[name]) for kind in kinds for name in self.names}
        return {**moments, "count": torch.zeros((), dtype=torch.int64)}

    def update(self, params: Params, moments: Params, grads: Params, lr: float) -> None:
        """One update in place."""
        b1, b2 = BETAS
        p, g = ([tree[name] for name in self.names] for tree in (params, grads))
        m, v = ([moments[f"{kind}.{name}"] for name in self.names] for kind in ("first", "second"))
        heavy = [x for x in p if x.ndim > 1]
        if heavy:
            torch._foreach_mul_(heavy, 1 - lr * self.weight_decay)
        torch._foreach_lerp_(m, g, 1 - b1)
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, g, g, 1 - b2)
        t = int(moments["count"].add_(1))
        size = torch._foreach_div(torch._foreach_sqrt(v), (1 - b2**t) ** 0.5)
        torch._foreach_add_(size, EPS)
        torch._foreach_addcdiv_(p, m, size, -lr / (1 - b1**t))


def optimiser(protocol: Protocol, net: Net) -> Optimiser:
    """The optimiser that a protocol names, for the weights of a network."""
    if protocol.optimiser == "adamw":
        return AdamW(net.trainable, protocol.weight_decay)
    return Sgd(net.trainable, protocol.momentum, protocol.weight_decay)
