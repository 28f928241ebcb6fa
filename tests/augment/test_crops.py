"""Random resized crops and moved patches: equality with plain twins, what is drawn, refusals."""

import math

import pytest
import torch
from torch.nn import functional as F

from attar.augment import Augment, crops
from attar.errors import UsageError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, c, h, w):
    return torch.randn(n, c, h, w, dtype=torch.float64, generator=generator(1))


def plain(x, params):
    """Image by image: gather, cut out, interpolate, mirror."""
    out = []
    for b, image in enumerate(x):
        if "down" in params:
            image = image[:, params["down"][b]][:, :, params["across"][b]]
        top, left, height, width = params["box"][b].tolist()
        cut = image[None, :, top : top + height, left : left + width]
        image = F.interpolate(cut, x.shape[2:], mode="bilinear", align_corners=False)[0]
        out.append(image.flip(2) if "mirror" in params and params["mirror"][b] else image)
    return torch.stack(out)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 9, 14), (2, 11, 7)])
@pytest.mark.parametrize("strategy", ["0.08", "0.08_flip", "0.5_flip_patches2", "0.25_patches3"])
def test_equals_the_plain_twin(shape, strategy):
    x, params = images(40, *shape), crops.draw(strategy, 40, generator(), size=shape[1:])
    torch.testing.assert_close(crops.augment(x, params), plain(x, params), rtol=1e-12, atol=1e-12)


def test_every_box_of_a_side_equals_interpolation():
    x = images(1, 1, 7, 7)
    box = [[t, l, h, w] for h in range(1, 8) for w in (1, 4, 7) for t in range(8 - h) for l in range(8 - w)]
    found = crops.resized(x.expand(len(box), -1, -1, -1), torch.tensor(box))
    expected = plain(x.expand(len(box), -1, -1, -1), {"box": torch.tensor(box)})
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_what_is_drawn():
    n = 20_000
    top, left, height, width = crops.draw("0.08", n, generator(), size=(64, 64))["box"].T
    assert bool(((top >= 0) & (left >= 0) & (top + height <= 64) & (left + width <= 64)).all())
    share, ratio = height * width / 64**2, width / height
    assert 0.075 < share.min() < 0.09 and share.max() == 1
    # Between .1 and .5 every shape fits, so that the area is uniform there.
    counts = torch.histc(share[(share > 0.1) & (share < 0.5)], 4, 0.1, 0.5)
    assert (counts / counts.mean() - 1).abs().max() < 0.1
    assert 0.7 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.43
    assert ratio[share < 0.5].log().mean().abs() < 0.01
    room = 64 - height[share < 0.3]
    assert (top[share < 0.3] / room).mean() == pytest.approx(0.5, abs=0.01)


def test_the_whole_image_where_nothing_smaller_is_allowed():
    box = crops.draw("1", 200, generator(), size=(32, 32))["box"]
    assert (box[:, 2] * box[:, 3]).min() >= 31 * 31
    assert (box == torch.tensor([0, 0, 32, 32])).all(1).double().mean() > 0.6
    tall = crops.draw("1", 5, generator(), size=(64, 8))["box"]  # no box of this area has a ratio in the range
    assert tall.tolist() == [[26, 0, round(8 * 4 / 3), 8]] * 5


def test_patches_keep_their_pixels_and_come_in_every_order():
    x = torch.arange(49.0).view(1, 1, 7, 7).expand(300, 1, 7, 7)
    params = crops.draw("1_patches2", 300, generator(), size=(7, 7))
    found = crops.take(x, params["down"], params["across"])
    assert torch.equal(found.flatten(1).sort(1).values, x.flatten(1))
    halves = {tuple(row) for row in params["down"].tolist()}
    assert halves == {(0, 1, 2, 3, 4, 5, 6), (3, 4, 5, 6, 0, 1, 2)}  # the second strip takes the odd pixel
    three = crops.draw("1_patches3", 300, generator(), size=(9, 9))["across"]
    assert len({tuple(row) for row in three.tolist()}) == math.factorial(3)


def test_gradient_and_compiling_without_a_break():
    x = images(4, 1, 6, 6).requires_grad_()
    params = crops.draw("0.2_flip_patches2", 4, generator(), size=(6, 6))
    assert torch.autograd.gradcheck(lambda y: crops.augment(y, params), (x,))
    compiled = torch.compile(crops.augment, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, params), crops.augment(x, params))


def test_by_name():
    a, x = Augment.parse("rrc:0.08_flip"), torch.randn(6, 3, 8, 8)
    assert str(a) == "rrc:0.08_flip" and str(Augment.parse("rrc:none")) == "none"
    assert torch.equal(a(x, generator()), crops.augment(x, crops.draw("0.08_flip", 6, generator(), size=(8, 8))))


@pytest.mark.parametrize(
    "strategy",
    ["flip", "0", "1.5", "nan", "0.5_flop", "0.5_patches", "0.5_patches0", "0.5_flip_flip", "0.5_patches2_patches3"],
)
def test_wrong_strategies(strategy):
    with pytest.raises(UsageError, match=r"smallest share of the area"):
        Augment.parse(f"rrc:{strategy}")
