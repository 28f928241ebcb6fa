"""Learning rates of the published protocols, as a share of the first one, in an epoch (from 0) of E.

============= ============================================================================= ===========================
drop          1, and a tenth from the epoch with index E // 2 + 2 on                        DC and DSA
cosine        (1 + cos(pi t / E)) / 2, where t counts within an epoch too                   all real examples
steps         1, a fifth from epoch 2 E // 3 on, a twenty-fifth from 5 E // 6 on            IDC
epoch-cosine  (1 + cos(pi e / E)) / 2, one value an epoch                                   SRe2L
half-cosine   (1 + cos(pi e / (2 E))) / 2, one value an epoch: it ends at one half          RDED
============= ============================================================================= ===========================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["drop", "cosine", "steps", "epoch-cosine", "half-cosine"]
Rate = Callable[[int, float, int], float]
"""(epoch, share of it that is over, E) -> share of the first rate."""


def first_low(epochs: int) -> int:
    """The first epoch of ``drop`` at the lower rate."""
    return epochs // 2 + 2


def drop(epoch: int, share: float, epochs: int) -> float:
    """A tenth after a half."""
    return 0.1 if epoch >= first_low(epochs) else 1.0


def cosine(epoch: int, share: float, epochs: int) -> float:
    """To zero, batch by batch."""
    return 0.5 * (1 + math.cos(math.pi * (epoch + share) / epochs))


def steps(epoch: int, share: float, epochs: int) -> float:
    """Times .2 at two thirds and at five sixths."""
    return 0.2 ** ((epoch >= 2 * epochs // 3) + (epoch >= 5 * epochs // 6))


def epoch_cosine(epoch: int, share: float, epochs: int) -> float:
    """To zero, epoch by epoch."""
    return cosine(epoch, 0.0, epochs)


def half_cosine(epoch: int, share: float, epochs: int) -> float:
    """To one half, epoch by epoch."""
    return cosine(epoch, 0.0, 2 * epochs)


RATES: dict[Schedule, Rate] = {
    "drop": drop,
    "cosine": cosine,
    "steps": steps,
    "epoch-cosine": epoch_cosine,
    "half-cosine": half_cosine,
}
