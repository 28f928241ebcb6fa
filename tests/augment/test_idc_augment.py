"""The augmentation of IDC: equality with its plain twin, and what is always done."""

import pytest
import torch
from plain_siamese import plain as plain_siamese

from attar.augment import Augment, idc, siamese
from attar.errors import UsageError

SHAPES = [(3, 16, 16), (1, 9, 14)]
ALL = "color_crop_cutout_flip_scale_rotate"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(strategy, n, size, seed=0):
    params = idc.draw(strategy, n, generator(seed), size=size)
    return {k: v.double() if v.is_floating_point() else v for k, v in params.items()}


def plain(x, params):
    """The plain siamese operations one after the other: mirror, colour, the movement, cutout."""

    def once(x, op):
        code = torch.full((len(x),), siamese.OPS.index(op))
        return plain_siamese(x, {**params, "op": code}, siamese.OPS)

    for op in ("flip", "color"):
        x = once(x, op) if idc.ALWAYS[op] in params else x
    code = int(params["op"][0])
    x = once(x, siamese.OPS[code]) if code >= 0 else x
    return once(x, "cutout") if "corner" in params else x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "strategy", [ALL, idc.COLOR_CROP_FLIP_SCALE_ROTATE, idc.COLOR_CROP_SCALE_ROTATE, "flip", "crop"]
)
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_plain_twin(shape, strategy, seed):
    x = torch.randn(30, *shape, dtype=torch.float64, generator=generator(1))
    params = drawn(strategy, 30, shape[1:], seed)
    expected = plain(x, params)
    torch.testing.assert_close(idc.augment(x, params), expected, rtol=1e-12, atol=1e-12)
    found = idc.augment_one(x, siamese.common_op(params), params)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_one_movement_for_a_batch_and_colour_for_all():
    moves = [idc.draw(ALL, 8, generator(s), size=(8, 8))["op"] for s in range(100)]
    assert all(len(m.unique()) == 1 for m in moves)
    assert {siamese.OPS[int(m[0])] for m in moves} == {"crop", "rotate", "scale"}
    x = torch.randn(40, 3, 8, 8)
    changed = idc.augment(x, idc.draw("color_flip", 40, generator(), size=(8, 8)))
    assert not (changed == x).flatten(1).all(1).any()


def test_only_what_is_named_is_drawn():
    params = idc.draw(idc.COLOR_CROP_SCALE_ROTATE, 3, generator(), size=(8, 8))
    assert "mirror" not in params and "corner" not in params and "tone" in params
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(idc.augment(x, idc.draw("none", 5, generator(), size=(8, 8))), x)


def test_by_name_and_wrong_names():
    a, x = Augment.parse("idc:color_crop"), torch.randn(6, 3, 8, 8)
    assert str(a) == "idc:color_crop"
    params = idc.draw("color_crop", 6, generator(), size=(8, 8))
    torch.testing.assert_close(a(x, generator()), idc.augment(x, params), rtol=0, atol=0)
    with pytest.raises(UsageError, match="did you mean 'crop'"):
        Augment.parse("idc:crp")


def test_compiled_without_a_break():
    x = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    params = drawn(ALL, 6, (8, 8))
    compiled = torch.compile(idc.augment, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, params), idc.augment(x, params))
