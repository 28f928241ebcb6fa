"""The presets are the published ones, and what is changed of them shows in the name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attar.errors import UsageError
from attar.evaluate.protocol import PRESETS, resolve
from attar.nets import build
from attar.real.realset import RealSet

Make = Callable[..., RealSet]
TEN = tuple("0123456789")
FLIP = "dsa:color_crop_cutout_flip_scale_rotate"
NO_FLIP = "dsa:color_crop_cutout_scale_rotate"


def test_dc_on_colour_images(make_real: Make) -> None:
    p = resolve("dc", make_real())
    assert (p.name, p.epochs, p.augment, p.select) == ("dc", 300, "none", "last")
    assert (p.lr, p.momentum, p.weight_decay, p.batch) == (0.01, 0.9, 5e-4, 256)
    assert p.passes == 301
    rates = [p.rate(epoch) for epoch in range(p.passes)]
    assert rates == [0.01] * 152 + [pytest.approx(0.001)] * 149
    assert p.drop == 152
    assert not any(p.looks(epoch) for epoch in range(p.passes))


@pytest.mark.parametrize(
    ("name", "classes", "channels", "augment", "epochs"),
    [
        ("mnist", TEN, 1, "dc:crop_scale_rotate", 1000),
        ("MNIST", ("zero", "one"), 1, "dc:crop_scale_rotate", 1000),
        ("digits", TEN, 1, "dc:crop_scale_rotate", 1000),
        ("fashion_mnist", ("dress", "hat"), 1, "none", 300),
        ("brain_mri", ("glioma", "none"), 1, "none", 300),
        ("svhn", TEN, 3, "none", 300),
    ],
)
def test_dc_augments_grey_characters_alone(
    make_real: Make, name: str, classes: tuple[str, ...], channels: int, augment: str, epochs: int
) -> None:
    p = resolve("dc", make_real(name=name, classes=classes, shape=(channels, 8, 8)))
    assert (p.augment, p.epochs) == (augment, epochs)


@pytest.mark.parametrize("channels", [1, 3])
def test_dc_augments_networks_with_batch_norm_on_every_set(make_real: Make, channels: int) -> None:
    real = make_real(classes=TEN, shape=(channels, 8, 8))
    net = build("convnet:depth=1:width=8:norm=batch", channels=channels, size=(8, 8), classes=10)
    p = resolve("dc", real, net=net)
    assert (p.augment, p.epochs) == ("dc:crop_noise", 1000)


@pytest.mark.parametrize(
    ("name", "classes", "augment"),
    [
        ("cifar10", ("cat", "dog"), FLIP),
        ("fashion_mnist", ("dress", "hat"), FLIP),
        ("mnist", TEN, NO_FLIP),
        ("digits", TEN, NO_FLIP),
        ("svhn", ("zero", "one"), NO_FLIP),
    ],
)
def test_dsa_flips_all_but_written_characters(
    make_real: Make, name: str, classes: tuple[str, ...], augment: str
) -> None:
    p = resolve("dsa", make_real(name=name, classes=classes))
    assert (p.augment, p.epochs, p.passes, p.drop) == (augment, 1000, 1001, 502)


@pytest.mark.parametrize("name", ["dc", "dsa"])
def test_best_differs_by_its_looks_alone(make_real: Make, name: str) -> None:
    plain, best = resolve(name, make_real()), resolve(f"{name}-best", make_real())
    same = {k: v for k, v in plain.facts().items() if k not in ("name", "select", "evaluate_every")}
    assert same.items() <= best.facts().items()
    assert best.name == f"{name}-best"
    looks = [epoch for epoch in range(best.passes) if best.looks(epoch)]
    assert len(looks) == 10
    assert best.passes - 1 not in looks  # the last epoch is tested in any case


@pytest.mark.parametrize(("n", "epochs"), [(12, 300), (2296, 277), (50_000, 12), (60_000, 10), (10**6, 1)])
def test_full_takes_as_many_updates_on_every_set(make_real: Make, n: int, epochs: int) -> None:
    p = resolve("full", make_real(n=n, shape=(1, 1, 1)))
    assert (p.epochs, p.passes, p.drop) == (epochs, epochs, -1)
    assert epochs in (1, 300) or 2500 - -(-n // 256) < epochs * -(-n // 256) <= 2500


def test_a_cosine_falls_to_zero(make_real: Make) -> None:
    p = resolve("full", make_real(), epochs=30)
    rates = [p.rate(epoch, share) for epoch in range(30) for share in (0, 0.5)]
    assert rates[0] == 0.01 and 0 < rates[-1] < 1e-4
    assert rates == sorted(rates, reverse=True)


def test_changes_show_in_the_name(make_real: Make) -> None:
    real = make_real()
    assert resolve("dsa", real, epochs=300).name == "dsa, 300 epochs"
    assert resolve("dsa", real, augment="none").name == "dsa, no augmentation"
    changed = resolve("dsa", real, epochs=30, augment="crop_flip", lr=0.02)
    assert changed.name == "dsa, 30 epochs, augment dsa:crop_flip, learning rate 0.02"
    assert (changed.epochs, changed.augment, changed.lr) == (30, "dsa:crop_flip", 0.02)
    assert resolve("dsa", real, epochs=1000, augment=FLIP, lr=0.01).name == "dsa"
    assert resolve("dsa", real, augment="auto").name == "dsa"
    assert resolve("dsa-best", real, epochs=50).evaluate_every == 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "dsaa"}, "did you mean 'dsa'"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 1.5}, r"epochs=1\.5"),
        ({"epochs": True}, "epochs=True"),
        ({"lr": float("nan")}, "nan"),
        ({"lr": -1.0}, r"-1\.0"),
        ({"lr": "fast"}, "fast"),
        ({"augment": "crop_mirror"}, "mirror"),
    ],
)
def test_a_wrong_setting_is_named(make_real: Make, settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        resolve(**{"name": "dsa", "real": make_real(), **settings})


def test_every_preset_resolves(make_real: Make) -> None:
    assert all(resolve(name, make_real()).name == name for name in PRESETS)
