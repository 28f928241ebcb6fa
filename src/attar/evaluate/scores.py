"""What several networks' accuracies say together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from scipy.special import stdtrit

LEVEL = 0.95
"""Confidence of the interval."""


def summary(accuracies: Sequence[float]) -> dict[str, Any]:
    """Mean, spread and interval of the accuracies of networks that differ by their seed.

    interval = mean -+ t(n - 1, .975) * std / sqrt(n), cut off at 0 and 1

    Args:
        accuracies: n >= 1 fractions.

    Returns:
        last_mean; last_std (n - 1 in the denominator, 0 for one network); interval [low, high] that holds the mean over
        all seeds with 95 % confidence (Student's t), None for one network; accuracies.
    """
    n, mean = len(accuracies), statistics.fmean(accuracies)
    if n == 1:
        return {"last_mean": mean, "last_std": 0.0, "interval": None, "accuracies": list(accuracies)}
    std = statistics.stdev(accuracies)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * std / n**0.5
    interval = [max(0.0, mean - half), min(1.0, mean + half)]
    return {"last_mean": mean, "last_std": std, "interval": interval, "accuracies": list(accuracies)}
