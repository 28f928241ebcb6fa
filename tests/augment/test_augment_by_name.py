"""Augmentations by name."""

import pytest
import torch

from attar.augment import Augment, by_name, dc, siamese
from attar.errors import UsageError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("none", "none"),
        ("", "none"),
        ("dsa:none", "none"),
        ("dc:none", "none"),
        ("color_crop", "dsa:color_crop"),
        ("dsa:color_crop", "dsa:color_crop"),
        ("dc:crop_scale_rotate", "dc:crop_scale_rotate"),
    ],
)
def test_names(text, name):
    assert str(by_name(text)) == name
    assert Augment.parse(name) == by_name(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dsa:colr", "did you mean 'color'"),
        ("colr", "did you mean 'color'"),
        ("dc:crp", "did you mean 'crop'"),
        ("das:color", "did you mean 'dsa'"),
        ("dc:color", "known: crop, noise, rotate, scale"),
    ],
)
def test_wrong_names(text, said):
    with pytest.raises(UsageError) as e:
        by_name(text)
    assert said in str(e.value)


def test_it_is_what_its_module_does():
    x = torch.randn(10, 1, 12, 12)
    a = by_name("dsa:crop_rotate")
    expected = siamese.draw("crop_rotate", 10, generator(), size=(12, 12), one_op=True)
    assert torch.equal(a.apply(x, a.draw(10, generator(), size=(12, 12))), siamese.augment(x, expected))
    own = a.draw(10, generator(), size=(12, 12), one_op=False)
    assert len(own["op"].unique()) == 2
    b = by_name("dc:crop_scale")
    assert torch.equal(b(x, generator()), dc.augment(x, dc.draw("crop_scale", 10, generator(), size=(12, 12))))


@pytest.mark.parametrize("text", ["none", siamese.COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, "dc:crop_noise_scale"])
def test_a_call_equals_draw_and_apply(text):
    a, x = by_name(text), torch.randn(10, 4, 12, 12)
    for seed in range(12):
        params = a.draw(10, generator(seed), size=(12, 12), channels=4)
        torch.testing.assert_close(a(x, generator(seed)), a.apply(x, params), rtol=0, atol=0)


def test_none_draws_nothing_and_changes_nothing():
    x = torch.randn(2, 1, 4, 4)
    assert by_name("none").draw(2, generator(), size=(4, 4)) == {}
    assert by_name("none")(x, generator()) is x
