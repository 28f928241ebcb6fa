"""Our optimisers on a state against torch.optim on parameters, step by step in float64."""

from __future__ import annotations

import math

import pytest
import torch

from attar.errors import UsageError
from attar.optim import Opt

STEPS = 12

CASES = {
    "sgd": (Opt(lr=0.1), torch.optim.SGD, {}),
    "momentum": (Opt(lr=0.1, momentum=0.5), torch.optim.SGD, {"momentum": 0.5}),
    "momentum and decay": (
        Opt(lr=0.1, momentum=0.9, decay=0.05),
        torch.optim.SGD,
        {"momentum": 0.9, "weight_decay": 0.05},
    ),
    "adam": (Opt(kind="adam", lr=0.01), torch.optim.Adam, {}),
    "adam with betas and decay": (
        Opt(kind="adam", lr=0.01, betas=(0.5, 0.9), decay=0.1),
        torch.optim.Adam,
        {"betas": (0.5, 0.9), "weight_decay": 0.1},
    ),
    "adamw": (Opt(kind="adamw", lr=0.01, decay=0.2), torch.optim.AdamW, {"weight_decay": 0.2}),
    "adamw without decay": (Opt(kind="adamw", lr=0.01), torch.optim.AdamW, {"weight_decay": 0.0}),
}


def start() -> torch.Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slope(x: torch.Tensor, step: int) -> torch.Tensor:
    """A gradient that changes with place and step, and is short at every fourth."""
    return (torch.sin(3 * x) + x * (1 + step % 3)) * (0.05 if step % 4 == 0 else 1)


@pytest.mark.parametrize("clip", [None, 1.5])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("case", CASES)
def test_equals_torch_step_by_step(case: str, schedule: str, clip: float | None) -> None:
    opt, kind, settings = CASES[case]
    opt = Opt(**{**vars(opt), "schedule": schedule, "clip": clip})
    state = {"x": start()}
    state |= opt.slots("x", state["x"])
    theirs = torch.nn.Parameter(start())
    optimiser = kind([theirs], lr=opt.lr, **settings)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=STEPS) if schedule == "cosine" else None
    clipped = 0
    for step in range(STEPS):
        grad = slope(state["x"], step)
        clipped += clip is not None and float(grad.norm()) > clip
        opt.update(state, "x", grad, step / STEPS)
        theirs.grad = slope(theirs.detach(), step)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([theirs], clip)
        optimiser.step()
        if scheduler:
            scheduler.step()
        assert torch.allclose(state["x"], theirs.detach(), rtol=1e-9, atol=1e-11), step
    assert clipped == 0 if clip is None else 2 < clipped < STEPS
    assert not torch.allclose(state["x"], start(), atol=0.01)


def test_update_leaves_the_gradient_and_keeps_shapes() -> None:
    opt = Opt(kind="adam", lr=0.1, decay=0.1, clip=0.1, average=0.9)
    state = {"x": start()}
    state |= opt.slots("x", state["x"])
    layout = {k: (v.shape, v.dtype) for k, v in state.items()}
    assert set(layout) == {"x", "x.first", "x.second", "x.count", "x.average", "x.averaged"}
    grad = slope(state["x"], 0)
    before = grad.clone()
    opt.update(state, "x", grad)
    assert torch.equal(grad, before)
    assert {k: (v.shape, v.dtype) for k, v in state.items()} == layout


def test_average_and_projection() -> None:
    """The average of updated values alone, with weights .75^age: the first value, 7 here, has no share in it."""
    opt = Opt(lr=1.0, average=0.75, project=(-0.5, 0.5))
    state = {"x": torch.full((2,), 7.0, dtype=torch.float64)}
    state |= opt.slots("x", state["x"])
    seen = []
    for grad, value in ((9.0, -0.5), (-9.0, 0.5), (-0.1, 0.5)):
        opt.update(state, "x", torch.full((2,), grad, dtype=torch.float64))
        assert state["x"].tolist() == [value, value]
        seen = [value, *seen]
        weights = [0.75**age for age in range(len(seen))]
        expected = sum(w * x for w, x in zip(weights, seen)) / sum(weights)
        assert state["x.average"].tolist() == pytest.approx([expected, expected])


def test_rates_of_a_schedule() -> None:
    cosine = Opt(lr=2.0, schedule="cosine")
    assert [cosine.rate(d) for d in (0, 0.5, 1, 1.5)] == pytest.approx([2, 1, 0, 0], abs=1e-12)
    assert cosine.rate(1 / 3) == pytest.approx(1 + math.cos(math.pi / 3))
    assert Opt(lr=2.0).rate(0.7) == 2.0


@pytest.mark.parametrize(
    "wrong", [{"kind": "lamb"}, {"lr": 0.0}, {"lr": float("nan")}, {"momentum": 1.0}, {"schedule": "step"}]
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        Opt(**{"lr": 0.1, **wrong})
