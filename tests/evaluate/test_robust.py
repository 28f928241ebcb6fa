"""The scores of DD-Ranking at values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from attar.errors import UsageError
from attar.evaluate.robust import augmentation_robust_score, label_robust_score, squeezed

LABEL = {"full_hard": 0.8, "set_hard": 0.5, "set_own": 0.6, "random_own": 0.4}
AUGMENT = {"set_augmented": 0.6, "random_augmented": 0.4, "set_plain": 0.5, "random_plain": 0.45}


def test_a_set_like_random_that_recovers_everything() -> None:
    assert label_robust_score(full_hard=0.5, set_hard=0.5, set_own=0.3, random_own=0.3) == pytest.approx(0.268941421)
    equal = {"set_augmented": 0.3, "random_augmented": 0.3, "set_plain": 0.2, "random_plain": 0.2}
    assert augmentation_robust_score(**equal) == pytest.approx(0.268941421)


def test_label_robust_by_hand() -> None:
    # a = .5 * (.6 - .4) - .5 * (.8 - .5) = -.05; e^-.05 = .951229425; (.951229425 - .367879441) / 2.350402387
    assert label_robust_score(**LABEL) == pytest.approx(0.248191538, abs=1e-8)
    # w = 1: a = .2; e^.2 = 1.221402758.  w = 0: a = -.3; e^-.3 = .740818221
    assert label_robust_score(**LABEL, w=1) == pytest.approx(0.363139232, abs=1e-8)
    assert label_robust_score(**LABEL, w=0) == pytest.approx(0.158670184, abs=1e-8)


def test_augmentation_robust_by_hand() -> None:
    # b = .5 * .2 + .5 * .05 = .125; e^.125 = 1.133148453
    assert augmentation_robust_score(**AUGMENT) == pytest.approx(0.325590638, abs=1e-8)
    # gamma = .2: b = .2 * .2 + .8 * .05 = .08; e^.08 = 1.083287068
    assert augmentation_robust_score(**AUGMENT, gamma=0.2) == pytest.approx(0.304376659, abs=1e-8)


def test_the_ends() -> None:
    assert squeezed(-1) == 0
    assert squeezed(1) == 1
    assert label_robust_score(full_hard=1, set_hard=0, set_own=0, random_own=1) == 0
    best = {"set_augmented": 1, "random_augmented": 0, "set_plain": 1, "random_plain": 0}
    assert augmentation_robust_score(**best) == 1


@pytest.mark.parametrize(
    "wrong", [{"full_hard": 80}, {"set_own": 1.01}, {"random_own": -0.1}, {"w": 2}, {"set_hard": float("nan")}]
)
def test_percent_and_nonsense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}=.*divide percent by 100"):
        label_robust_score(**{**LABEL, **wrong})


@pytest.mark.parametrize("wrong", [{"set_plain": 50.0}, {"gamma": -1}])
def test_percent_are_refused_in_the_other_score_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}="):
        augmentation_robust_score(**{**AUGMENT, **wrong})
