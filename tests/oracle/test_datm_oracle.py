"""DATM: the loss and its gradients for images, logits and rate; where pieces begin; first images and labels; the threshold."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from plain_matching import slopes
from plain_trajectory import flat, mtt_loss

import attar.testing
from attar.augment.siamese import COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE
from attar.budget import Budget
from attar.distill.datm import DATM, mean_of_correct, told
from attar.errors import AttarError, DataError, UsageError
from attar.execute.plan import Plan
from attar.match.chunks import chunks
from attar.match.trajectories import walk
from attar.nets.fit import net_of
from attar.resources.experts import snapshot
from attar.run import run
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import cast, method_of, resources

TAUGHT = dataclasses.replace(method_of(DATM), lr_expert=0.3, augment="none")
"""Experts that know most of the toy's examples after three epochs."""
LEARNED = ("image", "logits", "rate")


def step_of(make_problem, *, batch_syn: int | None):
    """A method, a state and a batch in float64: the weights of two problems stand for an expert at two times."""
    how = {"counts": (2, 3, 1), "side": 4, "depth": 1, "width": 3, "act": "swish"}
    p, far = make_problem(**how), make_problem(**how, seed=9).params
    goal = {k: v + 0.2 * (far[k] - v) for k, v in p.params.items()}
    drawn = walk(COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, 4, Seeds(4), size=(4, 4), device=torch.device("cpu"))
    logits = 3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).double()
    state = {"image": p.kept, "label": p.label, "logits": logits, "rate": torch.tensor(0.4, dtype=torch.float64)}
    method = DATM(net=p.spec, syn_steps=4, batch_syn=batch_syn)
    return p, method, state, {"begin": p.params, "goal": goal, **cast(drawn, torch.float64)}


@pytest.mark.parametrize("batch_syn", [None, 4])
def test_loss_and_gradients_equal_one_graph_over_all_steps(make_problem, batch_syn: int | None) -> None:
    p, method, state, batch = step_of(make_problem, batch_syn=batch_syn)
    index = [i.tolist() for i in chunks(len(p.kept), batch_syn, batch["keys"])]
    begin, goal = flat(batch["begin"], p.plain), flat(batch["goal"], p.plain)

    def plain(s):
        label = torch.stack([torch.exp(row) / torch.exp(row).sum() for row in s["logits"]])
        return mtt_loss(p.plain, begin, goal, s["image"], label, s["rate"], index, batch["augment"])

    results = []
    for fn in (lambda s: method.loss(s, batch), plain):
        leaves = {name: state[name].clone().requires_grad_() for name in LEARNED}
        loss = fn({**state, **leaves})
        results.append([loss.detach(), *torch.autograd.grad(loss, list(leaves.values()))])
    for a, b in zip(*results):
        assert b.abs().max() > 1e-3 and float((a - b).abs().max() / b.abs().max()) < 1e-8
    for name, slope in zip(LEARNED, results[0][1:]):

        def at(x: torch.Tensor, name: str = name) -> torch.Tensor:
            return method.loss({**state, name: x}, batch).detach()

        where, found = slopes(at, state[name], places=min(15, state[name].numel()))
        assert torch.allclose(slope.flatten()[where], found, rtol=1e-5, atol=1e-8)


def test_the_window_of_starts_grows_as_in_the_published_settings() -> None:
    ten = DATM()  # CIFAR-10, 10 images per class
    assert [ten.upper(t) for t in (0, 99, 100, 500, 999, 1000, 5000)] == [10, 10, 11, 15, 19, 20, 20]
    wide = DATM(min_start=20, early_start=70, max_start=70)
    assert {wide.upper(t) for t in (0, 500, 5000)} == {70} and wide.reach == 71
    hundred = DATM(early_start=30, max_start=50, growth=2000)
    assert [hundred.upper(t) for t in (0, 1000, 2000)] == [30, 40, 50]


def test_pieces_begin_inside_the_window() -> None:
    """All epochs of the window, none outside: min_start to upper(step) - 1; the goal is expert_epochs later."""
    real = toy()
    method = dataclasses.replace(TAUGHT, experts=1, min_start=1, early_start=2, max_start=4, growth=100)
    res = resources(method, real)
    ways = [snapshot(res["expert-0"], t) for t in range(method.reach + 1)]
    seen: dict[int, set[int]] = {2: set(), 3: set(), 4: set()}
    for step in range(160):
        batch = method.draw(real, Seeds(0).at("step", step), res, step)
        (t,) = [
            i for i, w in enumerate(ways) if torch.equal(w["classifier.weight"], batch["begin"]["classifier.weight"])
        ]
        assert torch.equal(ways[t + 2]["classifier.weight"], batch["goal"]["classifier.weight"])
        seen[method.upper(step)].add(t)
    assert seen == {2: {1}, 3: {1, 2}, 4: {1, 2, 3}}


def test_experts_are_those_of_ftd_and_reach_the_labels() -> None:
    tasks = DATM().needs()
    assert {(t.rho, t.alpha, t.adaptive, t.epochs, t.lr) for t in tasks} == {(0.01, 0.3, True, 21, 0.01)} and len(
        tasks
    ) == 100
    assert {t.epochs for t in DATM(label_epoch=100).needs()} == {100}


def test_first_images_are_known_and_labels_are_the_means_of_those_who_know() -> None:
    real, ipc = toy((14, 9, 14)), 4
    res = resources(TAUGHT, real)
    state = TAUGHT.init(real, Budget(ipc=ipc), Seeds(0).at("init"), res)
    net = net_of(TAUGHT.net, real)
    experts = [snapshot(res[f"expert-{e}"], TAUGHT.reach) for e in range(2)]
    rows = real.draw(torch.arange(len(real)))
    used = []
    for m in range(3 * ipc):
        k = int(state["label"][m])
        (row,) = [i for i in range(len(real)) if torch.equal(rows[i], state["image"][m])]
        assert int(real.labels[row]) == k
        used.append(row)
        answers = [net(params, state["image"][m : m + 1])[0] for params in experts]
        right = [a for a in answers if int(a.argmax()) == k]
        assert right, "a first image that no expert knows"
        assert torch.allclose(state["logits"][m], sum(right) / len(right), atol=1e-5)
    assert len(set(used)) == 3 * ipc
    labels = TAUGHT.finish(state, res).extra["soft_label"]
    assert torch.equal(labels.argmax(1), state["label"]) and torch.allclose(labels.sum(1), torch.ones(12), atol=1e-5)


def test_logits_of_correct_experts_alone_count() -> None:
    """By hand; nobody knows the last example, where the official mean is 0 / 0."""
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [5.0, 1.0]], [[4.0, 1.0], [3.0, 1.0], [3.0, 1.0]]])
    found = mean_of_correct(logits, torch.tensor([0, 1, 1]))
    assert found.tolist() == [[3.0, 0.5], [0.0, 1.0], [4.0, 1.0]]


def test_more_than_is_known_is_refused() -> None:
    """Without training at all an expert knows few: the class, the numbers and the remedy are named."""
    real, method = toy(), dataclasses.replace(TAUGHT, lr_expert=1e-9, experts=1)
    with pytest.raises(
        DataError, match=r"of class '\w+' of toy are classified correctly by the 1 experts at epoch 3, but 14"
    ):
        method.init(real, Budget(ipc=14), Seeds(0), resources(method, real))
    state = dataclasses.replace(method, start="real").init(real, Budget(ipc=14), Seeds(0), resources(method, real))
    assert torch.isfinite(state["logits"]).all()


@pytest.mark.parametrize("params", ["pixels", "bases:styles=1"])
@pytest.mark.parametrize(("threshold", "moves"), [(1e-6, False), (1e6, True)])
def test_above_the_threshold_nothing_moves(threshold: float, moves: bool, params: str) -> None:
    """Neither what is learned nor its momentum, also after an update that filled the momentum."""
    real, budget = toy(), Budget(ipc=6)
    method = dataclasses.replace(TAUGHT, threshold=1e6, steps=2, params=params)
    res = resources(method, real)
    first = run(dataclasses.replace(method, steps=1), real, [budget], seed=0, plan=Plan(), res=res).states[0]
    state = {k: v.clone() for k, v in first.items()}
    task = dataclasses.replace(method, threshold=threshold)

    from attar.run import Descent

    batch = task.draw(real, Seeds(0).at("step", 1), res, 1)
    after = task.step(state, batch, Descent(task, 2, done=1, losses=[[]]))
    changed = {name for name in first if not torch.equal(after[name], first[name])}
    wanted = {n for name in method.learn for n in (name, f"{name}.momentum")}
    assert changed == (wanted if moves else set()) | {"counted"}
    assert after["counted"].tolist() == ([0, 2] if moves else [1, 1])


def test_a_run_without_a_step_taken_is_no_set() -> None:
    """Its images and labels would be the first ones."""
    real = toy()
    task = dataclasses.replace(TAUGHT, threshold=1e-6)
    state = run(task, real, [Budget(ipc=2)], seed=0, plan=Plan(), res=(res := resources(task, real))).states[0]
    with pytest.raises(AttarError, match=r"no step moved anything, as every loss was above threshold=1e-06"):
        task.finish(state, res)


def test_rows_say_how_to_train() -> None:
    real = toy()
    res = resources(TAUGHT, real)
    state = run(TAUGHT, real, [Budget(ipc=2)], seed=0, plan=Plan(), res=res).states[0]
    rows = TAUGHT.finish(state, res)
    assert rows.recipe == {"protocol": "dsa", "augment": "none", "lr": float(state["rate"]), "labels": "soft"}
    assert not torch.equal(state["logits"], TAUGHT.init(real, Budget(ipc=2), Seeds(0).at("init"), res)["logits"])


def test_impossible_settings_are_refused() -> None:
    for how in ({"threshold": 0.0}, {"growth": 0}, {"label_epoch": 0}, {"syn_steps": 0}, {"batch_syn": 0}):
        with pytest.raises(UsageError, match=f"{next(iter(how))}=0"):
            DATM(**how)
    for how in (
        {"min_start": 20},
        {"min_start": -1},
        {"early_start": 30},
        {"early_start": 0},
        {"min_start": 12, "early_start": 12},
    ):
        with pytest.raises(UsageError, match="leave no epochs"):
            DATM(**how)
    with pytest.raises(UsageError, match="start 'noise'"):
        DATM(start="noise")
    with pytest.raises(UsageError, match="use start=real"):
        DATM(start="correct", params="tiles")


@pytest.mark.parametrize(
    "check",
    [
        "same_seed_same_bytes",
        "resume_same_bytes",
        "several_budgets",
        "loss_is_pure",
        "artifact_opens",
        "nan_is_refused",
    ],
)
def test_the_common_checks_hold_with_a_known_start(check: str) -> None:
    attar.testing.check_method(TAUGHT, checks=[check])


def test_an_infinite_loss_is_undone_and_told_as_a_large_one() -> None:
    real, budget = toy(), Budget(ipc=2)
    method = dataclasses.replace(TAUGHT, threshold=1e6, steps=3)
    res = resources(method, real)

    class Sick(DATM):
        def draw(self, *args):  # type: ignore[no-untyped-def]
            return {**super().draw(*args), "sick": torch.tensor(float("inf") if args[-1] == 1 else 0.0)}

        def loss(self, state, batch):  # type: ignore[no-untyped-def]
            return super().loss(state, batch) + batch["sick"]

    sick = Sick(**{f.name: getattr(method, f.name) for f in dataclasses.fields(method)})
    outcome = run(sick, real, [budget], seed=0, plan=Plan(), res=res)
    assert all(v.isfinite().all() for v in outcome.states[0].values())
    lines = [json.loads(line)["loss"] for line in outcome.log.decode().splitlines()]
    assert lines[-1][0] > 10 * 1e6 / 4
    assert told(torch.tensor(float("nan")), 5.0) == 5.0 and told(torch.tensor(2.0), 5.0) == 2.0
