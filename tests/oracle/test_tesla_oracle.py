"""TESLA against its algorithm written out, its relation to MTT, the factor that the official code loses, and its labels."""

from __future__ import annotations

import pytest
import torch
from plain_matching import slopes
from plain_trajectory import flat, mtt_loss, tesla_gradients
from torch.nn.functional import one_hot

import attar.testing
from attar.augment.siamese import COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE
from attar.budget import Budget
from attar.distill.mtt import MTT
from attar.distill.tesla import TESLA
from attar.execute.plan import Plan
from attar.match.chunks import chunks
from attar.match.trajectories import walk
from attar.nets.fit import net_of
from attar.resources.experts import snapshot
from attar.run import run
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import cast, method_of, resources


def step_of(make_problem, *, steps: int = 4, batch_syn: int | None = 4, soft: bool = False, channels: int = 3):
    """Settings, a state and a batch in float64: the weights of two problems stand for an expert at two times."""
    how = {"counts": (2, 3, 1), "side": 4, "depth": 1, "width": 3, "act": "swish", "channels": channels}
    p, far = make_problem(**how), make_problem(**how, seed=9).params
    goal = {k: v + 0.2 * (far[k] - v) for k, v in p.params.items()}
    drawn = walk(COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, steps, Seeds(4), size=(4, 4), device=torch.device("cpu"))
    g = torch.Generator().manual_seed(2)
    target = torch.softmax(torch.randn(6, 3, generator=g).double(), 1) if soft else one_hot(p.label, 3).double()
    state = {"image": p.kept, "label": p.label, "target": target, "rate": torch.tensor(0.4, dtype=torch.float64)}
    settings = {"net": p.spec, "syn_steps": steps, "batch_syn": batch_syn}
    return p, settings, state, {"begin": p.params, "goal": goal, **cast(drawn, torch.float64)}


def gradients(method, state, batch):
    image, rate = state["image"].clone().requires_grad_(), state["rate"].clone().requires_grad_()
    loss = method.loss({**state, "image": image, "rate": rate}, batch)
    return loss.detach(), *torch.autograd.grad(loss, [image, rate])


def plain(p, settings, state, batch):
    index = [i.tolist() for i in chunks(len(p.kept), settings["batch_syn"], batch["keys"])]
    ends = [flat(batch[name], p.plain) for name in ("begin", "goal")]
    return (p.plain, *ends, state["image"], state["target"], state["rate"], index, batch["augment"])


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    assert b.abs().max() > 1e-3
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("batch_syn", [None, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_loss_and_gradients_are_those_of_the_algorithm(
    make_problem, channels: int, batch_syn: int | None, soft: bool
) -> None:
    p, settings, state, batch = step_of(make_problem, batch_syn=batch_syn, soft=soft, channels=channels)
    found = gradients(TESLA(**settings), state, batch)
    for a, b in zip(found, tesla_gradients(*plain(p, settings, state, batch))):
        assert gap(a, b) < 1e-8


def test_the_formula_has_a_factor_of_two(make_problem) -> None:
    """With one step nothing is left out, and TESLA is the gradient of the loss: finite differences know the factor."""
    _, settings, state, batch = step_of(make_problem, steps=1)
    method = TESLA(**settings)
    _, image, rate = gradients(method, state, batch)
    where, found = slopes(lambda x: method.loss({**state, "image": x}, batch).detach(), state["image"], places=40)
    assert found.abs().max() > 1e-3
    assert torch.allclose(image.flatten()[where], found, rtol=1e-5, atol=1e-8)
    _, found = slopes(lambda r: method.loss({**state, "rate": r}, batch).detach(), state["rate"], places=1)
    assert torch.allclose(rate.flatten(), found, rtol=1e-6)


def test_it_has_the_loss_of_mtt_and_points_nearly_as_mtt(make_problem) -> None:
    p, settings, state, batch = step_of(make_problem, steps=6)
    state = {**state, "rate": torch.tensor(0.1, dtype=torch.float64)}
    tesla, mtt = (gradients(kind(**settings), state, batch) for kind in (TESLA, MTT))
    assert torch.equal(tesla[0], mtt[0])
    assert torch.allclose(mtt[0], mtt_loss(*plain(p, settings, state, batch)), rtol=1e-10)
    cosine = torch.cosine_similarity(tesla[1].flatten(), mtt[1].flatten(), dim=0)
    assert 0.8 < float(cosine) < 0.9999


SMALL = method_of(TESLA)


def taught() -> TESLA:
    return TESLA(**{**vars(SMALL), "teacher_label": True})


def test_a_teacher_labels_the_first_images() -> None:
    """The labels are the softmax of an expert of the last epoch that is looked at, and stay."""
    real, method = toy(), taught()
    res = resources(method, real)
    state = method.init(real, Budget(ipc=3), Seeds(0), res)
    net = net_of(method.net, real)
    answers = [torch.softmax(net(snapshot(res[f"expert-{e}"], method.reach), state["image"]), 1) for e in range(2)]
    assert sum(torch.allclose(state["target"], a, atol=1e-6) for a in answers) == 1
    end = run(method, real, [Budget(ipc=3)], seed=0, plan=Plan(), res=res).states[0]
    rows = method.finish(end, res)
    assert torch.allclose(rows.extra["soft_label"].sum(1), torch.ones(9), atol=1e-5)
    assert rows.recipe["labels"] == "soft" and rows.recipe["lr"] == float(end["rate"])
    hard = SMALL.finish(end, res)
    assert "labels" not in hard.recipe and not hard.extra


@pytest.mark.parametrize(
    "check", ["same_seed_same_bytes", "resume_same_bytes", "loss_is_pure", "finish_twice", "artifact_opens"]
)
def test_the_common_checks_hold_with_a_teacher(check: str) -> None:
    attar.testing.check_method(taught(), checks=[check])
