"""DataDAM's loss and gradient against loops over classes, images and pixels, and against finite differences."""

from __future__ import annotations

import pytest
import torch
from plain_matching import of_class, slopes, transformed
from torch import nn

from attar.augment.siamese import augment
from attar.distill.datadam import DataDAM, attention
from attar.errors import UsageError
from attar.match.layers import layer_means, real_means, shares
from attar.nets.fit import net_of
from attar.seeds import Seeds
from attar.testing.toys import toy


def plain_attention(maps: torch.Tensor, power: float) -> torch.Tensor:
    """[C, H, W] of one image -> [H W]."""
    spots = [sum(abs(a) ** power for a in maps[:, i, j]) for i in range(maps.shape[1]) for j in range(maps.shape[2])]
    length = sum(s**2 for s in spots) ** 0.5
    return torch.stack([s / length for s in spots])


def plain_layers(net, x: torch.Tensor, power: float) -> list[torch.Tensor]:
    """One image [C, H, W] -> its attention maps but the last one's, then its features."""
    x, found = x[None], []
    for part in net.body:
        x = part(x)
        if isinstance(part, (nn.ReLU, nn.SiLU)):
            found.append(x[0])
    return [plain_attention(m, power) for m in found[:-1]] + [x.flatten()]


def plain_loss(p, image: torch.Tensor, *, power: float, balance: float) -> torch.Tensor:
    total = torch.zeros((), dtype=image.dtype)
    for k, real in enumerate(p.real):
        sides = []
        for x in (real, image[p.label == k]):
            each = [plain_layers(p.plain, one, power) for one in transformed(x, of_class(p.ops, k, len(x)))]
            sides.append([sum(layer) / len(layer) for layer in zip(*each)])
        *gaps, last = [((r.detach() - s) ** 2).sum() for r, s in zip(*sides)]
        total = total + 100 * sum(gaps) + 100 * balance * last
    return total


def loss_of(p, image: torch.Tensor, **how: float) -> torch.Tensor:
    method = DataDAM(net=p.spec, **how)
    label = torch.arange(p.classes).repeat_interleave(p.real.shape[1])
    x = augment(p.real.flatten(0, 1), p.rows(p.ops, label))
    means, _ = real_means(p.net, p.params, x, shares(label, p.classes, x.dtype), method.seen, size=4)
    target = {str(i): mean for i, mean in enumerate(means)}
    return method.loss({"image": image, "label": p.label}, {"net": p.params, "augment": p.ops, "target": target})


@pytest.mark.parametrize("power, balance", [(4.0, 0.01), (1.0, 0.5)])
@pytest.mark.parametrize("counts, depth", [((2, 3, 1), 2), ((1, 1), 3)])
def test_loss_and_gradient_equal_plain_loops(make_problem, counts, depth: int, power: float, balance: float) -> None:
    p = make_problem(counts=counts, depth=depth, batch=3)
    ours, theirs = p.kept.clone().requires_grad_(), p.kept.clone().requires_grad_()
    loss = loss_of(p, ours, power=power, balance=balance)
    plain = plain_loss(p, theirs, power=power, balance=balance)
    assert torch.allclose(loss, plain, rtol=1e-11)
    loss.backward()
    plain.backward()
    assert ours.grad.norm() > 0
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_gradient_by_finite_differences(make_problem) -> None:
    p = make_problem(act="swish", depth=2)
    image = p.kept.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss_of(p, image, balance=0.1), image)
    where, found = slopes(lambda x: loss_of(p, x, balance=0.1), p.kept, places=60)
    assert found.abs().max() > 1e-3
    assert torch.allclose(grad.flatten()[where], found, rtol=1e-5, atol=1e-7)


def test_both_terms_are_there(make_problem) -> None:
    p = make_problem(depth=3)
    low, high = (float(loss_of(p, p.kept, balance=b)) for b in (0.01, 0.02))
    features = (high - low) / 0.01
    assert 0 < 0.01 * features < low


def test_attention_has_length_one_and_a_dead_image_no_slope() -> None:
    maps = torch.randn(3, 4, 2, 5)
    assert torch.allclose(attention(maps, 4.0).norm(dim=1), torch.ones(3))
    assert torch.allclose(attention(3 * maps, 4.0), attention(maps, 4.0), atol=1e-6)  # a direction
    dead = torch.zeros(1, 4, 2, 5, requires_grad=True)
    (slope,) = torch.autograd.grad(attention(dead.relu(), 1.0).sum(), dead)
    assert torch.equal(slope, torch.zeros_like(dead))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_pieces_give_what_all_images_at_once_give(make_problem, norm: str) -> None:
    p = make_problem(norm=norm)
    label = torch.arange(p.classes).repeat_interleave(p.real.shape[1])
    x, share = p.real.flatten(0, 1), shares(label, p.classes, p.real.dtype)
    whole, features = layer_means(p.net, p.params, x, share, DataDAM().seen)
    pieces, same = real_means(p.net, p.params, x, share, DataDAM().seen, size=4 if norm == "instance" else None)
    assert all(torch.allclose(a, b, rtol=1e-11) for a, b in zip([*whole, features], [*pieces, same]))


def test_draw_gives_the_means_of_the_classes_own_transformed_rows() -> None:
    real, seeds = toy((9, 7, 4), channels=3), Seeds(3).at("step", 5)
    method = DataDAM(net="convnet:width=4:depth=2", batch=6)
    batch, net = method.draw(real, seeds, {}, 5), net_of(method.net, real)
    for k, rows in enumerate(real.sample(6, seeds.generator("real"))):
        x = augment(real.draw(rows), {name: value[[k] * 6] for name, value in batch["augment"].items()})
        for i, seen in enumerate(method.seen(*net.layers(batch["net"], x))):
            assert torch.allclose(seen.mean(0), batch["target"][str(i)][k], atol=1e-5)


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="mlp offers no layers"):
        DataDAM(net="mlp", batch=2).draw(toy((3, 3)), Seeds(0), {}, 0)
