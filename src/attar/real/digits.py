"""The digits set that comes with scikit-learn: 1,797 grey images of 8x8, ten classes; for tests and first steps."""

from __future__ import annotations

import numpy as np

from attar.real import arrays
from attar.real.source import Opening, Part, Source


def source() -> Source:
    """The set as a source of one split."""
    return Source(reader="digits", name="digits", path="digits", splits={"train": Opening(open=_part)})


def _part() -> Part:
    """Images uint8 [1797, 8, 8] and labels int64 [1797].

    The source counts 0..16 dots per pixel; they are scaled by round(v * 255 / 16).
    """
    from sklearn.datasets import load_digits

    x, y = (np.asarray(a) for a in load_digits(return_X_y=True))
    pixels = np.rint(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # [N, 64] -> [N, H, W]
    names = tuple(str(k) for k in range(10))
    return arrays.part(pixels, y.astype(np.int64), names=names, x_name="digits", y_name="labels")
