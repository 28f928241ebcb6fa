"""DC's distance and the losses of DC and DSA against literal loops, double backward and finite differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_matching import freeze_batch_norms, gradient_loss, row_distance, slopes

from attar.augment.siamese import augment
from attar.distill.dc import DC
from attar.distill.dsa import DSA
from attar.match.gradients import calibrate, class_distances, class_gradient, distance, slots
from attar.nets.fit import prefixed


def dc_loss(p, image: torch.Tensor) -> torch.Tensor:
    state = {"image": image, "label": p.label, **p.tables(), **prefixed(p.params)}
    return DC(net=p.spec).loss(state, {"real": p.real})


def dsa_loss(p, image: torch.Tensor) -> torch.Tensor:
    """As DSA.draw does: the real images come transformed, the kept ones are transformed in the loss."""
    label = torch.arange(p.classes).repeat_interleave(p.real.shape[1])
    real = augment(p.real.flatten(0, 1), p.rows(p.ops, label)).unflatten(0, p.real.shape[:2])
    state = {"image": image, "label": p.label, **p.tables(), **prefixed(p.params)}
    return DSA(net=p.spec).loss(state, {"real": real, "augment": p.ops})


def gradient(loss, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    shapes=st.lists(st.sampled_from([(3, 2, 3, 3), (4, 5), (1, 1), (2, 1, 1, 1)]), min_size=1),
)
def test_distance_is_a_loop_over_rows(seed: int, shapes: list[tuple[int, ...]]) -> None:
    g = torch.Generator().manual_seed(seed)
    a, b = ({str(i): torch.randn(s, generator=g, dtype=torch.float64) for i, s in enumerate(shapes)} for _ in range(2))
    a["0"][0] = 0  # a dead unit has no direction: its row counts 1
    plain = sum(row_distance(a[name], b[name]) for name in a)
    assert torch.allclose(distance(a, b), plain, rtol=1e-12)


def test_distance_at_its_ends() -> None:
    rows = torch.randn(4, 6, dtype=torch.float64)
    assert float(distance({"w": rows}, {"w": 3 * rows})) == pytest.approx(0, abs=1e-5)
    assert float(distance({"w": rows}, {"w": -rows})) == pytest.approx(8, abs=1e-5)
    zero = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(distance({"w": zero}, {"w": rows}), zero)
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("counts", [(1, 1), (2, 3, 1)])
def test_dc_equals_double_backward_class_by_class(make_problem, counts: tuple[int, ...], seed: int) -> None:
    p = make_problem(counts=counts, seed=seed)
    assert torch.allclose(dc_loss(p, p.kept), gradient_loss(p.plain, p.real, p.kept, p.label), rtol=1e-11)
    ours = gradient(lambda x: dc_loss(p, x), p.kept)
    theirs = gradient(lambda x: gradient_loss(p.plain, p.real, x, p.label), p.kept)
    assert ours.abs().max() > 1e-4
    assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("counts", [(1, 1), (2, 3, 1)])
def test_dsa_equals_double_backward_class_by_class(make_problem, counts: tuple[int, ...]) -> None:
    p = make_problem(counts=counts, channels=1, seed=5)
    assert torch.allclose(dsa_loss(p, p.kept), gradient_loss(p.plain, p.real, p.kept, p.label, p.ops), rtol=1e-11)
    ours = gradient(lambda x: dsa_loss(p, x), p.kept)
    theirs = gradient(lambda x: gradient_loss(p.plain, p.real, x, p.label, p.ops), p.kept)
    assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-12)


def test_batch_norms_stand_still_after_sixteen_real_images_of_each_class(make_problem) -> None:
    p = make_problem(norm="batch", batch=20)
    freeze_batch_norms(p.plain, p.real)
    calibrate(p.net, p.params, p.real[:, :16].flatten(0, 1))
    for name, value in p.plain.state_dict().items():
        if "running" in name:
            assert torch.allclose(p.params[name], value, rtol=1e-12), name
    before = {name: value.clone() for name, value in p.params.items()}
    assert torch.allclose(dc_loss(p, p.kept), gradient_loss(p.plain, p.real, p.kept, p.label), rtol=1e-11)
    ours = gradient(lambda x: dc_loss(p, x), p.kept)
    theirs = gradient(lambda x: gradient_loss(p.plain, p.real, x, p.label), p.kept)
    assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-12)
    assert all(torch.equal(before[name], value) for name, value in p.params.items())  # the loss moves no statistics


@pytest.mark.parametrize("act", ["swish", "sigmoid"])
@pytest.mark.parametrize("loss", [dc_loss, dsa_loss])
def test_second_order_gradient_by_finite_differences(make_problem, loss, act: str) -> None:
    p = make_problem(act=act, counts=(2, 1))
    grad = gradient(lambda x: loss(p, x), p.kept)
    where, found = slopes(lambda x: loss(p, x).detach(), p.kept, places=30)
    assert found.abs().max() > 1e-4
    assert torch.allclose(grad.flatten()[where], found, rtol=1e-4, atol=1e-8)


def test_one_call_for_all_classes_equals_a_call_for_each(make_problem) -> None:
    """Classes of different sizes share one table of slots; the empty places must count nothing."""
    p = make_problem(counts=(1, 4, 2))
    table = p.tables()
    together = class_distances(p.net, p.params, p.real, p.kept, table["slot"], table["share"])
    total = torch.zeros((), dtype=torch.float64)
    for k in range(p.classes):
        kept = p.kept[p.label == k]
        sides = []
        for x in (kept, p.real[k]):
            even = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
            sides.append(class_gradient(p.net, p.params, x, torch.full((len(x),), k), even))
        total = total + distance(*sides)
    assert torch.allclose(together, total, rtol=1e-12)
    poisoned = p.kept.clone()
    grad = gradient(lambda x: class_distances(p.net, p.params, p.real, x, table["slot"], table["share"]), poisoned)
    assert (grad.flatten(1).abs().sum(1) > 0).all()


def test_slots_name_every_example_once() -> None:
    label = torch.tensor([2, 0, 0, 2, 2, 3])
    found = slots(label, 5)
    assert found["slot"].shape == found["share"].shape == (5, 3)
    assert found["share"].sum(1).tolist() == pytest.approx([1, 0, 1, 1, 0])
    for k in range(5):
        used = found["slot"][k][found["share"][k] > 0].tolist()
        assert used == torch.nonzero(label == k).flatten().tolist()


def test_kept_equal_to_real_is_at_zero_under_any_transform(make_problem) -> None:
    """Both sides of a class meet the same parameters: equal images stay equal, and so do their gradients."""
    p = make_problem(counts=(5, 5, 5), seed=1)
    same, rows = p.real.flatten(0, 1), sum(v.shape[0] for n, v in p.params.items() if v.ndim > 1) * 3
    for loss in (dc_loss, dsa_loss):
        assert float(loss(p, same)) < 1e-3 * rows
        assert float(loss(p, same.flip(0))) > 0.1 * rows


def test_the_transform_belongs_to_the_class(make_problem) -> None:
    p = make_problem(seed=3)
    turned = {name: value.roll(1, 0) for name, value in p.ops.items()}
    own, other = (gradient_loss(p.plain, p.real, p.kept, p.label, ops) for ops in (p.ops, turned))
    assert torch.allclose(dsa_loss(p, p.kept), own, rtol=1e-11)
    assert not torch.allclose(own, other, rtol=1e-3)


def test_only_weights_with_two_or_more_dimensions_are_matched(make_problem) -> None:
    p = make_problem()
    even = torch.full((5,), 0.2, dtype=torch.float64)
    found = class_gradient(p.net, p.params, p.real[0], torch.zeros(5, dtype=torch.int64), even)
    assert set(found) == {name for name, value in p.plain.named_parameters() if value.ndim > 1}
    assert all(value.ndim > 1 for value in found.values())
