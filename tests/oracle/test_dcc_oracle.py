"""DCC's joint distance against a loop over classes with one double backward, and when it takes the place of DC's."""

from __future__ import annotations

import pytest
import torch
from plain_matching import freeze_batch_norms, gradient_loss, of_class, row_distance, slopes, transformed
from torch.nn.functional import cross_entropy

from attar.budget import Budget
from attar.distill.dcc import DCC
from attar.errors import UsageError
from attar.execute.plan import Plan
from attar.match import gradients
from attar.match.gradients import calibrate
from attar.method import Batch
from attar.nets.fit import prefixed
from attar.run import run
from attar.testing.toys import toy

NET = "convnet:width=4:depth=1"


def plain_loss(p, kept: torch.Tensor, ops=None) -> torch.Tensor:
    """Lee and others 2022: the real gradients are added up class by class, the kept one is taken once."""
    weights = [w for w in p.plain.parameters() if w.ndim > 1]
    wanted = [torch.zeros_like(w) for w in weights]
    for k, x in enumerate(p.real):
        x = transformed(x, of_class(ops, k, len(x)))
        found = torch.autograd.grad(cross_entropy(p.plain(x), torch.full((len(x),), k)), weights)
        wanted = [a + b / p.classes for a, b in zip(wanted, found)]
    parts = [transformed(kept[p.label == k], of_class(ops, k, int((p.label == k).sum()))) for k in range(p.classes)]
    found = torch.autograd.grad(cross_entropy(p.plain(torch.cat(parts)), p.label), weights, create_graph=True)
    return torch.stack([row_distance(a, b.detach()) for a, b in zip(found, wanted)]).sum()


def ours(p, image: torch.Tensor, ops=None, *, loss: str = "loss") -> torch.Tensor:
    """As DCC.draw does: the real images come transformed. Identity operations stand for none."""
    used = ops or {**p.ops, "op": torch.full_like(p.ops["op"], -1)}
    real = torch.stack([transformed(x, of_class(used, k, len(x))) for k, x in enumerate(p.real)])
    state = {"image": image, "label": p.label, **p.tables(), **prefixed(p.params)}
    return getattr(DCC(net=p.spec), loss)(state, {"real": real, "augment": used})


def gradient(loss, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize("counts", [(1, 1), (2, 3, 1)])
def test_the_loss_equals_one_double_backward(make_problem, counts: tuple[int, ...], siamese: bool) -> None:
    p = make_problem(counts=counts, seed=2)
    ops = p.ops if siamese else None
    assert torch.allclose(ours(p, p.kept, ops), plain_loss(p, p.kept, ops), rtol=1e-11)
    mine, theirs = (gradient(lambda x, f=f: f(p, x, ops), p.kept) for f in (ours, plain_loss))
    assert mine.abs().max() > 1e-4
    assert torch.allclose(mine, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_pieces_of_the_kept_images_change_nothing(make_problem, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    p = make_problem(counts=(2, 4, 1), seed=4)
    whole, slope = ours(p, p.kept, p.ops), gradient(lambda x: ours(p, x, p.ops), p.kept)
    sizes: list[int] = []
    along = gradients._along

    def counted(net, params, x, *rest):
        sizes.append(len(x))
        return along(net, params, x, *rest)

    monkeypatch.setattr(gradients, "_along", counted)
    monkeypatch.setattr(gradients, "BACKWARD", most / torch.get_num_threads())
    assert torch.allclose(gradient(lambda x: ours(p, x, p.ops), p.kept), slope, rtol=1e-9, atol=1e-13)
    assert sum(sizes) == 7 and max(sizes) <= most
    assert torch.allclose(ours(p, p.kept, p.ops), whole, rtol=1e-13)


def test_batch_norms_stand_still(make_problem) -> None:
    p = make_problem(norm="batch", batch=20)
    freeze_batch_norms(p.plain, p.real)
    calibrate(p.net, p.params, p.real[:, :16].flatten(0, 1))
    assert torch.allclose(ours(p, p.kept), plain_loss(p, p.kept), rtol=1e-11)
    mine, theirs = (gradient(lambda x, f=f: f(p, x), p.kept) for f in (ours, plain_loss))
    assert torch.allclose(mine, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("act", ["swish", "sigmoid"])
def test_the_gradient_by_finite_differences(make_problem, act: str) -> None:
    p = make_problem(act=act, counts=(2, 1))
    where, found = slopes(lambda x: ours(p, x, p.ops).detach(), p.kept, places=30)
    assert found.abs().max() > 1e-4
    assert torch.allclose(gradient(lambda x: ours(p, x, p.ops), p.kept).flatten()[where], found, rtol=1e-4, atol=1e-8)


def test_what_all_classes_share_weighs_once(make_problem) -> None:
    """With one class there is nothing to tell apart: both losses are one number. With more they differ."""
    alone, several = make_problem(counts=(3,)), make_problem(counts=(2, 3, 1))
    assert torch.allclose(ours(alone, alone.kept), ours(alone, alone.kept, loss="by_class"), rtol=1e-11)
    apart = ours(several, several.kept, several.ops, loss="by_class")
    plain = gradient_loss(several.plain, several.real, several.kept, several.label, several.ops)
    assert torch.allclose(apart, plain, rtol=1e-11)
    assert float(apart) > 1.5 * float(ours(several, several.kept, several.ops))


class Watched(DCC):
    """DCC that notes which loss every step takes."""

    def loss(self, state, batch: Batch) -> torch.Tensor:
        """As DCC's."""
        TAKEN.append("together")
        return super().loss(state, batch)

    def by_class(self, state, batch: Batch) -> torch.Tensor:
        """As DCC's."""
        TAKEN.append("apart")
        return super().by_class(state, batch)


TAKEN: list[str] = []


@pytest.mark.parametrize(("steps", "outer", "warm", "late"), [(12, 3, 0.25, 10), (12, 3, 0.3, 2), (9, 4, 1.0, 0)])
def test_both_warm_ups(steps: int, outer: int, warm: float, late: int) -> None:
    """The paper's rule: together from network ``warm * networks`` on, or from update ``late`` of any network on."""
    TAKEN.clear()
    task = Watched(steps=steps, batch=3, outer=outer, inner=1, warm=warm, warm_updates=late, net=NET)
    run(task, toy(), [Budget(ipc=2)], seed=0, plan=Plan())
    rule = [(i // outer) >= warm * steps / outer or i % outer >= late for i in range(steps)]
    assert ["together" if joint else "apart" for joint in rule] == TAKEN


def test_the_papers_numbers() -> None:
    task = DCC(steps=10_000)
    assert (task.path.counts(1), task.path.counts(10), task.path.counts(50)) == ((10, 5), (10, 50), (50, 10))
    assert [task.together(i, 10) for i in (0, 2499, 2500, 9999)] == [False, False, True, True]
    assert [DCC(steps=50_000).together(i, 50) for i in (9, 10, 49, 50)] == [False, True, True, False]
    assert DCC(augment="none").finish({"image": torch.zeros(1), "label": torch.zeros(1)}, {}).recipe == {
        "protocol": "dc"
    }


@pytest.mark.parametrize("bad", [{"warm": 1.5}, {"warm": float("nan")}, {"warm_updates": -1}, {"lr_img": 0.0}])
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad)) if "lr_img" not in bad else "lr_img=0.0"):
        DCC(**bad)
