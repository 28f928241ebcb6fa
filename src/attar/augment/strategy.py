"""Which transforms suit a dataset, where the user leaves it open."""

from __future__ import annotations

from collections.abc import Sequence

from attar.augment import siamese


def strategy_for(augment: str, class_names: Sequence[str]) -> str:
    """The siamese strategy that ``augment`` names.

    ``auto`` takes all six operations, without the flip where the classes are written characters (MNIST, SVHN): a mirrored
    digit is another sign. Characters are recognised by class names that are, or begin with, a single letter or digit.

    Raises:
        UsageError: an unknown operation.
    """
    if augment == "auto":
        written = bool(class_names) and all(_character(name) for name in class_names)
        return siamese.COLOR_CROP_CUTOUT_SCALE_ROTATE if written else siamese.COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE
    siamese.parse(augment)
    return augment


def _character(name: str) -> bool:
    """``7``, ``A``, ``7 - seven``, but not ``cat``."""
    head = name.strip()[:2]
    return head[:1].isalnum() and (len(head) == 1 or not head[1].isalnum())
