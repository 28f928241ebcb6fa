"""WMDD: barycentres against exact transport, statistics against hooks on a plain network, the loss against loops over classes."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from plain_matching import slopes, transformed
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn.functional import cross_entropy

from attar.augment.siamese import OPS, draw
from attar.budget import Budget
from attar.distill.wmdd import WMDD, class_statistics
from attar.errors import UsageError
from attar.execute.plan import Plan
from attar.match.barycentre import barycentre, plan
from attar.match.gradients import slots
from attar.nets.fit import net_of
from attar.run import run
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import resources

BATCH = "convnet:width=4:depth=2:norm=batch"
SMALL = WMDD(net=BATCH, epochs=2, steps=3)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("n", "k"), [(6, 2), (12, 4), (12, 12), (15, 3)])
def test_plans_carry_all_mass_at_nearly_the_least_cost(n: int, k: int) -> None:
    """Against an assignment of the examples to n / k copies of every point."""
    x, points = torch.randn(n, 3, generator=chance(1)).double(), torch.randn(k, 3, generator=chance(2)).double()
    found = plan(x, points)
    assert torch.allclose(found.sum(0), torch.full((k,), 1 / k).double(), atol=1e-12)
    assert torch.allclose(found.sum(1), torch.full((n,), 1 / n).double(), atol=2e-2 / n)
    cost = torch.cdist(x, points).square()
    rows, columns = linear_sum_assignment(cost.repeat_interleave(n // k, 1).numpy())
    least = float(cost[rows, columns // (n // k)].mean())
    assert least * 0.98 < float((found * cost).sum()) < least * 1.05 + 0.01


def test_one_point_is_the_mean_and_as_many_as_examples_are_the_examples() -> None:
    x = torch.randn(7, 3, generator=chance(3)).double()
    assert torch.allclose(barycentre(x, 1, chance()), x.mean(0, keepdim=True), atol=1e-12)
    found = barycentre(x, 7, chance())
    assert sorted(torch.cdist(found, x).argmin(1).tolist()) == list(range(7))
    assert torch.allclose(torch.cdist(found, x).min(1).values, torch.zeros(7).double(), atol=1e-2)


def test_points_have_equal_mass_where_k_means_would_not() -> None:
    """Five examples on the left and one on the right: halves of three, and not 5 and 1."""
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [40.0]]).double()
    found = sorted(barycentre(x, 2, chance()).flatten().tolist())
    halves = min(
        (float(((x[list(a)] - x[list(a)].mean()) ** 2).sum() + ((x[list(b)] - x[list(b)].mean()) ** 2).sum()), a, b)
        for a in itertools.combinations(range(6), 3)
        for b in [tuple(i for i in range(6) if i not in a)]
    )
    wanted = sorted(float(x[list(h)].mean()) for h in halves[1:])
    assert found == pytest.approx(wanted, abs=0.3)


def test_twins_zeros_and_fewer_examples_than_points() -> None:
    assert torch.equal(barycentre(torch.zeros(5, 2), 3, chance()), torch.zeros(3, 2))
    few = barycentre(torch.tensor([[0.0, 1.0], [5.0, 1.0]]), 5, chance())
    assert few.shape == (5, 2) and torch.isfinite(few).all()


def entering(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What enters the batch norms of a module in evaluation mode."""
    seen: list[torch.Tensor] = []
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    module.eval()(x)
    return seen


def test_statistics_are_those_of_all_images_of_a_class() -> None:
    """Over images and places, also where a class is longer than a block; the official mean of batches' variances is another."""
    real = toy((150, 3, 14))
    res = resources(SMALL, real)
    net = net_of(SMALL.net, real)
    found = class_statistics(net, real, res)
    for k, members in enumerate(real.classes):
        module = net.make()
        module.load_state_dict(res["network"])
        maps = entering(module, real.draw(members))
        assert len(maps) == 2 and {f"{n}.{i}" for n in ("mean", "var") for i in (0, 1)} == set(found)
        for i, m in enumerate(maps):
            flat = m.detach().double().transpose(0, 1).flatten(1)  # [C', n H W]
            assert torch.allclose(found[f"mean.{i}"][k].double(), flat.mean(1), atol=1e-5)
            assert torch.allclose(found[f"var.{i}"][k].double(), flat.var(1, unbiased=False), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_loss_and_gradient_are_those_of_loops_over_classes(make_problem, norm: str) -> None:
    p = make_problem(norm=norm, act="swish")
    g = chance(8)
    params = dict(p.params)
    for name, value in params.items():  # running statistics of a network that has been trained
        if name.endswith(("running_mean", "running_var")):
            params[name] = value + 0.3 * torch.rand(value.shape, generator=g).double()
    p.plain.load_state_dict(params)
    ops = draw("crop_scale_rotate", 1, g, size=p.kept.shape[2:], one_op=True)
    ops = {n: v.double() if v.is_floating_point() else v for n, v in ops.items()}
    table, width = slots(p.label, p.classes), p.net.features(params, p.kept, train=False).shape[1]
    state = {"image": p.kept, "label": p.label, "slot": table["slot"], "share": (table["share"] > 0).double()}
    state["share"] = state["share"] / state["share"].sum(1, keepdim=True)
    state["target"] = torch.randn(len(p.kept), width, generator=g).double()
    layers = 2 if norm == "batch" else 0
    for i in range(layers):
        state |= {f"{n}.{i}": torch.rand(p.classes, 4, generator=g).double() for n in ("mean", "var")}
    method = WMDD(net=p.spec, bn=3.0, ce=0.7)

    def plain(image: torch.Tensor) -> torch.Tensor:
        terms = []
        for k in range(p.classes):
            x = image[p.label == k]
            x = transformed(x, {n: v.expand(len(x), *v.shape[1:]) for n, v in ops.items()})
            maps = entering(p.plain, x)[-layers:] if layers else []
            features: list[torch.Tensor] = []
            hook = p.plain.classifier.register_forward_pre_hook(lambda _, args, into=features: into.append(args[0]))
            wrong = cross_entropy(p.plain.eval()(x), torch.full((len(x),), k))
            hook.remove()
            terms.append((features[0] - state["target"][p.label == k]).norm() + 0.7 * wrong)
            for i, m in enumerate(maps):
                flat = m.transpose(0, 1).flatten(1)
                terms.append(3 * (flat.mean(1) - state[f"mean.{i}"][k]).norm())
                terms.append(3 * (flat.var(1, unbiased=False) - state[f"var.{i}"][k]).norm())
        return torch.stack(terms).sum()

    results = []
    for fn in (lambda x: method.loss({**state, "image": x}, {"augment": ops, "net": params}), plain):
        leaf = p.kept.clone().requires_grad_()
        loss = fn(leaf)
        results.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
    for a, b in zip(*results):
        assert b.abs().max() > 1e-4 and float((a - b).abs().max() / b.abs().max()) < 1e-8

    def ours(x: torch.Tensor) -> torch.Tensor:
        return method.loss({**state, "image": x}, {"augment": ops, "net": params}).detach()

    where, found = slopes(ours, p.kept, places=15)
    assert torch.allclose(results[0][1].flatten()[where], found, rtol=1e-4, atol=1e-7)


def test_targets_are_barycentres_of_each_class_and_images_stay_pictures() -> None:
    real = toy((9, 5, 14))
    res = resources(SMALL, real)
    state = SMALL.init(real, Budget(ipc=3), Seeds(0).at("init"), res)
    for k, members in enumerate(real.classes):
        g = Seeds(0).at("init").generator("barycentre", k)
        wanted = barycentre(res["features"]["features"][members], 3, g)
        assert torch.equal(state["target"][state["label"] == k], wanted)
    end = run(dataclasses.replace(SMALL, lr_img=5.0), real, [Budget(ipc=3)], seed=0, plan=Plan(), res=res).states[0]
    pixels = real.pixels(SMALL.finish(end, res).columns["image"])
    assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5 and (pixels < 1e-5).any()


def test_a_start_near_the_barycentre_takes_the_nearest_images_and_none_twice() -> None:
    real = toy((9, 5, 14))
    res = resources(SMALL, real)
    state = dataclasses.replace(SMALL, start="nearest").init(real, Budget(ipc=3), Seeds(0).at("init"), res)
    f = res["features"]["features"].double()
    for k, members in enumerate(real.classes):
        left = members.tolist()
        for image, point in zip(state["image"][state["label"] == k], state["target"][state["label"] == k].double()):
            wanted = min(left, key=lambda i: float((f[i] - point).square().sum()))
            left.remove(wanted)
            assert torch.equal(image, real.draw(torch.tensor([wanted]))[0])


def test_a_class_may_have_no_image_at_any_start() -> None:
    """Where the budget is less than one for each."""
    real, budget = toy((9, 5, 14)), Budget(rows=2)
    counts = budget.counts(real.sizes, example_bytes=real.example_bytes)
    assert 0 in counts
    for start in ("noise", "real", "nearest"):
        state = dataclasses.replace(SMALL, start=start).init(real, budget, Seeds(0).at("init"), resources(SMALL, real))
        assert torch.bincount(state["label"], minlength=3).tolist() == counts


@pytest.mark.parametrize(
    ("names", "augment", "flips"), [("abc", "auto", False), ("", "auto", True), ("abc", "flip", True)]
)
def test_digits_are_not_mirrored_unless_it_is_asked_for(names: str, augment: str, flips: bool) -> None:
    real = dataclasses.replace(toy((9, 5, 14)), class_names=tuple(names) or ("cat", "dog", "owl"))
    method, res = WMDD(net=BATCH, augment=augment), {"network": {}}
    ops = [method.draw(real, Seeds(0).at("step", t), res, t)["augment"]["op"] for t in range(30)]
    assert any(bool((op == OPS.index("flip")).any()) for op in ops) == flips


def test_statistics_want_batch_norms() -> None:
    """The paper's network has them; of one without, a weight of the statistics would weigh nothing."""
    real, budget = toy(size=(16, 16)), Budget(ipc=1)
    assert net_of(WMDD().net, real).batch_norms == 20
    bare = WMDD(net="convnet:width=4:depth=1")
    with pytest.raises(UsageError, match=r"bn=10.0 weighs .* but convnet:width=4:depth=1 has none; .* or bn=0"):
        bare.cost(real, budget)
    assert dataclasses.replace(bare, bn=0.0).cost(real, budget).memory > 0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="bn=-1"):
        WMDD(bn=-1.0)
    with pytest.raises(UsageError, match="bn=nan"):
        WMDD(bn=float("nan"))
    with pytest.raises(UsageError, match="ce=-2"):
        WMDD(ce=-2.0)
    with pytest.raises(UsageError, match="epochs=0"):
        WMDD(epochs=0)
    with pytest.raises(UsageError, match="start 'clusters' is unknown; use noise, real or nearest"):
        WMDD(start="clusters")
