"""CutMix: equality with its plain twin, what is drawn, and that labels follow the pixels."""

import math

import pytest
import torch

from attar.augment import cutmix


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(x, y, params):
    """Pixel by pixel and label by label."""
    top, bottom, left, right = params["box"].tolist()
    images, labels = x.clone(), y.clone()
    for b, other in enumerate(params["partner"].tolist()):
        for i in range(top, bottom):
            for j in range(left, right):
                images[b, :, i, j] = x[other, :, i, j]
        own = 1 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
        labels[b] = own * y[b] + (1 - own) * y[other]
    return images, labels


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 14), (2, 7, 5)])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_plain_twin(shape, seed):
    x = torch.randn(5, *shape, dtype=torch.float64, generator=generator(1))
    y = torch.rand(5, 4, dtype=torch.float64, generator=generator(2)).softmax(1)
    params = cutmix.draw(5, generator(seed), size=shape[1:])
    images, labels = plain(x, y, params)
    assert torch.equal(cutmix.mix(x, params), images)
    torch.testing.assert_close(cutmix.mix_labels(y, params, shape[1:]), labels)
    assert cutmix.mix_labels(y, params, shape[1:]).sum(1).tolist() == pytest.approx([1] * 5)


def test_the_box_has_the_published_sides_and_is_centred_on_any_pixel():
    """The published form: sides int(side * sqrt(1 - share)), halved to both sides of the centre and clipped."""
    seen = set()
    for seed in range(400):
        top, bottom, left, right = cutmix.draw(2, generator(seed), size=(9, 6))["box"].tolist()
        share = torch.rand(2, generator=generator(seed), dtype=torch.float64)[1].item()
        halves = [int(side * math.sqrt(1 - share)) // 2 for side in (9, 6)]
        expected = {
            (max(cy - halves[0], 0), min(cy + halves[0], 9), max(cx - halves[1], 0), min(cx + halves[1], 6))
            for cy in range(9)
            for cx in range(6)
        }
        assert (top, bottom, left, right) in expected
        seen.add((top, left))
    assert len(seen) > 25


def test_the_share_is_uniform_and_partners_are_a_permutation():
    areas = []
    for seed in range(2000):
        params = cutmix.draw(7, generator(seed), size=(64, 64))
        assert sorted(params["partner"].tolist()) == list(range(7))
        areas.append(float(cutmix.inside(params, (64, 64)).double().mean()))
    # A square of share s centred anywhere keeps (1 - sqrt(s) / 4)^2 of its area within the borders, on average.
    expected = sum((s / 1000) * (1 - math.sqrt(s / 1000) / 4) ** 2 for s in range(1000)) / 1000
    assert sum(areas) / 2000 == pytest.approx(expected, abs=0.02)


def test_as_many_batches_are_mixed_as_asked():
    mixed = [
        bool(cutmix.inside(cutmix.draw(3, generator(s), size=(32, 32), p=0.5), (32, 32)).any()) for s in range(1000)
    ]
    assert 0.4 < sum(mixed) / 1000 < 0.55  # some boxes are empty by themselves
    never = cutmix.draw(3, generator(), size=(8, 8), p=0.0)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(cutmix.mix(x, never), x)
    y = torch.eye(3)
    assert torch.equal(cutmix.mix_labels(y, never, (8, 8)), y)


def test_gradients_reach_both_images():
    x = torch.randn(3, 1, 6, 6, dtype=torch.float64, generator=generator(), requires_grad=True)
    params = {"partner": torch.tensor([1, 2, 0]), "box": torch.tensor([1, 4, 2, 6])}
    assert torch.autograd.gradcheck(lambda z: cutmix.mix(z, params), (x,))
