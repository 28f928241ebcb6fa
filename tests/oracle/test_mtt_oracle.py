"""MTT against the paper's equations with one graph over all inner steps, finite differences, and what it draws."""

from __future__ import annotations

import json

import pytest
import torch
from plain_matching import slopes
from plain_trajectory import flat, mtt_loss
from torch.nn.functional import one_hot

import attar
from attar.augment.siamese import COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE
from attar.budget import Budget
from attar.distill.mtt import MTT
from attar.errors import UsageError
from attar.execute.plan import Plan
from attar.execute.progress import Silent
from attar.match.chunks import chunks
from attar.match.trajectories import walk
from attar.match.unroll import unroll
from attar.resources.build import gather
from attar.resources.experts import snapshot
from attar.run import run
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import cast

SMALL = MTT(
    steps=3,
    syn_steps=3,
    experts=2,
    max_start=3,
    expert_epochs=2,
    batch_expert=8,
    batches_expert=1,
    net="convnet:width=4:depth=1",
    augment="none",
)


def step_of(make_problem, *, steps: int = 4, batch_syn: int | None = 4, **how):
    """A method, a state and a batch in float64: the weights of two problems stand for an expert at two times."""
    p = make_problem(counts=(2, 3, 1), side=4, **{"depth": 1, "width": 3, "act": "swish", **how})
    far = make_problem(counts=(2, 3, 1), side=4, seed=9, **{"depth": 1, "width": 3, "act": "swish", **how}).params
    goal = {k: v + 0.2 * (far[k] - v) for k, v in p.params.items()}
    drawn = walk(COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, steps, Seeds(4), size=(4, 4), device=torch.device("cpu"))
    method = MTT(net=p.spec, syn_steps=steps, batch_syn=batch_syn)
    state = {
        "image": p.kept,
        "label": p.label,
        "target": one_hot(p.label, 3).double(),
        "rate": torch.tensor(0.4, dtype=torch.float64),
    }
    return p, method, state, {"begin": p.params, "goal": goal, **cast(drawn, torch.float64)}


def ours(method, state, batch, image, rate):
    return method.loss({**state, "image": image, "rate": rate}, batch)


def plain(p, method, state, batch, image, rate):
    index = [i.tolist() for i in chunks(len(image), method.batch_syn, batch["keys"])]
    begin, goal = flat(batch["begin"], p.plain), flat(batch["goal"], p.plain)
    return mtt_loss(p.plain, begin, goal, image, state["target"], rate, index, batch["augment"])


def gradients(fn, state):
    image, rate = state["image"].clone().requires_grad_(), state["rate"].clone().requires_grad_()
    loss = fn(image, rate)
    return loss.detach(), *torch.autograd.grad(loss, [image, rate])


@pytest.mark.parametrize("batch_syn", [None, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_loss_and_gradients_equal_one_graph_over_all_steps(make_problem, channels: int, batch_syn: int | None) -> None:
    p, method, state, batch = step_of(make_problem, channels=channels, batch_syn=batch_syn)
    found = gradients(lambda x, r: ours(method, state, batch, x, r), state)
    wanted = gradients(lambda x, r: plain(p, method, state, batch, x, r), state)
    assert 0.1 < float(wanted[0]) < 100
    for a, b in zip(found, wanted):
        assert b.abs().max() > 1e-3
        assert float((a - b).abs().max() / b.abs().max()) < 1e-8


def test_finite_differences(make_problem) -> None:
    _, method, state, batch = step_of(make_problem)
    _, image, rate = gradients(lambda x, r: ours(method, state, batch, x, r), state)
    where, found = slopes(lambda x: ours(method, state, batch, x, state["rate"]).detach(), state["image"], places=30)
    assert torch.allclose(image.flatten()[where], found, rtol=1e-5, atol=1e-8)
    _, found = slopes(lambda r: ours(method, state, batch, state["image"], r).detach(), state["rate"], places=1)
    assert torch.allclose(rate.flatten(), found, rtol=1e-6)


def test_the_loss_is_one_without_a_step_and_zero_at_the_goal(make_problem) -> None:
    _, method, state, batch = step_of(make_problem)
    still = {**state, "rate": torch.zeros((), dtype=torch.float64)}
    assert float(method.loss(still, batch)) == pytest.approx(1)
    p = make_problem(counts=(2, 3, 1), side=4, depth=1, width=3, act="swish")
    index = chunks(6, 4, batch["keys"])
    end = unroll(p.net, p.params, state["image"], state["target"], state["rate"], index=index, ops=batch["augment"])
    assert float(method.loss(state, {**batch, "goal": end})) == pytest.approx(0, abs=1e-20)


@pytest.fixture(scope="module")
def res(tmp_path_factory: pytest.TempPathFactory):
    before = pytest.MonkeyPatch()
    before.setenv("ATTAR_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield gather(SMALL, toy(), seed=0, plan=Plan(), progress=Silent())
    before.undo()


def test_pieces_begin_anywhere_up_to_max_start_and_last_expert_epochs(res) -> None:
    """All experts and all starts, each about as often; the goal is that expert two epochs later."""
    ways = {(e, t): snapshot(res[f"expert-{e}"], t) for e in range(2) for t in range(5)}
    counts = dict.fromkeys([(e, t) for e in range(2) for t in range(3)], 0)
    for step in range(300):
        batch = SMALL.draw(toy(), Seeds(0).at("step", step), res, step)
        (found,) = [at for at, way in ways.items() if all(torch.equal(way[k], v) for k, v in batch["begin"].items())]
        goal = ways[found[0], found[1] + 2]
        assert all(torch.equal(goal[k], v) for k, v in batch["goal"].items())
        counts[found] += 1
    assert sum(counts.values()) == 300 and min(counts.values()) > 25


def test_transforms_are_one_operation_a_step_and_parameters_an_image() -> None:
    drawn = walk("color_crop_flip", 8, Seeds(0), size=(8, 8), device=torch.device("cpu"))
    ops = drawn["augment"]
    assert all((row == row[0]).all() for row in ops["op"])
    assert len(ops["op"][:, 0].unique()) > 1
    assert len(ops["tone"][0, :, 0].unique()) > 1000
    assert not torch.equal(ops["tone"][0], ops["tone"][1])


def test_experts_are_trained_as_far_as_is_looked_at() -> None:
    tasks = MTT().needs()
    assert len(tasks) == 100 and {t.epochs for t in tasks} == {21} == {MTT().reach}
    assert {(t.lr, t.momentum, t.weight_decay, t.batch) for t in tasks} == {(0.01, 0.0, 0.0, 256)}


def test_evaluation_is_told_the_learned_rate_which_stays_above_zero(res) -> None:
    one = run(SMALL, toy(), [Budget(ipc=2)], seed=0, plan=Plan(), res=res).states[0]
    assert one["rate"] != SMALL.rate and float(one["rate"]) > 0
    assert SMALL.finish(one, res).recipe == {"protocol": "dsa", "augment": "none", "lr": float(one["rate"])}
    state = {"rate": torch.tensor(0.001), "rate.momentum": torch.zeros(())}
    SMALL.learn["rate"].update(state, "rate", torch.tensor(1e9))
    assert float(state["rate"]) == pytest.approx(1e-6)


def test_impossible_settings_are_refused() -> None:
    for how in (
        {"syn_steps": 0},
        {"max_start": 0},
        {"expert_epochs": 0},
        {"experts": 0},
        {"batch_syn": 0},
        {"rate": 0.0},
    ):
        with pytest.raises(UsageError, match=f"{next(iter(how))}=0"):
            MTT(**how)
    for how in ({"lr_img": -1.0}, {"lr_lr": 0.0}, {"lr_expert": 0.0}):
        with pytest.raises(UsageError, match="learning rate"):
            MTT(**how)


@pytest.mark.slow
def test_experts_of_a_small_set_move_far_enough_to_be_followed(tmp_path, monkeypatch) -> None:
    """By batches of 1,024 they take two steps an epoch, and sixty of ours end forty times as far off as where they began."""
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    settings = {"net": "convnet:width=8", "steps": 20, "experts": 2, "threads": 1, "compile": False}
    kept = attar.distill("digits", method="mtt", ipc=1, quick=True, **settings)
    last = json.loads(kept.files["log.jsonl"].splitlines()[-1])
    assert last["step"] == 20 and last["loss"][0] < 0.9
