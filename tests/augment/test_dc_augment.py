"""The older augmentation: equality with its plain twin, image by image, and what is drawn."""

import math

import pytest
import torch
from torch.nn import functional as F

from attar.augment import dc
from attar.errors import UsageError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, c, h, w):
    return torch.randn(n, c, h, w, dtype=torch.float64, generator=generator(1)) + 0.7


def plain(x, params):
    """One image at a time: a canvas filled with the batch's mean, interpolation to a size, pixel loops for rotation."""
    mean = torch.stack([x[:, c].mean() for c in range(x.shape[1])])
    out = []
    for b, image in enumerate(x):
        code = int(params["op"][b])
        op = dc.OPS[code] if code >= 0 else "none"
        if op == "crop":
            out.append(crop(image, params["shift"][b].tolist(), mean))
        elif op == "scale":
            out.append(scale(image, params["sides"][b].tolist()))
        elif op == "rotate":
            out.append(rotate(image, float(params["angle"][b]), float(mean.mean())))
        elif op == "noise":
            out.append(image + params["noise"][b, : len(image)])
        else:
            out.append(image)
    return torch.stack(out)


def crop(image, shift, mean):
    c, h, w = image.shape
    canvas = mean[:, None, None].expand(c, h + 8, w + 8).clone()
    canvas[:, 4 : 4 + h, 4 : 4 + w] = image
    top, left = shift[0] + 4, shift[1] + 4
    return canvas[:, top : top + h, left : left + w]


def scale(image, sides):
    c, h, w = image.shape
    resized = F.interpolate(image.float()[None], sides, mode="nearest")[0].to(image.dtype)
    side = max(*sides, h, w)
    canvas = torch.zeros(c, side, side, dtype=image.dtype)
    top, left = int((side - sides[0]) / 2), int((side - sides[1]) / 2)
    canvas[:, top : top + sides[0], left : left + sides[1]] = resized
    top, left = int((side - h) / 2), int((side - w) / 2)
    return canvas[:, top : top + h, left : left + w]


def rotate(image, angle, fill):
    c, h, w = image.shape
    out = torch.full_like(image, fill)
    for i in range(h):
        for j in range(w):
            y, x = i - (h - 1) / 2, j - (w - 1) / 2
            v = math.sin(angle) * x + math.cos(angle) * y + (h - 1) / 2
            u = math.cos(angle) * x - math.sin(angle) * y + (w - 1) / 2
            total = torch.full((c,), fill, dtype=image.dtype)
            for a in (math.floor(v), math.floor(v) + 1):
                for b in (math.floor(u), math.floor(u) + 1):
                    if 0 <= a < h and 0 <= b < w:
                        total = total + (1 - abs(v - a)) * (1 - abs(u - b)) * (image[:, a, b] - fill)
            out[:, i, j] = total
    return out


def drawn(strategy, n, size, seed=0):
    params = dc.draw(strategy, n, generator(seed), size=size)
    return {k: v.double() if v.is_floating_point() else v for k, v in params.items()}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 9), (1, 10, 7)])
@pytest.mark.parametrize("strategy", [dc.CROP_SCALE_ROTATE, dc.CROP_NOISE, "crop_noise_rotate_scale"])
def test_equals_the_plain_twin(shape, strategy):
    x = images(30, *shape).float().double()  # exact in float32, so that the twin's resizing loses nothing
    params = drawn(strategy, 30, shape[1:])
    torch.testing.assert_close(dc.augment(x, params), plain(x, params), rtol=1e-9, atol=1e-9)


def test_scale_equals_interpolation_at_every_size():
    x = images(1, 1, 28, 28).float()
    sides = [[h, w] for h in range(20, 35) for w in (22, 28, 33)]
    found = dc.scale(x.expand(len(sides), -1, -1, -1), torch.tensor(sides))
    assert torch.equal(found, torch.stack([scale(x[0], s) for s in sides]))


def test_what_is_drawn():
    n = 20_000
    params = dc.draw(dc.CROP_SCALE_ROTATE, n, generator(), size=(28, 20))
    used = {dc.OPS.index(op) for op in ("crop", "scale", "rotate")}
    counts = torch.bincount(params["op"], minlength=4)
    assert {i for i in range(4) if counts[i]} == used
    assert (counts[list(used)] - n / 3).abs().max() < 6 * (n * 2 / 9) ** 0.5
    assert sorted(params["shift"].unique().tolist()) == list(range(-4, 4))  # a window that begins at 0 to 7
    assert sorted(params["sides"][:, 0].unique().tolist()) == list(range(22, 34))  # int(.8 * 28) to below 1.2 * 28
    assert sorted(params["sides"][:, 1].unique().tolist()) == list(range(16, 24))
    degrees = torch.rad2deg(params["angle"])
    assert sorted(degrees.round().int().unique().tolist()) == list(range(-45, 45))
    assert "noise" not in params
    noise = dc.draw(dc.CROP_NOISE, 500, generator(), size=(28, 28), channels=5)["noise"]
    assert noise.shape == (500, 5, 28, 28)
    assert noise.std().item() == pytest.approx(0.001, rel=0.01)


def test_every_image_has_its_own_operation():
    assert len(dc.draw(dc.CROP_SCALE_ROTATE, 50, generator(), size=(8, 8))["op"].unique()) == 3


def test_untouched_rows_and_gradient():
    x = images(8, 1, 6, 6)
    assert torch.equal(dc.augment(x, drawn("none", 8, (6, 6))), x)
    params = drawn("crop_noise_rotate_scale", 8, (6, 6), seed=2)
    assert len(params["op"].unique()) == 4
    assert torch.autograd.gradcheck(lambda y: dc.augment(y, params), (x.requires_grad_(),))


def test_compiled_without_a_break_and_under_vmap():
    x, params = images(6, 1, 8, 8), drawn(dc.CROP_SCALE_ROTATE, 6, (8, 8))
    compiled = torch.compile(dc.augment, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, params), dc.augment(x, params))
    stacked = {k: torch.stack([v, v.flip(0)]) for k, v in params.items()}
    found = torch.func.vmap(dc.augment, (None, 0))(x, stacked)
    torch.testing.assert_close(found[1], dc.augment(x, {k: v.flip(0) for k, v in params.items()}))


def test_wrong_strategies():
    with pytest.raises(UsageError, match="did you mean 'rotate'"):
        dc.parse("crop_rotat")
    with pytest.raises(UsageError, match="twice"):
        dc.parse("crop_crop")
