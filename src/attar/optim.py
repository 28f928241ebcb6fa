"""Optimisers as pure functions on the state: their moments are named tensors beside what they learn.

The update rules are torch's (SGD with momentum, Adam, AdamW), so that settings from papers carry over unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from attar.errors import UsageError

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Opt:
    """How one learned tensor moves.

    Args:
        kind: ``sgd``, ``adam`` or ``adamw``.
        lr: learning rate, > 0.
        momentum: SGD momentum, in [0, 1).
        betas: Adam's two decay rates.
        decay: weight decay (decoupled for adamw).
        schedule: ``constant`` or ``cosine`` (to 0 over the run).
        clip: largest gradient norm, None for no limit.
        project: (low, high) to clamp to after each update, None for none.
        average: decay of an exponential moving average kept as ``NAME.average``, None for none. The first value has no
            share in it: of a short run it would be most of the average.
    """

    kind: str = "sgd"
    lr: float
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.0
    schedule: str = "constant"
    clip: float | None = None
    project: tuple[float, float] | None = None
    average: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("sgd", "adam", "adamw"):
            raise UsageError(f"optimiser '{self.kind}' is unknown; use sgd, adam or adamw")
        if not self.lr > 0 or not math.isfinite(self.lr):
            raise UsageError(f"learning rate {self.lr} must be a positive number")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum={self.momentum} is not in [0, 1); try 0.5")
        if self.schedule not in ("constant", "cosine"):
            raise UsageError(f"schedule '{self.schedule}' is unknown; use constant or cosine")

    def rate(self, done: float) -> float:
        """The learning rate when the fraction ``done`` of the run is over."""
        return self.lr if self.schedule == "constant" else self.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def slots(self, name: str, value: torch.Tensor) -> Tensors:
        """The moments to keep in the state for the tensor ``name``."""
        new = {}
        if self.kind == "sgd" and self.momentum:
            new[f"{name}.momentum"] = torch.zeros_like(value)
        if self.kind != "sgd":
            new[f"{name}.first"], new[f"{name}.second"] = torch.zeros_like(value), torch.zeros_like(value)
            new[f"{name}.count"] = torch.zeros((), dtype=torch.int64)
        if self.average is not None:
            new[f"{name}.average"], new[f"{name}.averaged"] = value.clone(), torch.zeros((), dtype=torch.int64)
        return new

    @torch.no_grad()
    def update(self, state: Tensors, name: str, grad: torch.Tensor, done: float = 0.0) -> None:
        """Moves ``state[name]`` along ``-grad`` in place, and its moments with it.

        Args:
            grad: same shape as ``state[name]``.
            done: the fraction of the run that is over, for the schedule.
        """
        value, lr = state[name], self.rate(done)
        if self.clip is not None:
            grad = grad * (self.clip / (grad.norm() + 1e-6)).clamp(max=1.0)
        if self.decay and self.kind != "adamw":
            grad = grad + self.decay * value
        if self.kind == "sgd":
            self._sgd(state, name, grad, lr)
        else:
            self._adam(state, name, grad, lr)
        if self.project is not None:
            value.clamp_(*self.project)
        if self.average is not None:
            count = int(state[f"{name}.averaged"].add_(1))
            state[f"{name}.average"].lerp_(value, (1 - self.average) / (1 - self.average**count))

    def _sgd(self, state: Tensors, name: str, grad: torch.Tensor, lr: float) -> None:
        if self.momentum:
            grad = state[f"{name}.momentum"].mul_(self.momentum).add_(grad)
        state[name].add_(grad, alpha=-lr)

    def _adam(self, state: Tensors, name: str, grad: torch.Tensor, lr: float) -> None:
        b1, b2 = self.betas
        if self.kind == "adamw":
            state[name].mul_(1 - lr * self.decay)
        first = state[f"{name}.first"].lerp_(grad, 1 - b1)
        second = state[f"{name}.second"].mul_(b2).addcmul_(grad, grad, value=1 - b2)
        count = int(state[f"{name}.count"].add_(1))
        size = (second / (1 - b2**count)).sqrt_().add_(1e-8)
        state[name].addcdiv_(first, size, value=-lr / (1 - b1**count))
