"""The adjoint of inner training against plain back-propagation through the unrolled steps, and finite differences."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from plain_matching import slopes
from torch._dynamo import config as dynamo
from torch._dynamo.utils import counters
from torch.func import functional_call, jvp
from torch.nn.functional import cross_entropy, log_softmax

from attar.augment.siamese import COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, augment, draw
from attar.execute import compile as compiling
from attar.execute import pieces
from attar.match.chunks import chunks, order
from attar.match.unroll import _Steps, unroll
from attar.nets.build import build
from attar.seeds import Seeds


@dataclass(frozen=True)
class Walk:
    """Some steps: M examples, T batches, and a direction that the end is weighed with."""

    problem: object
    image: torch.Tensor
    label: torch.Tensor
    rate: torch.Tensor
    index: list[torch.Tensor]
    ops: dict[str, torch.Tensor] | None
    far: dict[str, torch.Tensor]


def walk(make_problem: Callable, *, soft: bool = True, ops: bool = True, steps: int = 4, **how: object) -> Walk:
    p = make_problem(counts=(2, 3, 1), side=4, **{"depth": 1, "width": 3, "act": "swish", **how})
    g = torch.Generator().manual_seed(3)
    soft_label = torch.softmax(2 * torch.randn(6, 3, generator=g, dtype=torch.float64), 1)
    drawn = [draw(COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, 3, g, size=(4, 4), one_op=False) for _ in range(steps)]
    stacked = {k: torch.stack([d[k] for d in drawn]) for k in drawn[0]}
    wide = {k: v.double() if v.is_floating_point() else v for k, v in stacked.items()}
    keys = torch.randint(2**62, (steps,), generator=g)
    return Walk(
        problem=p,
        image=p.kept,
        label=soft_label if soft else p.label,
        rate=torch.tensor(0.3, dtype=torch.float64),
        index=chunks(6, 4, keys),
        ops=wide if ops else None,
        far={k: torch.randn(p.params[k].shape, generator=g, dtype=torch.float64) for k in p.net.trainable},
    )


def end_value(end: dict[str, torch.Tensor], far: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(((end[k] - far[k]) ** 2).sum() for k in far)


def ours(w: Walk, image: torch.Tensor, label: torch.Tensor, rate: torch.Tensor, *, hessian: bool = True):
    p = w.problem
    return end_value(unroll(p.net, p.params, image, label, rate, index=w.index, ops=w.ops, hessian=hessian), w.far)


def plain(w: Walk, image: torch.Tensor, label: torch.Tensor, rate: torch.Tensor, *, cut: bool = False):
    """A literal loop with ``create_graph``; ``cut`` takes each step's gradient at weights without a history."""
    p = w.problem
    theta = {k: v.clone().requires_grad_() for k, v in p.plain.named_parameters()}
    module = p.plain.train()
    for t, index in enumerate(w.index):
        x = image[index]
        if w.ops is not None:
            x = augment(x, {k: torch.stack([v[t][j % len(v[t])] for j in range(len(index))]) for k, v in w.ops.items()})
        here = {k: v.detach().requires_grad_() for k, v in theta.items()} if cut else theta
        log_p = log_softmax(functional_call(module, here, (x,)), 1)
        y = label[index] if label.is_floating_point() else torch.eye(p.classes, dtype=x.dtype)[label[index]]
        loss = -sum((y[i] * log_p[i]).sum() for i in range(len(index))) / len(index)
        grads = torch.autograd.grad(loss, list(here.values()), create_graph=True)
        theta = {k: v - rate * g for (k, v), g in zip(theta.items(), grads)}
    return end_value(theta, w.far)


def gradients(fn: Callable, w: Walk, **how: bool) -> list[torch.Tensor]:
    """Value and gradients for images, soft labels and rate."""
    leaves = [v.clone().requires_grad_(v.is_floating_point()) for v in (w.image, w.label, w.rate)]
    value = fn(w, *leaves, **how)
    return [value.detach(), *torch.autograd.grad(value, [v for v in leaves if v.requires_grad])]


def agree(a: list[torch.Tensor], b: list[torch.Tensor], tolerance: float) -> bool:
    assert len(a) == len(b) and all(v.abs().max() > 1e-4 for v in b)
    return all(float((x - y).abs().max() / y.abs().max()) < tolerance for x, y in zip(a, b))


CASES = {
    "soft labels": {},
    "hard labels": {"soft": False},
    "no transforms": {"ops": False},
    "one step": {"steps": 1},
    "two blocks of relu": {"depth": 2, "act": "relu", "channels": 1},
    "batch norm": {"norm": "batch"},
}


@pytest.mark.parametrize("case", CASES)
def test_adjoint_equals_unrolled_back_propagation(make_problem, case: str) -> None:
    w = walk(make_problem, **CASES[case])
    assert agree(gradients(ours, w), gradients(plain, w), 1e-8)


@pytest.mark.parametrize("case", CASES)
def test_without_the_hessian_it_is_the_sum_of_separate_steps(make_problem, case: str) -> None:
    """TESLA: every step's gradient at weights that know nothing of the earlier steps."""
    w = walk(make_problem, **CASES[case])
    without = gradients(ours, w, hessian=False)
    assert agree(without, gradients(plain, w, cut=True), 1e-8)
    if len(w.index) > 1:
        assert not agree(without, gradients(plain, w), 1e-3)


@pytest.mark.parametrize("norm", ["instance", "batch", "layer"])
def test_finite_differences(make_problem, norm: str) -> None:
    w = walk(make_problem, norm="instance" if norm == "layer" else norm)
    if norm == "layer":  # a network that the plain module does not know
        net = build("convnet:depth=1:width=3:norm=layer:act=swish", channels=3, size=(4, 4), classes=3)
        params = {k: v.double() for k, v in net.init(Seeds(1)).items()}
        far = {k: torch.randn(v.shape, generator=torch.Generator().manual_seed(1)).double() for k, v in params.items()}
        w = dataclasses.replace(w, problem=dataclasses.replace(w.problem, net=net, params=params), far=far)
    _, image, label, rate = gradients(ours, w)
    for grad, at, fn in (
        (image, w.image, lambda v: ours(w, v, w.label, w.rate)),
        (label, w.label, lambda v: ours(w, w.image, v, w.rate)),
        (rate, w.rate, lambda v: ours(w, w.image, w.label, v)),
    ):
        where, found = slopes(fn, at, places=20)
        assert found.abs().max() > 1e-4
        assert torch.allclose(grad.flatten()[where], found, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
def test_a_step_equals_the_gradient_of_a_directional_derivative(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """<g, v> is how fast the loss grows along v: forward mode, then one reverse pass, and no derivative of a derivative."""
    net = build(f"convnet:depth=2:width=8:norm={norm}", channels=3, size=(8, 8), classes=3)
    theta = {k: v.double() for k, v in net.init(Seeds(1)).items()}
    g = torch.Generator().manual_seed(4)
    ahead = {k: torch.randn(v.shape, generator=g, dtype=torch.float64) for k, v in theta.items()}
    x, y = torch.randn(6, 3, 8, 8, generator=g, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])

    def objective(weights: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        return cross_entropy(net(weights, images, update=False), y)

    leaves = [x.clone().requires_grad_(), *(v.clone().requires_grad_() for v in theta.values())]
    weights = dict(zip(theta, leaves[1:]))
    h = jvp(lambda w: objective(w, leaves[0]), (weights,), (ahead,))[1]
    slopes_of_h = torch.autograd.grad(h, leaves, allow_unused=True, materialize_grads=True)

    image, rate = x.clone().requires_grad_(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    end = unroll(net, theta, image, y, rate, index=[torch.arange(6)])
    value = torch.stack([(end[k] * ahead[k]).sum() for k in end]).sum()  # <theta - rate g, v>
    d_image, d_rate = torch.autograd.grad(value, [image, rate])
    assert torch.allclose(d_image, -0.3 * slopes_of_h[0], rtol=1e-9, atol=1e-12) and d_image.abs().max() > 1e-3
    assert torch.allclose(d_rate, -h.detach(), rtol=1e-10)

    monkeypatch.setattr("attar.match.unroll.BACKWARD", 4)
    monkeypatch.setattr(pieces.torch, "get_num_threads", lambda: 1)
    pulled = _Steps(net, (torch.arange(6),), None, True).pull(0, theta, ahead, x, y)
    assert pulled.theta is not None
    biases = (
        ("body.0.bias", "body.4.bias") if norm == "instance" else ()
    )  # which takes them away: zeros but for rounding
    for name, slope in zip(theta, slopes_of_h[1:]):
        assert name in biases or torch.allclose(pulled.theta[name], slope, rtol=1e-8, atol=1e-11)


def test_pieces_give_the_same(make_problem, monkeypatch: pytest.MonkeyPatch) -> None:
    w = walk(make_problem)
    whole = gradients(ours, w)
    monkeypatch.setattr("attar.match.unroll.BACKWARD", 3)
    monkeypatch.setattr(pieces.torch, "get_num_threads", lambda: 1)
    assert agree(gradients(ours, w), whole, 1e-11)


def test_nothing_given_is_changed_and_the_start_gets_no_gradient(make_problem) -> None:
    w = walk(make_problem)
    before = {k: v.clone() for k, v in w.problem.params.items()}
    image = w.image.clone().requires_grad_()
    start = {k: v.clone().requires_grad_() for k, v in w.problem.params.items()}
    end = unroll(w.problem.net, start, image, w.label, w.rate, index=w.index, ops=w.ops)
    end_value(end, w.far).backward()
    assert all(v.grad is None for v in start.values())
    assert all(torch.equal(before[k], w.problem.params[k]) for k in before)
    assert torch.equal(image, w.image)


@pytest.mark.slow
def test_parts_compile_whole(make_problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step and its derivatives are one graph each, transforms included, without a break; pieces of other lengths filled up."""
    w = walk(make_problem)
    eager = gradients(ours, w)
    torch._dynamo.reset()  # functions that other tests compiled often are not compiled again
    counters.clear()
    capture = functools.lru_cache(
        lambda fn, varied: torch.compile(fn, dynamic=varied, backend="aot_eager", fullgraph=True)
    )
    monkeypatch.setattr(compiling, "_compiled", capture)
    with compiling.switched(True), dynamo.patch(suppress_errors=False):
        captured = gradients(ours, w)
    assert counters["stats"]["unique_graphs"] == 2 and not counters["graph_break"]
    assert agree(captured, eager, 1e-10)


def test_memory_does_not_grow_with_the_steps(make_problem) -> None:
    """What a graph keeps beyond the weights of each step is that of one step."""
    from attar.testing.hooks import Alive

    def most(steps: int) -> int:
        w = walk(make_problem, steps=steps, width=8)
        with Alive() as alive:
            gradients(ours, w)
        weights = sum(v.numel() * 8 for v in w.far.values())
        return alive.most - steps * weights

    def unrolled(steps: int) -> int:
        w = walk(make_problem, steps=steps, width=8)
        with Alive() as alive:
            gradients(plain, w)
        return alive.most

    assert most(12) < 1.2 * most(3)
    assert unrolled(12) > 2 * unrolled(3)


def test_chunks_visit_every_example_once_an_order() -> None:
    keys = torch.randint(2**62, (7,), generator=torch.Generator().manual_seed(0))
    found = chunks(10, 4, keys)
    assert [len(i) for i in found] == [4, 4, 2, 4, 4, 2, 4]
    assert torch.cat(found[:3]).sort().values.tolist() == list(range(10))
    assert torch.cat(found[3:6]).sort().values.tolist() == list(range(10))
    assert not torch.equal(found[0], found[3])
    assert all(torch.equal(i, torch.arange(10)) for i in chunks(10, None, keys) + chunks(10, 12, keys))


def test_orders_are_even() -> None:
    """Every example comes first about as often as any other, and so do neighbours one after the other."""
    keys = torch.randint(2**62, (6000,), generator=torch.Generator().manual_seed(1))
    orders = torch.stack([order(6, key) for key in keys])  # [6000, 6]
    firsts = torch.bincount(orders[:, 0], minlength=6)
    pairs = torch.bincount(orders[:, 0] * 6 + orders[:, 1], minlength=36).reshape(6, 6)
    assert (firsts - 1000).abs().max() < 150
    assert pairs.diagonal().sum() == 0
    assert (pairs[~torch.eye(6, dtype=torch.bool)] - 200).abs().max() < 70
