"""The digits set that comes with scikit-learn: 1,797 grey images of 8x8, ten classes; for tests and first steps."""

from __future__ import annotations

import numpy as np


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [1797, 8, 8] and labels int64 [1797].

    The source counts 0..16 dots per pixel; they are scaled by round(v * 255 / 16).
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return np.rint(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), y.astype(np.int64)  # [N, 64] -> [N, H, W]
