"""Which transforms suit a dataset, where the user leaves it open; the one place that says what is a written character."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attar.augment import siamese

if TYPE_CHECKING:
    from attar.real.realset import RealSet


def strategy_for(augment: str, real: RealSet, *, auto: str = siamese.COLOR_CROP_CUTOUT_FLIP_SCALE_ROTATE) -> str:
    """The siamese strategy that ``augment`` names.

    Args:
        auto: what ``auto`` stands for; it goes without the flip where classes are :func:`written`.

    Raises:
        UsageError: an unknown operation.
    """
    if augment != "auto":
        siamese.parse(augment)
        return augment
    return "_".join(op for op in siamese.parse(auto) if op != "flip" or not written(real))


def written(real: RealSet) -> bool:
    """Whether the classes are written characters (MNIST, SVHN), which a mirror would spoil: a mirrored digit is another sign.

    They are recognised by the name of the source, or by class names that are, or begin with, a single letter or digit. Numbers
    alone say little, as sources without class names have them too: of grey images they are taken for digits, as a mirror would
    spoil those, and of coloured ones for photographs.
    """
    name = real.name.lower()
    if "fashion" in name or "cifar" in name:
        return False
    if any(word in name for word in ("mnist", "svhn", "digit", "letter", "character")):
        return True
    if not real.class_names or not all(_character(name) for name in real.class_names):
        return False
    return real.shape[0] == 1 or not all(name.isdecimal() for name in real.class_names)


def _character(name: str) -> bool:
    """``7``, ``A``, ``7 - seven``, but not ``cat``."""
    head = name.strip()[:2]
    return head[:1].isalnum() and (len(head) == 1 or not head[1].isalnum())
