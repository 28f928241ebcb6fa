"""The matching losses as the papers write them: torch modules, one class at a time, one row at a time. Slow and plain."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from attar.augment.siamese import augment

Ops = Mapping[str, torch.Tensor]


class PlainConvNet(nn.Module):
    """A ConvNet written out; its tensors have the names of attar's, so that weights can be copied."""

    def __init__(
        self,
        channels: int,
        side: int,
        classes: int,
        *,
        width: int,
        depth: int,
        norm: str = "instance",
        act: str = "relu",
    ) -> None:
        super().__init__()
        acts = {"relu": nn.ReLU, "swish": nn.SiLU, "sigmoid": nn.Sigmoid}
        norms = {"instance": lambda: nn.GroupNorm(width, width), "batch": lambda: nn.BatchNorm2d(width)}
        self.body = nn.Sequential()
        side += 4 if channels == 1 else 0
        for block in range(depth):
            first = block == 0
            padding = 3 if first and channels == 1 else 1
            self.body.append(nn.Conv2d(channels if first else width, width, 3, padding=padding))
            self.body.append(norms[norm]())
            self.body.append(acts[act]())
            self.body.append(nn.AvgPool2d(2))
            side //= 2
        self.classifier = nn.Linear(width * side * side, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, D]."""
        return self.body(x).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, K]."""
        return self.classifier(self.features(x))


def freeze_batch_norms(net: nn.Module, real: torch.Tensor) -> None:
    """One forward of 16 real images of every class in training mode, then the statistics stand still.

    Args:
        real: [K, B, C, H, W].
    """
    net.train()
    with torch.no_grad():
        net(torch.cat([of_class[:16] for of_class in real]))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def of_class(ops: Ops | None, k: int, n: int) -> Ops | None:
    """The parameters of class k for n images."""
    return None if ops is None else {name: value[[k] * n] for name, value in ops.items()}


def transformed(x: torch.Tensor, ops: Ops | None) -> torch.Tensor:
    """[B, C, H, W] -> [B, C, H, W]."""
    return x if ops is None else augment(x, ops)


def dm_loss(
    net: PlainConvNet, real: torch.Tensor, kept: torch.Tensor, label: torch.Tensor, ops: Ops | None
) -> torch.Tensor:
    """Zhao and Bilen 2023: per class, the squared distance of mean features, summed over features and classes.

    Args:
        real: [K, B, C, H, W], not transformed. kept: [M, C, H, W]. ops: K rows.
    """
    loss = torch.zeros((), dtype=kept.dtype)
    for k, of_real in enumerate(real):
        of_kept = kept[label == k]
        real_mean = net.features(transformed(of_real, of_class(ops, k, len(of_real)))).mean(0).detach()
        kept_mean = net.features(transformed(of_kept, of_class(ops, k, len(of_kept)))).mean(0)
        loss = loss + ((real_mean - kept_mean) ** 2).sum()
    return loss


def row_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One tensor's share of the distance of gradients: a literal loop over output rows."""
    total = torch.zeros((), dtype=a.dtype)
    for u, v in zip(a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)):
        total = total + 1 - (u * v).sum() / (u.pow(2).sum().sqrt() * v.pow(2).sum().sqrt() + 1e-6)
    return total


def gradient_loss(
    net: nn.Module, real: torch.Tensor, kept: torch.Tensor, label: torch.Tensor, ops: Ops | None = None
) -> torch.Tensor:
    """Zhao, Mopuri and Bilen 2021; with ``ops`` Zhao and Bilen 2021. Differentiable in ``kept`` by double backward."""
    weights = [p for p in net.parameters() if p.ndim > 1]
    loss = torch.zeros((), dtype=kept.dtype)
    for k, of_real in enumerate(real):
        of_kept = kept[label == k]
        x, s = (transformed(part, of_class(ops, k, len(part))) for part in (of_real, of_kept))
        wanted = torch.autograd.grad(cross_entropy(net(x), torch.full((len(x),), k)), weights)
        found = torch.autograd.grad(cross_entropy(net(s), torch.full((len(s),), k)), weights, create_graph=True)
        for a, b in zip(found, wanted):
            loss = loss + row_distance(a, b.detach())
    return loss


def slopes(fn, x: torch.Tensor, *, places: int, step: float = 1e-5) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences of a scalar function at some random places of x, and those places.

    Args:
        fn: x -> scalar, in float64.

    Returns:
        places int64 [n] of the flat x, and slopes float64 [n].
    """
    where = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(7))[:places]
    found = []
    for i in where.tolist():
        up, down = x.detach().clone(), x.detach().clone()
        up.view(-1)[i] += step
        down.view(-1)[i] -= step
        found.append((float(fn(up)) - float(fn(down))) / (2 * step))
    return where, torch.tensor(found, dtype=torch.float64)
