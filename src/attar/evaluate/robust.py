"""The two scores of DD-Ranking: how much of an accuracy belongs to the images, and not to their labels or augmentation.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025. With accuracies as fractions:

    HLR   = full, hard labels - set, hard labels                                      hard-label recovery, lower is better
    IOR   = set - random examples, both as the method trains                          improvement over random
    LRS   = squeezed(w IOR - (1 - w) HLR)                                             label-robust score
    ARS   = squeezed(g (set - random, augmented) + (1 - g) (set - random, plain))     augmentation-robust score
    squeezed(a) = (e^a - e^-1) / (e - e^-1)

Both lie in [0, 1]; a set no better than random whose hard labels recover everything has LRS .2689. Differs from the official
code, which puts percent into the exponent: these functions refuse them.
"""

from __future__ import annotations

import math

from attar.errors import UsageError


def label_robust_score(
    *, full_hard: float, set_hard: float, set_own: float, random_own: float, w: float = 0.5
) -> float:
    """LRS.

    Args:
        full_hard: accuracy of all real examples, with hard labels. set_hard: of the small set, with hard labels.
        set_own, random_own: of the set and of random examples, with the labels and augmentation of the method.
        w: weight of the improvement over random.

    Raises:
        UsageError: an accuracy or weight outside [0, 1], as percent are.
    """
    check(full_hard=full_hard, set_hard=set_hard, set_own=set_own, random_own=random_own, w=w)
    return squeezed(w * (set_own - random_own) - (1 - w) * (full_hard - set_hard))


def augmentation_robust_score(
    *,
    set_augmented: float,
    random_augmented: float,
    set_plain: float,
    random_plain: float,
    gamma: float = 0.5,
) -> float:
    """ARS.

    Args:
        set_augmented, random_augmented: accuracies under the augmentation. set_plain, random_plain: without it.
        gamma: weight of the accuracies under augmentation.

    Raises:
        UsageError: an accuracy or weight outside [0, 1], as percent are.
    """
    check(
        set_augmented=set_augmented,
        random_augmented=random_augmented,
        set_plain=set_plain,
        random_plain=random_plain,
        gamma=gamma,
    )
    return squeezed(gamma * (set_augmented - random_augmented) + (1 - gamma) * (set_plain - random_plain))


def squeezed(a: float) -> float:
    """[-1, 1] -> [0, 1], rising ever faster."""
    return (math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1))


def check(**fractions: float) -> None:
    """Refuses what is no fraction."""
    for name, value in fractions.items():
        if not 0 <= value <= 1:
            raise UsageError(f"{name}={value} is no fraction in [0, 1]; divide percent by 100")
