"""Networks for twins: ours in double precision with a memory, and the same written down as modules."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from attar.nets import Net, Params
from attar.seeds import Seeds


@dataclass(frozen=True)
class Double:
    """A network in double precision that remembers what it was trained on."""

    net: Net
    seen: list[torch.Tensor] = field(default_factory=list)

    @property
    def trainable(self) -> tuple[str, ...]:
        return self.net.trainable

    @property
    def has_batch_statistics(self) -> bool:
        return self.net.has_batch_statistics

    @property
    def classes(self) -> int:
        return self.net.classes

    def init(self, seeds: Seeds, device: torch.device | str = "cpu") -> Params:
        params = self.net.init(seeds, device)
        return {k: v.double() if v.is_floating_point() else v for k, v in params.items()}

    def __call__(self, params: Params, x: torch.Tensor, *, train: bool = True, update: bool = True) -> torch.Tensor:
        self.seen.append(x)
        return self.net(params, x, train=train, update=update)


def module(norm: str, start: Params) -> nn.Module:
    """A ConvNet of one block of width 8 for 8x8 images, written down again, with the weights of ``start``."""
    normed = {"instance": lambda: nn.GroupNorm(8, 8), "batch": lambda: nn.BatchNorm2d(8)}[norm]()
    layers = [nn.Conv2d(1, 8, 3, padding=3), normed, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 6 * 6, 10)]
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        for own, given in zip([*model.parameters(), *model.buffers()], start.values(), strict=True):
            own.copy_(given)
    return model


def assert_alike(found: Params, expected: nn.Module, *, rtol: float = 1e-9) -> None:
    """Every parameter and buffer of ours is that of the module."""
    for (name, own), other in zip(found.items(), [*expected.parameters(), *expected.buffers()], strict=True):
        if own.is_floating_point():  # but for how many batches a batch norm saw, which nothing depends on
            torch.testing.assert_close(
                own, other.detach(), rtol=rtol, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}"
            )
