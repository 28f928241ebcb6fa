"""DM's loss and gradient against plain module code, one class at a time, and against finite differences."""

from __future__ import annotations

import pytest
import torch
from plain_matching import dm_loss, slopes

from attar.augment.siamese import augment
from attar.distill.dm import DM
from attar.execute.pieces import features
from attar.match.means import class_means
from attar.nets.fit import net_of
from attar.seeds import Seeds
from attar.testing.toys import toy


def batch_of(p) -> dict:
    """What DM.draw would give for a problem: the weights, the transform, and the target [K, D]."""
    label = torch.arange(p.classes).repeat_interleave(p.real.shape[1])
    x = augment(p.real.flatten(0, 1), p.rows(p.ops, label))
    return {"net": p.params, "augment": p.ops, "target": class_means(features(p.net, p.params, x), label, p.classes)}


def loss_of(p, image: torch.Tensor) -> torch.Tensor:
    return DM(net=p.spec).loss({"image": image, "label": p.label}, batch_of(p))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("counts", [(1, 1), (2, 3, 1), (4, 4, 4, 4)])
def test_loss_equals_one_class_at_a_time(make_problem, counts: tuple[int, ...], seed: int) -> None:
    p = make_problem(counts=counts, seed=seed)
    assert torch.allclose(loss_of(p, p.kept), dm_loss(p.plain, p.real, p.kept, p.label, p.ops), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("channels, side", [(1, 8), (3, 12)])
def test_gradient_equals_that_of_plain_code(make_problem, channels: int, side: int) -> None:
    p = make_problem(channels=channels, side=side)
    ours, theirs = p.kept.clone().requires_grad_(), p.kept.clone().requires_grad_()
    loss_of(p, ours).backward()
    dm_loss(p.plain, p.real, theirs, p.label, p.ops).backward()
    assert ours.grad.norm() > 0
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-10, atol=1e-13)


def test_gradient_by_finite_differences(make_problem) -> None:
    p = make_problem(act="swish")
    image = p.kept.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss_of(p, image), image)
    where, found = slopes(lambda x: loss_of(p, x), p.kept, places=60)
    assert found.abs().max() > 1e-3
    assert torch.allclose(grad.flatten()[where], found, rtol=1e-6, atol=1e-8)


def test_kept_equal_to_real_is_at_zero_under_any_transform(make_problem) -> None:
    p = make_problem(counts=(5, 5, 5))
    same = p.real.flatten(0, 1)
    assert float(loss_of(p, same)) < 1e-25
    assert float(loss_of(p, same.flip(0))) > 1e-3  # other classes' images are not


def test_both_sides_of_a_class_share_their_transform(make_problem) -> None:
    """The loss is that of the plain code with the class's own parameters, and no other."""
    p = make_problem(seed=2)
    turned = {name: value.roll(1, 0) for name, value in p.ops.items()}
    own = dm_loss(p.plain, p.real, p.kept, p.label, p.ops)
    other = dm_loss(p.plain, p.real, p.kept, p.label, turned)
    assert torch.allclose(loss_of(p, p.kept), own, rtol=1e-12)
    assert not torch.allclose(own, other, rtol=1e-3)


def test_draw_uses_the_classes_own_rows_and_transforms() -> None:
    """The target in the batch is what plain code makes of the rows that the seeds name."""
    real, seeds = toy((9, 7, 4), channels=3), Seeds(3).at("step", 5)
    method = DM(net="convnet:width=4:depth=2", batch=6)
    batch = method.draw(real, seeds, {}, 5)
    net = net_of(method.net, real)
    for k, rows in enumerate(real.sample(6, seeds.generator("real"))):
        assert (real.labels[rows] == k).all()
        x = augment(real.draw(rows), {name: value[[k] * 6] for name, value in batch["augment"].items()})
        assert torch.allclose(net.features(batch["net"], x).mean(0), batch["target"][k], atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_float32_loses_little(make_problem, norm: str) -> None:
    p = make_problem(norm=norm)
    q = p.cast(torch.float32)
    narrow, wide = loss_of(q, q.kept), loss_of(p, p.kept)
    assert (narrow.dtype, wide.dtype) == (torch.float32, torch.float64)
    assert float(narrow) == pytest.approx(float(wide), rel=1e-5)


def test_batch_norm_takes_all_classes_together(make_problem) -> None:
    """The official shape for batch-norm networks: one forward of all classes on either side, then means by class."""
    p = make_problem(norm="batch")
    label = torch.arange(p.classes).repeat_interleave(p.real.shape[1])
    p.plain.train()
    real = p.plain.features(augment(p.real.flatten(0, 1), p.rows(p.ops, label)))
    kept = p.plain.features(augment(p.kept, p.rows(p.ops, p.label)))
    gaps = [real[label == k].mean(0) - kept[p.label == k].mean(0) for k in range(p.classes)]
    assert torch.allclose(loss_of(p, p.kept), sum(gap.square().sum() for gap in gaps), rtol=1e-10)
