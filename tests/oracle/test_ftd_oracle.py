"""FTD: the direction to flat valleys against its formula on a flat vector, the average of the images, and MTT's loss."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from plain_matching import slopes
from plain_trajectory import batch_loss, flat, mtt_loss, shaped
from torch.nn.functional import one_hot

from attar.augment.siamese import COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE
from attar.budget import Budget
from attar.distill.ftd import FTD
from attar.distill.mtt import MTT
from attar.errors import UsageError
from attar.execute.plan import Plan
from attar.match.chunks import chunks
from attar.match.trajectories import walk
from attar.nets.fit import prefixed
from attar.optim import Opt
from attar.params.table import images, made_of
from attar.resources.experts import Expert, snapshot
from attar.resources.flat import flat_direction
from attar.run import run
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import cast, method_of, resources

TINY = {"counts": (2, 3, 1), "side": 4, "depth": 1, "width": 3, "act": "swish"}
SMALL = method_of(FTD)


def plain_direction(grad, w: torch.Tensor, rho: float, alpha: float, adaptive: bool) -> torch.Tensor:
    """GSAM as its authors write it: by the cosine of the two gradients. w: one vector of all weights."""
    old = grad(w)
    step = w * w * old / torch.linalg.norm(w * old) if adaptive else old / torch.linalg.norm(old)
    new = grad(w + rho * step)
    cosine = (old @ new) / (torch.linalg.norm(old) * torch.linalg.norm(new))
    across = old - cosine * torch.linalg.norm(old) * new / torch.linalg.norm(new)
    assert abs(float(across @ new)) < 1e-10
    return new - alpha * across


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(("rho", "alpha"), [(0.01, 0.3), (0.5, 1.0), (0.2, 0.0)])
def test_the_direction_of_an_expert_is_that_of_the_formula(
    make_problem, rho: float, alpha: float, adaptive: bool
) -> None:
    p = make_problem(**TINY)
    task = Expert(net=p.spec, rho=rho, alpha=alpha, adaptive=adaptive)
    target = one_hot(p.label, 3).double()
    state = {k: v.clone().requires_grad_() for k, v in prefixed(p.params).items()}
    loss = task.flat(state, {"image": p.kept, "target": target})
    found = flat(dict(zip(p.params, torch.autograd.grad(loss, list(state.values())))), p.plain)

    def grad(w: torch.Tensor) -> torch.Tensor:
        w = w.detach().requires_grad_()
        return torch.autograd.grad(batch_loss(p.plain, w, p.kept, target), w)[0]

    w = flat(p.params, p.plain)
    wanted, plain = plain_direction(grad, w, rho, alpha, adaptive), grad(w)
    assert torch.allclose(loss.detach(), batch_loss(p.plain, w, p.kept, target), rtol=1e-12)
    assert torch.allclose(found, wanted, rtol=1e-8, atol=1e-10)
    assert (wanted - plain).norm() > 1e-3 * plain.norm()


def test_where_the_gradient_is_zero_the_direction_is_zero() -> None:
    still = {"w": torch.zeros(3)}
    _, direction = flat_direction(lambda w: (torch.zeros(()), {"w": torch.zeros(3)}), still, rho=0.1, alpha=0.3)
    assert torch.equal(direction["w"], torch.zeros(3))


def test_without_a_radius_an_expert_is_that_of_mtt(make_problem) -> None:
    p = make_problem(**TINY)
    assert Expert(alpha=0.3, adaptive=False) == Expert()
    tiny = Expert(net=p.spec, rho=1e-9)
    target = one_hot(p.label, 3).double()
    state = {k: v.clone().requires_grad_() for k, v in prefixed(p.params).items()}
    batch = {"image": p.kept, "target": target}
    ours, plain = (torch.autograd.grad(fn(state, batch), list(state.values())) for fn in (tiny.flat, tiny.loss))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(ours, plain))


def test_experts_follow_the_direction_and_are_others_than_those_of_mtt() -> None:
    """Two epochs by hand: the snapshots are those of plain descent along GSAM's direction."""
    real = toy()
    method = dataclasses.replace(SMALL, experts=1, rho=0.5)
    (task,) = method.needs()
    assert (task.rho, task.alpha, task.adaptive, task.epochs) == (0.5, 0.3, True, method.reach)
    made = resources(method, real)["expert-0"]
    weights = {k: v.clone() for k, v in snapshot(made, 0).items()}
    for t in range(task.length(real)):
        batch = task.draw(real, Seeds(0).at("step", t), {}, t)
        leaves = {f"net.{k}": v.clone().requires_grad_() for k, v in weights.items()}
        grads = torch.autograd.grad(task.flat(leaves, batch), list(leaves.values()))
        weights = {k: v - task.lr * g for (k, v), g in zip(weights.items(), grads)}
    assert all(torch.allclose(weights[k], v, atol=1e-3) for k, v in snapshot(made, task.epochs).items())
    plain = resources(dataclasses.replace(method_of(MTT), experts=1), real)["expert-0"]
    assert torch.equal(snapshot(plain, 0)["classifier.weight"], snapshot(made, 0)["classifier.weight"])
    assert not torch.equal(snapshot(plain, 1)["classifier.weight"], snapshot(made, 1)["classifier.weight"])


def step_of(make_problem):
    """A method, a state and a batch in float64: the weights of two problems stand for an expert at two times."""
    p, far = make_problem(**TINY), make_problem(**TINY, seed=9).params
    goal = {k: v + 0.2 * (far[k] - v) for k, v in p.params.items()}
    drawn = walk(COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, 4, Seeds(4), size=(4, 4), device=torch.device("cpu"))
    rate, target = torch.tensor(0.4, dtype=torch.float64), one_hot(p.label, 3).double()
    state = {"image": p.kept, "label": p.label, "target": target, "rate": rate}
    method = FTD(net=p.spec, syn_steps=4, batch_syn=4)
    return p, method, state, {"begin": p.params, "goal": goal, **cast(drawn, torch.float64)}


def test_loss_and_gradients_are_those_of_the_trajectory(make_problem) -> None:
    p, method, state, batch = step_of(make_problem)
    index = [i.tolist() for i in chunks(len(p.kept), 4, batch["keys"])]
    begin, goal = flat(batch["begin"], p.plain), flat(batch["goal"], p.plain)

    def plain(x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        return mtt_loss(p.plain, begin, goal, x, state["target"], rate, index, batch["augment"])

    def ours(x: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        return method.loss({**state, "image": x, "rate": rate}, batch)

    found, wanted = [], []
    for fn, into in ((ours, found), (plain, wanted)):
        leaves = [state[k].clone().requires_grad_() for k in ("image", "rate")]
        loss = fn(*leaves)
        into += [loss.detach(), *torch.autograd.grad(loss, leaves)]
    for a, b in zip(found, wanted):
        assert b.abs().max() > 1e-3 and float((a - b).abs().max() / b.abs().max()) < 1e-8
    where, slope = slopes(lambda x: ours(x, state["rate"]).detach(), state["image"], places=20)
    assert torch.allclose(found[1].flatten()[where], slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("ema", [0.0, 0.5, 0.9])
def test_the_average_over_all_steps_is_handed_over(ema: float) -> None:
    """Of the updated images alone, with weights ema^age, by runs of 0 to 3 steps: the start has no share in it."""
    real, method = toy(), dataclasses.replace(SMALL, ema=ema)
    res, seen = resources(method, real), []
    for steps in range(4):
        task = dataclasses.replace(method, steps=steps)
        seen.append(run(task, real, [Budget(ipc=2)], seed=0, plan=Plan(), res=res).states[0])
    for n, state in enumerate(seen[1:], 1):
        weights = torch.tensor([ema ** (n - i) for i in range(1, n + 1)])
        images = torch.stack([past["image"] for past in seen[1 : n + 1]])  # [n, M, C, H, W]
        average = torch.einsum("n,nmchw->mchw", weights / weights.sum(), images)
        assert torch.allclose(state["image.average"], average, atol=1e-5)
        assert not torch.allclose(average, seen[0]["image"], atol=1e-3)
    rows = method.finish(seen[-1], res)
    assert torch.equal(rows.columns["image"], seen[-1]["image.average"])
    assert torch.equal(rows.columns["image"], seen[-1]["image"]) == (ema == 0)


def test_impossible_settings_are_refused() -> None:
    for how in ({"ema": 1.0}, {"ema": -0.1}, {"rho": 0.0}, {"alpha": -1.0}, {"syn_steps": 0}):
        with pytest.raises(UsageError, match=f"{next(iter(how))}="):
            FTD(**how)


def test_the_weights_are_named(make_problem) -> None:
    """The plain twin's vector and ours are in one order, or the comparisons above would compare nothing."""
    p = make_problem(**TINY)
    assert list(shaped(flat(p.params, p.plain), p.plain)) == list(p.net.trainable)


def test_the_average_of_what_the_images_are_made_of_is_decoded() -> None:
    real, method = toy(), dataclasses.replace(SMALL, params="bases:styles=2", steps=2)
    res = resources(method, real)
    state = run(method, real, [Budget(ipc=8)], seed=0, plan=Plan(), res=res).states[0]
    rows = method.finish(state, res)
    assert torch.equal(rows.stored["basis"], state["basis.average"])
    averages = {name: state[f"{name}.average"] for name in made_of(method.params).learn(Opt(lr=1.0))}
    assert torch.equal(rows.columns["image"], images(method.params, {**state, **averages}))
    assert not torch.equal(rows.columns["image"], images(method.params, state))
