"""The presets are the published ones, and what is changed of them shows in the name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attar.errors import UsageError
from attar.evaluate.presets import PRESETS, resolve
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


# --- the protocols of other papers ---------------------------------------------------------------------------------


def test_idc_on_small_images(make_real: Make) -> None:
    p = resolve("idc", make_real(), per_class=10)
    assert (p.name, p.epochs, p.passes, p.drop, p.batch) == ("idc", 1000, 1000, -1, 64)
    assert (p.optimiser, p.lr, p.momentum, p.weight_decay, p.labels) == ("sgd", 0.01, 0.9, 5e-4, "hard")
    assert (p.augment, p.cutmix) == ("idc:color_crop_flip_scale_rotate", 0.5)
    rates = [p.rate(epoch) for epoch in range(1000)]
    assert rates == pytest.approx([0.01] * 666 + [0.002] * 167 + [0.0004] * 167)
    assert [epoch + 1 for epoch in range(1000) if p.looks(epoch)] == [250, 500, 750]  # and the last
    assert resolve("idc", make_real(name="svhn", classes=TEN)).augment == "idc:color_crop_scale_rotate_cutout"
    assert resolve("idc", make_real(name="svhn", classes=TEN)).cutmix == 0
    two = resolve("idc", make_real(name="svhn", classes=TEN), per_class=2)
    assert (two.augment, two.cutmix) == ("idc:color_crop_scale_rotate", 0.5)


def test_idc_mixes_no_digits_that_were_decoded_from_tiles(make_real: Make) -> None:
    digits, fashion = (make_real(name=name, classes=TEN, shape=(1, 28, 28)) for name in ("mnist", "fashion_mnist"))
    tiled = resolve("idc", digits, per_class=4, tiles=2)
    assert (tiled.augment, tiled.cutmix) == ("idc:color_crop_scale_rotate", 0)
    assert resolve("idc", digits, per_class=4).cutmix == resolve("idc", fashion, per_class=4, tiles=2).cutmix == 0.5


@pytest.mark.parametrize(("epochs", "looks"), [(2, [1]), (6, [2, 4]), (1002, [251, 502, 753])])
def test_idc_looks_four_times(make_real: Make, epochs: int, looks: list[int]) -> None:
    p = resolve("idc", make_real(), epochs=epochs)
    assert [epoch + 1 for epoch in range(p.passes) if p.looks(epoch)] == looks


@pytest.mark.parametrize(
    ("per_class", "ten", "hundred"),
    [
        (1, 3000, 2000),
        (2, 2000, 1300),
        (10, 2000, 1300),
        (11, 1500, 1000),
        (200, 1000, 600),
        (500, 500, 300),
        (501, 300, 200),
    ],
)
def test_idc_epochs_on_larger_images(make_real: Make, per_class: int, ten: int, hundred: int) -> None:
    many = tuple(f"thing {k}" for k in range(100))
    for classes, epochs, rate in ((many[:10], ten, (0.01, 5e-4, 64)), (many, hundred, (0.1, 1e-4, 128))):
        p = resolve("idc", make_real(classes=classes, shape=(3, 33, 33)), per_class=per_class)
        assert (p.epochs, p.cutmix, p.augment) == (epochs, 1.0, "rrc:0.5_flip")
        assert (p.lr, p.weight_decay, p.batch) == rate


def test_fkd(make_real: Make) -> None:
    p = resolve("fkd", make_real())
    assert (p.optimiser, p.lr, p.weight_decay, p.epochs, p.passes, p.batch) == ("adamw", 0.001, 0.01, 300, 300, 1024)
    assert (p.labels, p.temperature, p.cutmix, p.augment) == ("teacher", 20.0, 1.0, "rrc:0.08_flip")
    assert [p.rate(epoch, 0.5) for epoch in (0, 150, 299)] == pytest.approx([0.001, 0.0005, 2.7415e-8], rel=1e-4)
    assert p.select == "last"
    assert resolve("fkd", make_real(name="svhn", classes=TEN)).augment == "rrc:0.08"


def test_rded(make_real: Make) -> None:
    p = resolve("rded", make_real(), per_class=10)
    assert (p.labels, p.temperature, p.cutmix, p.unmixed, p.batch) == ("teacher", 20.0, 1.0, True, 50)
    assert p.augment == "rrc:1_flip"
    assert [p.rate(epoch, 0.5) for epoch in (0, 150, 300)] == pytest.approx([0.001, 0.000853553, 0.0005])
    assert [epoch + 1 for epoch in range(300) if p.looks(epoch)] == [250, 260, 270, 280, 290]  # and the last
    tiles = resolve("rded", make_real(shape=(3, 64, 64)), patches=2)
    assert (tiles.augment, tiles.batch) == ("rrc:0.5_flip_patches2", 10)


@pytest.mark.parametrize(
    ("spec", "lr"),
    [("convnet:depth=4", 0.001), ("vgg11", 0.0005), ("alexnet", 0.0001), ("vit", 0.0001), ("mlp", 0.001)],
)
def test_the_rate_of_rded_is_the_networks(make_real: Make, spec: str, lr: float) -> None:
    net = build(spec, channels=3, size=(32, 32), classes=2)
    assert resolve("rded", make_real(shape=(3, 32, 32)), net=net).lr == lr


def test_the_batch_of_rded_follows_classes(make_real: Make) -> None:
    hundred = make_real(classes=tuple(f"thing {k}" for k in range(100)), shape=(3, 32, 32))
    assert [resolve("rded", hundred, per_class=n).batch for n in (1, 10, 50)] == [20, 100, 200]
    conv3 = build("convnet:width=4", channels=3, size=(32, 32), classes=100)
    for teacher, expected in (("", (0.002, 25)), ("convnet", (0.002, 25)), ("resnet18", (0.001, 100))):
        p = resolve("rded", hundred, net=conv3, per_class=10, teacher=teacher)
        assert (p.lr, p.batch) == expected
    tiny = make_real(classes=tuple(f"thing {k}" for k in range(200)), shape=(3, 64, 64))
    assert resolve("rded", tiny, per_class=50).batch == 100


def test_older_protocols_are_told_as_before(make_real: Make) -> None:
    """Results of single networks are kept under these facts."""
    first = {"epochs", "lr", "momentum", "weight_decay", "batch", "schedule", "augment", "select"}
    first |= {"evaluate_every", "labels"}
    assert all(set(resolve(name, make_real()).facts()) == first for name in ("dc", "dsa-best", "full"))
    told = resolve("rded", make_real()).facts()
    assert set(told) - first == {"optimiser", "cutmix", "looks_after", "temperature", "unmixed"}


def test_the_ranking_is_no_training(make_real: Make) -> None:
    with pytest.raises(UsageError, match="comparison of several"):
        resolve("dd-ranking", make_real())
    with pytest.raises(UsageError, match="did you mean 'dd-ranking'"):
        resolve("dd-rankin", make_real())


@pytest.mark.parametrize("value", [0, 1.5, "2", True])
def test_patches_and_tiles_that_mean_nothing_are_refused(make_real: Make, value: Any) -> None:
    with pytest.raises(UsageError, match=f"patches={value}"):
        resolve("rded", make_real(), patches=value)
    with pytest.raises(UsageError, match=f"tiles={value}"):
        resolve("idc", make_real(), tiles=value)
