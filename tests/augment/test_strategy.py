"""Which transforms ``auto`` takes: distillation, experts, teachers and evaluation ask one function what is a digit."""

from __future__ import annotations

import dataclasses

import pytest

from attar.augment.siamese import COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE, COLOR_CROP_CUTOUT_SCALE_ROTATE
from attar.augment.strategy import strategy_for, written
from attar.errors import UsageError
from attar.evaluate.presets import resolve
from attar.real.realset import RealSet
from attar.testing.toys import toy


def named(name: str, *classes: str) -> RealSet:
    return dataclasses.replace(toy((2,) * len(classes)), name=name, class_names=classes)


@pytest.mark.parametrize(
    ("name", "classes", "signs"),
    [
        ("photos", ("cat", "dog"), False),
        ("photos", ("0", "1"), True),
        ("photos", ("a", "b - bee"), True),
        ("photos", ("1", "dog"), False),
        ("fashion", ("0", "1"), False),
        ("cifar10", ("0", "1"), False),
        ("mnist", ("zero", "one"), True),
        ("my-SVHN", ("zero", "one"), True),
        ("fashion_mnist", ("dress", "hat"), False),
    ],
)
def test_distillation_and_evaluation_agree_on_digits(name: str, classes: tuple[str, ...], signs: bool) -> None:
    real = named(name, *classes)
    wanted = COLOR_CROP_CUTOUT_SCALE_ROTATE if signs else COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE
    assert written(real) == signs and strategy_for("auto", real) == wanted
    assert resolve("dsa", real).augment == f"dsa:{wanted}"


@pytest.mark.parametrize(
    ("name", "classes", "signs"),
    [
        ("arrays", ("0", "1"), False),  # CIFAR-10 as arrays: its classes have no names
        ("arrays", ("7 - seven", "8 - eight"), True),
        ("plates", ("A", "B"), True),
        ("my-digits", ("0", "1"), True),
        ("SVHN", ("0", "1"), True),
    ],
)
def test_numbers_of_coloured_images_are_no_names(name: str, classes: tuple[str, ...], signs: bool) -> None:
    grey = named(name, *classes)
    assert grey.images is not None
    coloured = dataclasses.replace(grey, images=grey.images[:, :1].repeat(1, 3, 1, 1), mean=(0.5,) * 3, std=(0.2,) * 3)
    assert written(coloured) == signs


def test_what_is_asked_for_is_taken_and_another_auto_goes_without_the_flip_too() -> None:
    digits, photos = named("x", "0", "1"), named("x", "cat", "dog")
    assert strategy_for("flip_crop", digits) == "flip_crop"
    assert strategy_for("auto", digits, auto="crop_flip") == "crop"
    assert strategy_for("auto", photos, auto="crop_flip") == "crop_flip"
    with pytest.raises(UsageError, match="did you mean 'flip'"):
        strategy_for("flop", photos)
