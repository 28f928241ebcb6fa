"""Siamese augmentation: equality with its plain twin, gradients, what is drawn, and what sharing means."""

import pytest
import torch
from plain_siamese import plain

from attar.augment import siamese
from attar.augment.siamese import COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE as ALL
from attar.augment.siamese import COLOR_CROP_CUTOUT_SCALE_ROTATE as DIGITS
from attar.augment.siamese import OPS, augment, augment_one, common_op, draw, parse
from attar.errors import UsageError

SHAPES = [(3, 32, 32), (1, 28, 28), (3, 9, 14), (2, 7, 7)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(n, size, strategy=ALL, one_op=False, seed=0):
    params = draw(strategy, n, generator(seed), size=size, one_op=one_op)
    return {k: v.double() if v.is_floating_point() else v for k, v in params.items()}


def images(n, c, h, w, seed=1):
    return torch.randn(n, c, h, w, dtype=torch.float64, generator=generator(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("one_op", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_plain_twin(shape, one_op, seed):
    x, params = images(60, *shape), drawn(60, shape[1:], one_op=one_op, seed=seed)
    torch.testing.assert_close(augment(x, params), plain(x, params, OPS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_operation_equals_the_plain_twin_and_its_short_cut(op, shape):
    x, params = images(80, *shape), drawn(80, shape[1:], strategy=op)
    expected = plain(x, params, OPS)
    torch.testing.assert_close(augment(x, params), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(augment_one(x, op, params), expected, rtol=1e-12, atol=1e-12)
    assert common_op(params) == op
    assert not torch.equal(expected, x)


def test_published_crop_by_its_own_indices():
    """The published form pads by one and gathers at clamped indices; ours must agree with it at every shift."""
    x = images(1, 2, 8, 12)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    for dy in range(-1, 2):
        for dx in range(-2, 3):
            i = (torch.arange(8) + dy + 1).clamp(0, 9)
            j = (torch.arange(12) + dx + 1).clamp(0, 13)
            found = siamese.crop(x, {"shift": torch.tensor([[dy, dx]])})
            assert torch.equal(found, padded[:, :, i][:, :, :, j])


@pytest.mark.parametrize("side", [7, 8, 9, 10])
def test_published_cutout_by_its_own_indices(side):
    """The published form clamps the square's indices to the image; ours must agree with it at every centre."""
    x, hole = torch.ones(1, 1, side, side), int(0.5 * side + 0.5)
    for centre in range(side + (1 - hole % 2)):
        mask = torch.ones(side)
        mask[(torch.arange(hole) + centre - hole // 2).clamp(0, side - 1)] = 0
        corner = torch.tensor([[centre - hole // 2, side // 2 - hole // 2]])
        found = siamese.cutout(x, {"corner": corner})[0, 0]
        assert torch.equal(found[:, side // 2], mask)


def test_a_row_is_untouched_by_the_operations_of_others():
    x, params = images(200, 3, 16, 16).float(), draw(ALL, 200, generator(), size=(16, 16), one_op=False)
    found = augment(x, params)
    for code, op in enumerate(OPS):
        rows = params["op"] == code
        assert rows.any()
        alone = augment_one(x[rows], op, {k: v[rows] for k, v in params.items()})
        assert torch.equal(found[rows], alone), op
    untouched = (params["op"] == OPS.index("flip")) & ~params["mirror"]
    assert untouched.any()
    assert torch.equal(found[untouched], x[untouched])


def test_an_untouched_row_may_hold_anything():
    x = torch.tensor([float("inf"), float("nan"), -0.0, 1e-40]).view(4, 1, 1, 1).expand(4, 1, 8, 8).clone()
    params = draw("none", 4, generator(), size=(8, 8), one_op=False)
    assert torch.equal(augment(x, params).view(torch.int32), x.view(torch.int32))


@pytest.mark.parametrize("op", OPS)
def test_gradient_by_finite_differences(op):
    x, params = images(3, 2, 6, 5).requires_grad_(), drawn(3, (6, 5), strategy=op)
    assert torch.autograd.gradcheck(lambda y: augment(y, params), (x,))


def test_gradient_of_mixed_rows_by_finite_differences():
    x, params = images(12, 1, 5, 5).requires_grad_(), drawn(12, (5, 5), seed=5)
    assert len(set(params["op"].tolist())) >= 4
    assert torch.autograd.gradcheck(lambda y: augment(y, params), (x,))


def test_vmap_over_stacks_of_images_and_of_parameters():
    x, several = images(4, 3, 8, 8), [drawn(4, (8, 8), seed=s) for s in range(5)]
    stacked = {k: torch.stack([p[k] for p in several]) for k in several[0]}
    found = torch.func.vmap(augment, (None, 0))(x, stacked)
    torch.testing.assert_close(found, torch.stack([augment(x, p) for p in several]))
    both = torch.func.vmap(augment)(torch.stack([x, 2 * x, x, x, x]), stacked)
    torch.testing.assert_close(both[1], augment(2 * x, several[1]))
    slope = torch.func.vmap(torch.func.grad(lambda y, p: augment(y, p).square().sum()), (None, 0))(x, stacked)
    torch.testing.assert_close(slope[2], torch.func.grad(lambda y: augment(y, several[2]).square().sum())(x))


def test_compiled_without_a_break_and_for_any_operation():
    x = images(6, 3, 8, 8)
    compiled = torch.compile(augment, backend="aot_eager", fullgraph=True, dynamic=False)
    for seed in range(3):
        params = drawn(6, (8, 8), seed=seed)
        torch.testing.assert_close(compiled(x, params), augment(x, params))


def test_rows_of_a_class_share_what_was_drawn_for_it():
    params = drawn(3, (8, 8), seed=2)
    one = images(1, 3, 8, 8)
    for n in (1, 5, 9):
        labels = torch.arange(n) % 3
        found = augment(one.expand(n, -1, -1, -1), {k: v[labels] for k, v in params.items()})
        for k in range(3):
            alone = augment(one, {name: v[k : k + 1] for name, v in params.items()})
            assert all(torch.equal(row, alone[0]) for row in found[labels == k])


def test_half_precision_samples_on_a_fine_grid():
    x = images(40, 1, 32, 32)
    params = draw("rotate_scale", 40, generator(), size=(32, 32), one_op=False)
    half = x.bfloat16()
    exact = augment(half.float(), params)
    found = augment(half, params)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=2**-8, atol=1e-6)


class TestDraws:
    n = 20_000
    params = draw(ALL, n, generator(), size=(32, 28), one_op=False)

    def uniform(self, values, low, high):
        """Inside the range, filling it, and with the mean of a uniform distribution (six standard errors)."""
        values = values.double()
        width = high - low
        assert low <= values.min() < low + 0.01 * width
        assert high - 0.01 * width < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 6 * width / (12 * len(values)) ** 0.5

    def whole(self, values, low, high):
        """Every whole number of the range, equally often (six standard errors)."""
        counts = torch.bincount(values - low)
        assert values.min() == low and values.max() == high
        expected = len(values) / (high - low + 1)
        assert (counts - expected).abs().max() < 6 * expected**0.5

    def test_every_row_has_every_parameter(self):
        assert all(len(v) == self.n for v in self.params.values())

    def test_operations(self):
        self.whole(self.params["op"], 0, 5)

    def test_mirror(self):
        assert abs(self.params["mirror"].double().mean() - 0.5) < 6 * 0.5 / self.n**0.5

    def test_scale(self):
        for axis in (0, 1):
            self.uniform(self.params["grow"][:, axis], 1 / 1.2, 1.2)

    def test_angle(self):
        self.uniform(torch.rad2deg(self.params["angle"]), -15.00001, 15.00001)

    def test_shift(self):
        self.whole(self.params["shift"][:, 0], -4, 4)  # int(.125 * 32 + .5)
        self.whole(self.params["shift"][:, 1], -4, 4)  # int(.125 * 28 + .5)

    def test_cutout_centres(self):
        self.whole(self.params["corner"][:, 0] + 8, 0, 32)  # an even square: H + 1 centres
        self.whole(self.params["corner"][:, 1] + 7, 0, 28)
        odd = draw("cutout", self.n, generator(), size=(10, 10), one_op=True)["corner"][:, 0] + 2
        self.whole(odd, 0, 9)  # a square of 5: H centres

    def test_tones(self):
        for axis, (low, high) in enumerate([(-0.5, 0.5), (0, 2), (0.5, 1.5)]):
            self.uniform(self.params["tone"][:, axis], low, high)

    def test_parameters_are_independent(self):
        columns = [self.params["op"][:, None], self.params["mirror"][:, None], self.params["angle"][:, None]]
        columns += [self.params[k] for k in ("grow", "shift", "corner", "tone")]
        correlation = torch.corrcoef(torch.cat([c.double() for c in columns], 1).T)
        assert (correlation - torch.eye(len(correlation))).abs().max() < 6 / self.n**0.5


def test_one_operation_for_a_call_and_parameters_for_every_row():
    seen = set()
    for seed in range(60):
        params = draw(ALL, 8, generator(seed), size=(16, 16), one_op=True)
        assert len(set(params["op"].tolist())) == 1
        assert len(params["angle"].unique()) == 8
        seen.add(common_op(params))
    assert seen == set(OPS)


def test_without_flip_nothing_is_ever_mirrored():
    params = draw(DIGITS, 3000, generator(), size=(8, 8), one_op=False)
    assert OPS.index("flip") not in params["op"].tolist()
    assert set(params["op"].tolist()) == set(range(6)) - {OPS.index("flip")}
    assert all(common_op(draw(DIGITS, 1, generator(s), size=(8, 8), one_op=True)) != "flip" for s in range(200))


def test_draws_are_a_function_of_the_generator():
    a, b = (draw(ALL, 50, generator(3), size=(8, 8), one_op=False) for _ in range(2))
    other = draw(ALL, 50, generator(4), size=(8, 8), one_op=False)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["op"], other["op"])
    before = torch.default_generator.get_state()
    augment(torch.zeros(50, 1, 8, 8), a)
    assert torch.equal(torch.default_generator.get_state(), before)


@pytest.mark.parametrize("text", ["", "none", "None"])
def test_no_augmentation(text):
    assert parse(text) == ()
    params = draw(text, 5, generator(), size=(8, 8), one_op=True)
    x = images(5, 3, 8, 8)
    assert torch.equal(augment(x, params), x)
    assert common_op(params) == "none"
    assert augment_one(x, "none", params) is x


def test_parse():
    assert parse(ALL) == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert set(parse(ALL)) - set(parse(DIGITS)) == {"flip"}
    with pytest.raises(UsageError, match="did you mean 'cutout'"):
        parse("color_cutot")
    with pytest.raises(UsageError, match="twice"):
        parse("crop_crop")
    with pytest.raises(UsageError, match="''"):
        parse("color__crop")
