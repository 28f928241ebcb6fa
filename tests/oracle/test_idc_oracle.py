"""IDC's loss against loops over classes and tiles, its one step against the official K, its run against torch's optimisers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from plain_matching import PlainConvNet, of_class, row_distance, slopes
from plain_tiles import plain_decode
from torch.nn.functional import cross_entropy

from attar.augment import cutmix, idc, siamese
from attar.budget import Budget
from attar.distill.idc import IDC
from attar.errors import UsageError
from attar.execute.plan import Plan
from attar.match.gradients import Measure, slots
from attar.match.lessons import mixed_lessons
from attar.nets.fit import prefixed
from attar.run import run
from attar.seeds import Seeds
from attar.testing.toys import toy

NET = "convnet:width=4:depth=1"
MEAN, STD = (
    torch.tensor([0.4, 0.5, 0.6]).double()[:, None, None],
    torch.tensor([0.2, 0.25, 0.3]).double()[:, None, None],
)
PLAIN = {
    "mse": lambda a, b: ((a - b) ** 2).sum(),
    "l1": lambda a, b: (a - b).abs().sum(),
    "cos": row_distance,
}


def class_term(net, real: torch.Tensor, kept: torch.Tensor, k: int, metric: str) -> torch.Tensor:
    """One class: images of both sides as the network sees them, [B, C, H, W] each."""
    weights = [w for w in net.parameters() if w.ndim == 4]
    wanted = torch.autograd.grad(cross_entropy(net(real), torch.full((len(real),), k)), weights)
    found = torch.autograd.grad(cross_entropy(net(kept), torch.full((len(kept),), k)), weights, create_graph=True)
    return torch.stack([PLAIN[metric](a, b.detach()) for a, b in zip(found, wanted)]).sum()


def seen(image: torch.Tensor, factor: int, ops, k: int, mean=MEAN, std=STD) -> torch.Tensor:
    """Decoded, normalised, transformed: stored images of one class -> what the network sees."""
    x = (plain_decode(image, factor, 0.5) - mean) / std
    return idc.augment(x, of_class(ops, k, len(x)))


def plain_loss(p, image: torch.Tensor, ops, *, factor: int, metric: str) -> torch.Tensor:
    terms = []
    for k, real in enumerate(p.real):
        x = idc.augment(real, of_class(ops, k, len(real)))
        terms.append(class_term(p.plain, x, seen(image[p.label == k], factor, ops, k), k, metric))
    return torch.stack(terms).sum()


def ours(p, image: torch.Tensor, ops, *, factor: int, metric: str) -> torch.Tensor:
    """As IDC.draw does: the real images come transformed."""
    real = idc.augment_by_class(p.real, ops)
    table = slots(p.label.repeat_interleave(factor**2), p.classes)
    share = table["share"].double()
    share = (share > 0) / (share > 0).sum(1, keepdim=True).double()
    state = {"image": image, "label": p.label, "mean": MEAN, "std": STD, **prefixed(p.params)}
    state |= {"slot": table["slot"], "share": share}
    return IDC(net=p.spec, factor=factor, metric=metric).loss(state, {"real": real, "augment": ops})


def problem_of(make_problem, strategy: str = "color_crop_cutout_rotate", **how):
    """A problem whose stored images are pixels in [0, 1], and parameters of every class."""
    p = make_problem(**how)
    ops = idc.draw_by_class(strategy, p.classes, torch.Generator().manual_seed(3), size=p.kept.shape[2:])
    ops = {n: v.double() if v.is_floating_point() else v for n, v in ops.items()}
    return dataclasses.replace(p, kept=p.kept.sigmoid()), ops


def gradient(loss, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


@pytest.mark.parametrize("metric", list(PLAIN))
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_the_loss_equals_double_backward_class_by_class(make_problem, factor: int, metric: str) -> None:
    p, ops = problem_of(make_problem, counts=(2, 1), seed=factor)
    how = {"factor": factor, "metric": metric}
    assert torch.allclose(ours(p, p.kept, ops, **how), plain_loss(p, p.kept, ops, **how), rtol=1e-10)
    mine, theirs = (gradient(lambda x, f=f: f(p, x, ops, **how), p.kept) for f in (ours, plain_loss))
    assert theirs.abs().max() > 1e-6
    assert torch.allclose(mine, theirs, rtol=1e-7, atol=1e-9 * float(theirs.abs().max()))


@pytest.mark.parametrize("act", ["swish", "sigmoid"])
@pytest.mark.parametrize("metric", ["mse", "cos"])
def test_the_gradient_by_finite_differences(make_problem, metric: str, act: str) -> None:
    p, ops = problem_of(make_problem, act=act, counts=(2, 1))
    how = {"factor": 2, "metric": metric}
    where, found = slopes(lambda x: ours(p, x, ops, **how).detach(), p.kept, places=30)
    grad = gradient(lambda x: ours(p, x, ops, **how), p.kept).flatten()[where]
    assert torch.allclose(grad, found, rtol=1e-4, atol=1e-6 * float(found.abs().max()))


def test_convolutions_alone_are_matched(make_problem) -> None:
    p = make_problem()
    names = Measure("mse", least=4).names(p.net, p.params)
    assert names == [name for name, value in p.plain.named_parameters() if value.ndim == 4]
    with pytest.raises(UsageError, match="has no convolutions"):
        IDC(net="mlp").init(toy(), Budget(ipc=1), Seeds(0), {})


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_one_step_is_what_a_class_meets_of_the_official_ones(classes: int, momentum: float) -> None:
    """torch's SGD on the whole tensor, one class's gradient at a time; each class is compared at its own visits."""
    g = torch.Generator().manual_seed(0)
    first = torch.randn(classes, 5, generator=g, dtype=torch.float64)
    pull = torch.randn(6, classes, 5, generator=g, dtype=torch.float64)  # what is drawn in each cycle

    def slope(row: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return (row - at).tanh() + 0.3 * row

    x = first.clone().requires_grad_()
    official, visits = torch.optim.SGD([x], lr=0.04, momentum=momentum), []
    for cycle in range(7):  # the last looks without gradients, and so the momentum runs out
        for k in range(classes):
            visits.append(x.detach()[k].clone())
            x.grad = torch.zeros_like(first)
            if cycle < 6:
                x.grad[k] = slope(x.detach()[k], pull[cycle, k])
            official.step()
    task = IDC(lr_img=0.04, momentum=momentum)
    opt, state = task.tiled.opt(classes=classes, per_class=10), {"image": first.clone()}
    state |= opt.slots("image", state["image"])
    for cycle in range(7):
        assert torch.allclose(state["image"], torch.stack(visits[cycle * classes :][:classes]), rtol=1e-12, atol=1e-14)
        if cycle < 6:
            opt.update(state, "image", slope(state["image"], pull[cycle]))


def test_the_rate_follows_images_per_class_and_classes() -> None:
    one = IDC().tiled.opt(classes=10, per_class=10)
    assert one.lr == pytest.approx(0.005 * 2 * (1 - 0.5**10)) and one.momentum == 0.5**10
    assert IDC().tiled.opt(classes=10, per_class=50).lr == pytest.approx(5 * one.lr)
    real, task = toy((9, 9)), IDC(net=NET, factor=1)
    found = task.learned(task.init(real, Budget(ipc=4), Seeds(0), {}))["image"]
    assert found == task.tiled.opt(classes=2, per_class=4)


def test_a_run_equals_the_official_loop() -> None:
    """Two networks of three updates: images by K steps of torch's SGD, networks by torch's SGD with momentum and decay."""
    real, k = toy(channels=3), 3
    task = IDC(steps=6, outer=3, inner=2, batch=4, batch_net=5, lr_img=2.0, net=NET, start="noise")
    seeds, budget = Seeds(0), Budget(ipc=2)
    state = task.init(real, budget, seeds.at("init"), {})
    found = run(task, real, [budget], seed=0, plan=Plan()).states[0]

    mean, std = state["mean"].double(), state["std"].double()
    x = state["image"].double().requires_grad_()
    images = torch.optim.SGD([x], lr=2.0 * 2 / 10, momentum=0.5)
    net, trainer = PlainConvNet(3, 8, k, width=4, depth=1).double(), None
    for step in range(6):
        batch = task.draw(real, seeds.at("step", step), {}, step)
        assert ("lessons" in batch) == (step % 3 < 2)
        if step % 3 == 0:
            net.load_state_dict(batch["net"])
            trainer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
            clamped = x.detach().clamp(0, 1)
        ops = {n: v.double() if v.is_floating_point() else v for n, v in batch["augment"].items()}
        for c in range(k):
            rows = state["label"] == c
            if step % 3 == 0:  # at the class's own visit, as here all classes move at once
                x.data[rows] = clamped[rows] if step == 0 else x.data[rows].clamp(0, 1)
            images.zero_grad()
            class_term(net, batch["real"][c].double(), seen(x[rows], 2, ops, c, mean, std), c, "mse").backward()
            images.step()
        if "lessons" in batch:
            assert trainer is not None
            for image, target in zip(batch["lessons"]["image"].double(), batch["lessons"]["target"].double()):
                trainer.zero_grad()
                cross_entropy(net(image), target).backward()
                trainer.step()
    for c in range(k):  # to the next visit of each class
        rows = state["label"] == c
        assert torch.allclose(found["image"][rows].double(), x.detach()[rows], atol=2e-5)
        x.grad = torch.zeros_like(x)
        images.step()
    assert (found["image"] - state["image"]).abs().mean() > 1e-3
    weights = dict(net.named_parameters())
    for name, value in weights.items():
        assert torch.allclose(found[f"net.{name}"].double(), value, atol=1e-5), name


def test_a_random_part_of_large_classes_is_matched_anew_in_each_step() -> None:
    real, task = toy((20, 20)), IDC(steps=3, outer=2, inner=1, batch=3, batch_net=4, most=5, net=NET)
    state = task.init(real, Budget(ipc=3), Seeds(0).at("init"), {})
    assert state["slot"].shape == (2, 5)  # of 12 decoded images each
    parts = []
    for step in range(3):
        batch = task.draw(real, Seeds(0).at("step", step), {}, step)
        state = task.step(dict(state), batch, lambda state, *_: state)
        for k, row in enumerate(state["slot"].tolist()):
            assert len(set(row)) == 5 and all(12 * k <= i < 12 * (k + 1) for i in row)
        assert torch.allclose(state["share"], torch.full((2, 5), 0.2))
        parts.append(tuple(map(tuple, state["slot"].tolist())))
    assert len(set(parts)) == 3
    small = task.init(real, Budget(ipc=1), Seeds(0).at("init"), {})
    assert small["slot"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_lessons_are_real_images_transformed_and_mixed() -> None:
    real = toy(channels=3)
    how = {"batches": 3, "batch": 6, "strategy": "color_crop_cutout"}
    plain = mixed_lessons(real, Seeds(2), **how, share=0.0)
    mixed = mixed_lessons(real, Seeds(2), **how, share=1.0)
    order = torch.from_numpy(Seeds(2).numpy("order").choice(len(real), 18, replace=False)).split(6)
    assert len({int(i) for part in order for i in part}) == 18
    for i, index in enumerate(order):
        drawn = idc.draw("color_crop_cutout", 6, Seeds(2).generator("augment", i), size=(8, 8))
        assert torch.allclose(plain["image"][i], idc.augment(real.draw(index), drawn))
        assert plain["target"][i].argmax(1).tolist() == real.labels[index].tolist()
        drawn = idc.draw("color_crop", 6, Seeds(2).generator("augment", i), size=(8, 8))  # cutmix: without cutout
        boxes = cutmix.draw(6, Seeds(2).generator("cutmix", i), size=(8, 8))
        assert torch.allclose(mixed["image"][i], cutmix.mix(idc.augment(real.draw(index), drawn), boxes))
        area = float(cutmix.inside(boxes, (8, 8)).float().mean())
        assert torch.allclose(mixed["target"][i].sum(1), torch.ones(6))
        assert area == 0 or float(mixed["target"][i].max(1).values.min()) == pytest.approx(
            max(area, 1 - area), abs=1e-5
        )
    assert set(plain["target"].unique().tolist()) == {0.0, 1.0}
    assert mixed_lessons(toy((3, 3)), Seeds(0), batches=2, batch=5, strategy="none", share=0.5)["image"].shape[:2] == (
        2,
        5,
    )


def test_both_sides_of_a_class_share_their_parameters_and_classes_do_not() -> None:
    ops = idc.draw_by_class("color_crop_rotate_scale", 40, torch.Generator().manual_seed(0), size=(8, 8))
    assert len(ops["op"].unique()) == 3 and len(ops["tone"].unique(dim=0)) == 40
    assert {siamese.OPS[i] for i in ops["op"].tolist()} == set(idc.MOVES)
    x = torch.randn(40, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    rows = {name: v.repeat_interleave(2, 0) for name, v in ops.items()}
    assert torch.allclose(idc.augment_by_class(x, ops).flatten(0, 1), idc.augment(x.flatten(0, 1), rows), atol=1e-6)


def test_what_is_kept_are_decoded_images_within_the_range_of_pixels() -> None:
    real, task = toy(channels=3, size=(9, 8)), IDC(net=NET, factor=2)
    state = task.init(real, Budget(ipc=2), Seeds(0), {})
    state["image"] = state["image"] * 3 - 1
    rows = task.finish(state, {})
    pixels = plain_decode(state["image"].clamp(0, 1), 2, 0.5)
    assert torch.allclose(real.pixels(rows.columns["image"]), pixels, atol=1e-5)
    assert rows.columns["label"].tolist() == [k for k in range(3) for _ in range(8)]
    assert torch.allclose(real.pixels(rows.stored["image"]), state["image"].clamp(0, 1), atol=1e-5)
    assert rows.recipe == {"protocol": "idc", "tiles": 2}
    assert not IDC(net=NET, factor=1).finish(task.init(real, Budget(ipc=1), Seeds(0), {}), {}).stored


@pytest.mark.parametrize(
    "bad",
    [{"factor": 0}, {"metric": "cosine"}, {"cutmix": 1.5}, {"augment": "blur"}, {"start": "x"}, {"momentum": 1.0}],
)
def test_bad_settings_are_refused(bad: dict) -> None:
    with pytest.raises(UsageError, match=str(next(iter(bad.values())))):
        IDC(**bad)
