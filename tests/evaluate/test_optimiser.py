"""The optimisers against torch's own, step by step in float64."""

from __future__ import annotations

import pytest
import torch

from attar.evaluate.optimiser import AdamW, Optimiser, Sgd

SHAPES = {"conv": (4, 3, 3, 3), "linear": (5, 4), "bias": (4,), "scale": (4,)}
RATES = [0.1, 0.1, 0.05, 0.02, 0.2, 0.1, 0.01, 0.1]


def start(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*shape, generator=generator, dtype=torch.float64) for name, shape in SHAPES.items()}


def slope(x: torch.Tensor, step: int) -> torch.Tensor:
    """A gradient that changes with place and step."""
    return torch.sin(3 * x) + x * (1 + step % 3)


def followed(rule: Optimiser, theirs: torch.optim.Optimizer) -> None:
    """Both from the same start along the same rates; every step must agree."""
    mine = start(0) | {"buffer": torch.ones(3)}
    moments = rule.start(mine)
    weights = {name: p for group in theirs.param_groups for name, p in zip(group["names"], group["params"])}
    for step, lr in enumerate(RATES):
        rule.update(mine, moments, {name: slope(mine[name], step) for name in SHAPES}, lr)
        for group in theirs.param_groups:
            group["lr"] = lr
        for p in weights.values():
            p.grad = slope(p.detach(), step)
        theirs.step()
        for name, p in weights.items():
            torch.testing.assert_close(mine[name], p.detach(), rtol=1e-12, atol=1e-14, msg=f"{name}, step {step}")
    assert torch.equal(mine["buffer"], torch.ones(3))


def group(*names: str, **settings: float) -> dict[str, object]:
    return {"params": [torch.nn.Parameter(start(0)[n]) for n in names], "names": names, **settings}


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.3])
def test_adamw_equals_torch_without_decay_of_biases_and_norms(decay: float) -> None:
    """The published groups: weights of more than one dimension decay, others do not."""
    groups = [group("conv", "linear", weight_decay=decay), group("bias", "scale", weight_decay=0.0)]
    followed(AdamW(tuple(SHAPES), decay), torch.optim.AdamW(groups, lr=1.0))


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.05)])
def test_sgd_equals_torch(momentum: float, decay: float) -> None:
    followed(
        Sgd(tuple(SHAPES), momentum, decay),
        torch.optim.SGD([group(*SHAPES, weight_decay=decay)], lr=1.0, momentum=momentum),
    )
